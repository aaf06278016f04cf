/*
 * libsockst: the client's side of TRANSPARENT and of the classic commands (N1.md).
 *
 * Three layers, each usable without the one above it; no globals, no threads, no signals:
 *
 *   sockst_session      bytes in, bytes out: methods, authentication, one request, its reply (BIND:
 *                       both replies). Does no I/O at all.
 *   sockst_association  a control connection (N1), a data socket, and the session between them,
 *                       driven by the caller's poll(): never blocks.
 *   sockst_associate()  the same, blocking, with a time-out.
 *
 * TRANSPARENT and UDP ASSOCIATE have a data socket beside N1: the relay lives as long as N1 does.
 * Keep the handle until the server has closed N1 (sockst_association_is_alive() turns false) or
 * SOCKST_LINGER_MS after the data socket has ended both ways; otherwise the tail of an upload may
 * be cut (N1-END-030). With CONNECT and BIND, N1 itself becomes the data socket.
 */
#ifndef SOCKST_CLIENT_SOCKST_H
#define SOCKST_CLIENT_SOCKST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/n1.h"

#define SOCKST_PORT 1080
#define SOCKST_LINGER_MS 5000
#define SOCKST_PROXY_ADDRESSES_MAX 8
#define SOCKST_FAILURE_TEXT_MAX 255

enum sockst_status {
    SOCKST_RUNNING, /* send what there is to send, give it what was received */
    SOCKST_BOUND,   /* BIND: as RUNNING; the first reply told BND, and the peer is waited for */
    SOCKST_DONE,
    SOCKST_FAILED,
};

enum sockst_error {
    SOCKST_E_NONE = 0,
    SOCKST_E_PROXY,    /* the proxy cannot be reached: name, connect(), loss of the connection */
    SOCKST_E_TIMEOUT,  /* sockst_association_expire() while the proxy was waited for */
    SOCKST_E_METHOD,   /* no acceptable method */
    SOCKST_E_AUTH,     /* user name and password were refused */
    SOCKST_E_REPLY,    /* the request was refused: sockst_failure.reply */
    SOCKST_E_PROTOCOL, /* the server sent what no SOCKS 5 server may send */
    SOCKST_E_CLOSED,   /* the server closed N1 before its answer was complete */
    SOCKST_E_DATA,     /* the data path: socket, bind(), connect() to BND; BIND: nobody came */
    SOCKST_E_LOCAL,    /* out of memory or descriptors, or options that cannot be sent */
};

struct sockst_failure {
    enum sockst_error error;
    uint8_t reply;                          /* SOCKST_E_REPLY: the code, never 0 */
    char text[SOCKST_FAILURE_TEXT_MAX + 1]; /* one line without a final stop */
};

/* ---- where the proxy is
 * ------------------------------------------------------------------------------------------------
 */

struct sockst_proxy {
    char host[N1_NAME_MAX + 1]; /* name or numeric address, without brackets */
    uint16_t port;
    bool has_user;
    struct n1_userpass userpass; /* if has_user */
};

/*
 * Parses socks5t://[USER[:PASSWORD]@]HOST[:PORT] (percent-encoding in USER and PASSWORD; IPv6
 * addresses in brackets; port 1080 when absent). Returns 0, or -EINVAL with *why naming the problem
 * (static).
 */
int sockst_proxy_parse(const char *url, struct sockst_proxy *out, const char **why);

/*
 * Looks the proxy's host up (blocks; getaddrinfo()). Returns how many endpoints were written, at
 * most `max`, or -1 with *failure set.
 */
int sockst_proxy_resolve(const struct sockst_proxy *proxy, struct endpoint *out, size_t max,
                         struct sockst_failure *failure);

/* ---- the session: bytes in, bytes out
 * ---------------------------------------------------------------------------------- */

struct sockst_session;

struct sockst_ask {
    struct n1_methods methods;          /* what to offer; USERPASS needs `userpass` */
    const struct n1_userpass *userpass; /* copied; may be NULL */
    const struct n1_request *request;   /* copied; NULL: done when the server has chosen a method */
    bool in_step; /* send no message before the last was answered: many a server that does not know
                     TRANSPARENT takes what one read() gives for one message */
};

/*
 * Returns 0, -EINVAL when the question cannot be encoded, or -ENOMEM. When NO AUTHENTICATION is all
 * that is offered, and not in_step, the request is sent together with the method list: one round
 * trip.
 */
int sockst_session_new(struct sockst_session **out, const struct sockst_ask *ask);
/* Wipes and releases. NULL is allowed. */
void sockst_session_free(struct sockst_session *session);

/* What is to be sent now: *data is valid until the next call. Returns its octets, 0 for nothing. */
size_t sockst_session_output(const struct sockst_session *session, const uint8_t **data);
/* The first `count` octets of the output were sent. */
void sockst_session_sent(struct sockst_session *session, size_t count);
/* What was received. *taken (may be NULL unless it is BIND): how much of it belongs to the session;
 * the rest follows the last reply, or BIND's first one: give that again. */
enum sockst_status sockst_session_receive(struct sockst_session *session, const uint8_t *data,
                                          size_t length, size_t *taken);
/* The server has closed its side. */
enum sockst_status sockst_session_end(struct sockst_session *session);

enum sockst_status sockst_session_status(const struct sockst_session *session);
/* The method that the server chose; N1_METHOD_UNACCEPTABLE before that. */
uint8_t sockst_session_method(const struct sockst_session *session);
/* The last reply that came: complete when bound, done, or failed with SOCKST_E_REPLY. */
const struct n1_reply *sockst_session_reply(const struct sockst_session *session);
/* Why it failed. */
const struct sockst_failure *sockst_session_failure(const struct sockst_session *session);

/* ---- the association: sockets, driven by the caller's loop
 * ------------------------------------------------------------- */

struct sockst_association;

struct sockst_options {
    const struct endpoint *proxies;     /* tried in order; copied */
    size_t proxy_count;                 /* 1 … SOCKST_PROXY_ADDRESSES_MAX */
    const struct n1_userpass *userpass; /* NULL: NO AUTHENTICATION alone is offered */
    uint8_t command;                    /* enum n1_command; 0: TRANSPARENT */
    uint8_t ptcl;               /* PTCL_TCP or PTCL_UDP: for the classic commands what they imply */
    struct n1_host destination; /* BIND: whose connection is expected; 0.0.0.0: anybody's */
};

/* Begins to connect. Returns 0, -EINVAL or -ENOMEM; everything else shows later as SOCKST_FAILED.
 */
int sockst_association_start(struct sockst_association **out, const struct sockst_options *options);
/* Closes both descriptors and releases. NULL is allowed. */
void sockst_association_close(struct sockst_association *association);

/* Goes as far as it can without blocking. SOCKST_DONE: the data socket is connected to BND
 * (CONNECT, BIND: to the destination, by way of the server). */
enum sockst_status sockst_association_advance(struct sockst_association *association);
/* What to wait for before the next advance(): descriptors (-1: none) and POLLIN | POLLOUT. They may
 * change with each advance(). */
void sockst_association_wants(const struct sockst_association *association, int *control_fd,
                              short *control_events, int *data_fd, short *data_events);
/* The caller's time is up: SOCKST_FAILED, saying what was waited for; SOCKST_E_TIMEOUT, or
 * SOCKST_E_DATA when it was BND. */
void sockst_association_expire(struct sockst_association *association);
/* Advances with poll() until done, failed or expired; BIND: or bound, and in a second call on from
 * there. */
enum sockst_status sockst_association_run(struct sockst_association *association,
                                          uint32_t timeout_ms);

const struct sockst_failure *
sockst_association_failure(const struct sockst_association *association);

/* N1 and the data socket, both non-blocking and owned by the association; -1 when there is none.
 * CONNECT and BIND, when done: the data socket is what N1 was, and N1 is -1. */
int sockst_association_control_fd(const struct sockst_association *association);
int sockst_association_data_fd(const struct sockst_association *association);
/* S (CONNECT, BIND: our end of N1) and BND, and the proxy's endpoint that answered. Valid when
 * done, BND also when bound. With CONNECT, BND is what the server says the destination sees:
 * nothing was checked, and it is absent (IP_NONE) when the server gave a name. */
const struct endpoint *sockst_association_source(const struct sockst_association *association);
const struct endpoint *sockst_association_bound(const struct sockst_association *association);
const struct endpoint *sockst_association_proxy(const struct sockst_association *association);
/* BIND, when done: who has connected, as the server says. */
const struct endpoint *sockst_association_peer(const struct sockst_association *association);
/* Reads N1 without blocking and discards what comes. False once the server has closed it (or it
 * broke). */
bool sockst_association_is_alive(struct sockst_association *association);

/*
 * UDP, when done: one datagram to the destination, and one from it; the header of UDP ASSOCIATE is
 * put in front, and taken off. As send() and recv() with MSG_DONTWAIT: -1 with errno. A datagram
 * that is no answer of the destination (a malformed header, a fragment, another sender) is dropped
 * and shows as EAGAIN; so does one that is longer than `size`.
 */
ssize_t sockst_association_send(struct sockst_association *association, const void *data,
                                size_t length);
ssize_t sockst_association_receive(struct sockst_association *association, void *data, size_t size);

/* ---- all at once, blocking
 * ------------------------------------------------------------------------------------------------
 */

/* Returns 0 with *out connected (BIND: bound; sockst_association_run() waits for the peer), or -1
 * with *failure set and *out NULL. */
int sockst_associate(struct sockst_association **out, const struct sockst_options *options,
                     uint32_t timeout_ms, struct sockst_failure *failure);

/* ---- small
 * ----------------------------------------------------------------------------------------------------------------
 */

/* The failure of a system call in words. Returns -1. */
int sockst_fail(struct sockst_failure *failure, enum sockst_error error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
