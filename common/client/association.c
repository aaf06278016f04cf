/*
 * One association: control connection, data socket, and the session between them.
 *
 *   CONNECTING ── N1 stands ──▶ NEGOTIATING ── reply 00 ──▶ JOINING ── data socket connected ──▶
 * READY │  ⟲ next address of the proxy   │  │                     │ │ │  ├── CONNECT, reply 00
 * ┼──────────────────────────────▶ READY │                                │  └── BIND, reply 00 ──▶
 * BOUND ── second reply 00 ─────▶ READY └────────────────────────────────┴──── failure
 * ───────────┴──▶ FAILED
 *
 * TRANSPARENT and UDP ASSOCIATE: the data socket is made when N1 stands, bound to N1's local
 * address, so that S is what the server sees as our address. CONNECT and BIND: N1 becomes the data
 * socket, so not an octet behind the last reply is read from it here.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client/datagram.h"
#include "common/client/net.h"
#include "common/client/sockst.h"
#include "proto/ptcl.h"

#define READS_MAX 16 /* of N1, each time its end is looked for */

enum state { ST_CONNECTING, ST_NEGOTIATING, ST_BOUND, ST_JOINING, ST_READY, ST_FAILED };

struct sockst_association {
    enum state state;
    struct endpoint proxies[SOCKST_PROXY_ADDRESSES_MAX];
    size_t proxy_count, proxy; /* which one is in use */
    bool has_userpass;
    struct n1_userpass userpass;
    uint8_t command, ptcl;
    struct n1_host destination;
    int control, data;
    struct endpoint source, bound, peer;
    struct sockst_session *session;
    struct datagram_form form; /* UDP */
    struct sockst_failure failure;
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static enum sockst_status status_of(const struct sockst_association *association)
{
    switch (association->state) {
    case ST_READY:
        return SOCKST_DONE;
    case ST_FAILED:
        return SOCKST_FAILED;
    case ST_BOUND:
        return SOCKST_BOUND;
    default:
        return SOCKST_RUNNING;
    }
}

/* The data travels in N1. */
static bool is_in_band(const struct sockst_association *association)
{
    return association->command == N1_CMD_CONNECT || association->command == N1_CMD_BIND;
}

/* association->failure is set. */
static void set_failed(struct sockst_association *association)
{
    association->state = ST_FAILED;
    close_fd(&association->control);
    close_fd(&association->data);
}

static const char *endpoint_text(const struct endpoint *endpoint, char text[ENDPOINT_TEXT_MAX])
{
    return endpoint_format(endpoint, text, ENDPOINT_TEXT_MAX);
}

static void fail_proxy(struct sockst_association *association, int error)
{
    char text[ENDPOINT_TEXT_MAX];
    sockst_fail(&association->failure, SOCKST_E_PROXY, "proxy %s: %s",
                endpoint_text(&association->proxies[association->proxy], text), strerror(-error));
    set_failed(association);
}

static void fail_data(struct sockst_association *association, const struct endpoint *where,
                      int error)
{
    char text[ENDPOINT_TEXT_MAX];
    sockst_fail(&association->failure, SOCKST_E_DATA, "data path, %s: %s",
                endpoint_text(where, text), strerror(-error));
    set_failed(association);
}

/* Begins with association->proxy; goes on to the next address while connect() fails at once. */
static void connect_proxy(struct sockst_association *association)
{
    int on = 1;
    for (;; association->proxy++) {
        const struct endpoint *proxy = &association->proxies[association->proxy];
        bool last = association->proxy + 1 == association->proxy_count;
        int af = proxy->address.family == IP_V6 ? AF_INET6 : AF_INET;
        int error = 0;
        association->control = socket(af, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (association->control < 0)
            error = -errno;
        else
            error = net_connect(association->control, proxy);
        if (error == 0) {
            setsockopt(association->control, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
            return;
        }
        close_fd(&association->control);
        if (last) {
            fail_proxy(association, error);
            return;
        }
    }
}

static bool is_served(uint8_t command, uint8_t ptcl)
{
    switch (command) {
    case N1_CMD_CONNECT:
    case N1_CMD_BIND:
        return ptcl == PTCL_TCP;
    case N1_CMD_UDP_ASSOCIATE:
        return ptcl == PTCL_UDP;
    case N1_CMD_TRANSPARENT:
        return ptcl == PTCL_TCP || ptcl == PTCL_UDP;
    default:
        return false;
    }
}

int sockst_association_start(struct sockst_association **out, const struct sockst_options *options)
{
    uint8_t command = options->command != 0 ? options->command : N1_CMD_TRANSPARENT;
    if (options->proxy_count == 0 || options->proxy_count > SOCKST_PROXY_ADDRESSES_MAX ||
        !is_served(command, options->ptcl))
        return -EINVAL;
    struct sockst_association *association = calloc(1, sizeof(*association));
    if (association == NULL)
        return -ENOMEM;
    memcpy(association->proxies, options->proxies,
           options->proxy_count * sizeof(options->proxies[0]));
    association->proxy_count = options->proxy_count;
    association->command = command;
    association->ptcl = options->ptcl;
    association->destination = options->destination;
    if (options->userpass != NULL) {
        association->has_userpass = true;
        association->userpass = *options->userpass;
    }
    association->control = association->data = -1;
    connect_proxy(association);
    *out = association;
    return 0;
}

void sockst_association_close(struct sockst_association *association)
{
    if (association == NULL)
        return;
    sockst_session_free(association->session);
    /* The data socket first: its FIN is on the way before the relay's end is ordered. */
    close_fd(&association->data);
    close_fd(&association->control);
    explicit_bzero(&association->userpass, sizeof(association->userpass));
    free(association);
}

static void bind_data(struct sockst_association *association)
{
    struct endpoint local = {0};
    int error = net_local(association->control, &local);
    association->source = local;
    if (error == 0 && !is_in_band(association)) {
        local.port = 0;
        association->data = net_bound_socket(association->ptcl, &local);
        error = association->data < 0 ? association->data
                                      : net_local(association->data, &association->source);
    }
    if (error < 0)
        fail_data(association, &local, error);
}

static struct n1_request request_of(const struct sockst_association *association)
{
    struct n1_request request = {.command = association->command,
                                 .destination = association->destination};
    struct endpoint unknown = {.address = association->source.address};
    switch (association->command) {
    case N1_CMD_TRANSPARENT:
        request.ptcl = association->ptcl;
        request.source = n1_host_from_endpoint(&association->source);
        break;
    case N1_CMD_UDP_ASSOCIATE:
        /* The server sees where we send from; behind a translation we do not know it, and a server
         * that takes our word for it would wait for somebody else. */
        memset(unknown.address.bytes, 0, sizeof(unknown.address.bytes));
        unknown.address.scope_id = 0;
        request.destination = n1_host_from_endpoint(&unknown);
        break;
    default:
        break;
    }
    return request;
}

static void begin_negotiation(struct sockst_association *association)
{
    bind_data(association);
    if (association->state == ST_FAILED)
        return;
    struct n1_request request = request_of(association);
    struct sockst_ask ask = {.methods = {.count = 1, .methods = {N1_METHOD_NONE}},
                             .request = &request,
                             .in_step = association->command != N1_CMD_TRANSPARENT};
    if (association->has_userpass) {
        ask.methods = (struct n1_methods){2, {N1_METHOD_NONE, N1_METHOD_USERPASS}};
        ask.userpass = &association->userpass;
    }
    int error = sockst_session_new(&association->session, &ask);
    if (error < 0) {
        sockst_fail(&association->failure, SOCKST_E_LOCAL, "the request cannot be sent: %s",
                    strerror(-error));
        set_failed(association);
        return;
    }
    association->state = ST_NEGOTIATING;
}

static void check_connected(struct sockst_association *association)
{
    int connected = net_connected(association->control);
    if (connected > 0) {
        begin_negotiation(association);
    } else if (connected < 0) {
        if (association->proxy + 1 == association->proxy_count) {
            fail_proxy(association, connected);
            return;
        }
        close_fd(&association->control);
        association->proxy++;
        connect_proxy(association);
    }
}

/* The reply's address: absent when the server gave a name. */
static struct endpoint told(const struct sockst_association *association)
{
    const struct n1_host *host = &sockst_session_reply(association->session)->bound;
    struct endpoint endpoint = {.address = host->address, .port = host->port};
    if (ip_address_is_unspecified(&endpoint.address))
        endpoint.address = association->proxies[association->proxy].address;
    return endpoint;
}

/* BND as an endpoint that the data socket can be connected to. */
static bool take_bound(struct sockst_association *association)
{
    struct endpoint bound = told(association);
    if (bound.address.family != association->source.address.family || bound.port == 0) {
        sockst_fail(&association->failure, SOCKST_E_PROTOCOL,
                    "the server's BND is no address of the data socket's family with a port");
        return false;
    }
    if (ip_address_is_link_local_v6(&bound.address))
        bound.address.scope_id = association->source.address.scope_id;
    association->bound = bound;
    return true;
}

static void join(struct sockst_association *association)
{
    if (!take_bound(association)) {
        set_failed(association);
        return;
    }
    int error = net_connect(association->data, &association->bound);
    if (error < 0)
        fail_data(association, &association->bound, error);
    else
        association->state = ST_JOINING;
}

/* Sends what there is. An error is not judged here: the server's answer may be waiting to be read.
 */
static bool send_output(struct sockst_association *association)
{
    const uint8_t *data;
    size_t length;
    while ((length = sockst_session_output(association->session, &data)) != 0) {
        ssize_t sent = send(association->control, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0)
            return false;
        sockst_session_sent(association->session, (size_t)sent);
    }
    return true;
}

/* Gives the session what has come; what is behind its last reply stays in the socket. As recv(). */
static ssize_t receive_input(struct sockst_association *association)
{
    uint8_t buffer[N1_REPLY_MAX];
    size_t taken;
    ssize_t got = recv(association->control, buffer, sizeof(buffer), MSG_DONTWAIT | MSG_PEEK);
    if (got <= 0)
        return got;
    sockst_session_receive(association->session, buffer, (size_t)got, &taken);
    (void)recv(association->control, buffer, taken, MSG_DONTWAIT); /* it is there */
    return got;
}

static void become_data(struct sockst_association *association)
{
    int on = 1;
    setsockopt(association->control, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    association->data = association->control;
    association->control = -1;
    association->state = ST_READY;
}

static void set_granted(struct sockst_association *association)
{
    switch (association->command) {
    case N1_CMD_CONNECT:
        association->bound = told(association);
        become_data(association);
        break;
    case N1_CMD_BIND:
        association->peer = told(association);
        become_data(association);
        break;
    default:
        datagram_form(&association->form, association->command, &association->destination);
        join(association);
        break;
    }
}

/* BIND's first reply. Without an address and port there is nothing that the peer could be told. */
static void set_bound(struct sockst_association *association)
{
    association->bound = told(association);
    association->state = ST_BOUND;
    if (association->bound.address.family == IP_NONE || association->bound.port == 0) {
        sockst_fail(&association->failure, SOCKST_E_PROTOCOL,
                    "the server's BND is no address with a port");
        set_failed(association);
    }
}

static void negotiate(struct sockst_association *association)
{
    enum sockst_status status = sockst_session_status(association->session);
    send_output(association);
    while (status == SOCKST_RUNNING || status == SOCKST_BOUND) {
        ssize_t got = receive_input(association);
        if (got > 0) {
            status = sockst_session_status(association->session);
            send_output(association);
            if (status == SOCKST_BOUND && association->state == ST_NEGOTIATING) {
                set_bound(association);
                return;
            }
        } else if (got == 0) {
            status = sockst_session_end(association->session);
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR) {
            fail_proxy(association, -errno);
            return;
        }
    }
    if (status == SOCKST_DONE) {
        set_granted(association);
        return;
    }
    association->failure = *sockst_session_failure(association->session);
    set_failed(association);
}

const struct endpoint *sockst_association_peer(const struct sockst_association *association)
{
    return &association->peer;
}

bool sockst_association_is_alive(struct sockst_association *association)
{
    uint8_t discarded[4096];
    if (association->control < 0)
        return false;
    /* Bounded: a server that never stops talking does not keep us here. */
    for (int i = 0; i < READS_MAX; i++) {
        ssize_t got = recv(association->control, discarded, sizeof(discarded), MSG_DONTWAIT);
        if (got == 0)
            return false;
        if (got < 0 && errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK;
    }
    return true;
}

static void check_joined(struct sockst_association *association)
{
    int connected = net_connected(association->data);
    if (connected > 0) {
        association->state = ST_READY;
    } else if (connected < 0) {
        fail_data(association, &association->bound, connected);
    } else if (!sockst_association_is_alive(association)) {
        sockst_fail(&association->failure, SOCKST_E_CLOSED,
                    "the server ended the association before the data connection stood");
        set_failed(association);
    }
}

enum sockst_status sockst_association_advance(struct sockst_association *association)
{
    if (association->state == ST_CONNECTING)
        check_connected(association);
    if (association->state == ST_NEGOTIATING || association->state == ST_BOUND)
        negotiate(association);
    if (association->state == ST_JOINING)
        check_joined(association);
    return status_of(association);
}

void sockst_association_wants(const struct sockst_association *association, int *control_fd,
                              short *control_events, int *data_fd, short *data_events)
{
    const uint8_t *data;
    *control_fd = association->control;
    *data_fd = -1;
    *control_events = *data_events = 0;
    switch (association->state) {
    case ST_CONNECTING:
        *control_events = POLLOUT;
        break;
    case ST_NEGOTIATING:
        *control_events = POLLIN;
        if (sockst_session_output(association->session, &data) != 0)
            *control_events = POLLIN | POLLOUT;
        break;
    case ST_BOUND:
        *control_events = POLLIN;
        break;
    case ST_JOINING:
        *control_events = POLLIN;
        *data_fd = association->data;
        *data_events = POLLOUT;
        break;
    case ST_READY:
    case ST_FAILED:
        *control_fd = -1;
        break;
    }
}

void sockst_association_expire(struct sockst_association *association)
{
    char text[ENDPOINT_TEXT_MAX];
    endpoint_text(&association->proxies[association->proxy], text);
    switch (association->state) {
    case ST_CONNECTING:
        sockst_fail(&association->failure, SOCKST_E_TIMEOUT, "proxy %s: no connection in time",
                    text);
        break;
    case ST_NEGOTIATING:
        sockst_fail(&association->failure, SOCKST_E_TIMEOUT, "proxy %s: no answer in time", text);
        break;
    case ST_BOUND:
        sockst_fail(&association->failure, SOCKST_E_DATA, "%s: nobody connected in time",
                    endpoint_text(&association->bound, text));
        break;
    case ST_JOINING:
        endpoint_text(&association->bound, text);
        sockst_fail(&association->failure, SOCKST_E_DATA, "data path, %s: no connection in time",
                    text);
        break;
    case ST_READY:
    case ST_FAILED:
        return;
    }
    set_failed(association);
}

enum sockst_status sockst_association_run(struct sockst_association *association,
                                          uint32_t timeout_ms)
{
    uint64_t deadline = net_now_ms() + timeout_ms;
    bool was_bound = association->state == ST_BOUND;
    enum sockst_status status;
    while ((status = sockst_association_advance(association)) == SOCKST_RUNNING ||
           (status == SOCKST_BOUND && was_bound)) {
        struct pollfd fds[2];
        uint64_t now = net_now_ms();
        sockst_association_wants(association, &fds[0].fd, &fds[0].events, &fds[1].fd,
                                 &fds[1].events);
        if (now < deadline)
            poll(fds, 2, (int)(deadline - now));
        else
            sockst_association_expire(association);
    }
    return status;
}

const struct sockst_failure *
sockst_association_failure(const struct sockst_association *association)
{
    return &association->failure;
}

int sockst_association_control_fd(const struct sockst_association *association)
{
    return association->control;
}

int sockst_association_data_fd(const struct sockst_association *association)
{
    return association->data;
}

const struct endpoint *sockst_association_source(const struct sockst_association *association)
{
    return &association->source;
}

const struct endpoint *sockst_association_bound(const struct sockst_association *association)
{
    return &association->bound;
}

const struct endpoint *sockst_association_proxy(const struct sockst_association *association)
{
    return &association->proxies[association->proxy];
}

ssize_t sockst_association_send(struct sockst_association *association, const void *data,
                                size_t length)
{
    return datagram_send(&association->form, association->data, data, length);
}

ssize_t sockst_association_receive(struct sockst_association *association, void *data, size_t size)
{
    return datagram_receive(&association->form, association->data, data, size);
}

int sockst_associate(struct sockst_association **out, const struct sockst_options *options,
                     uint32_t timeout_ms, struct sockst_failure *failure)
{
    struct sockst_association *association = NULL;
    *out = NULL;
    int error = sockst_association_start(&association, options);
    if (error < 0)
        return sockst_fail(failure, SOCKST_E_LOCAL, "the association cannot be started: %s",
                           strerror(-error));
    if (sockst_association_run(association, timeout_ms) == SOCKST_FAILED) {
        *failure = association->failure;
        sockst_association_close(association);
        return -1;
    }
    *out = association;
    return 0;
}
