/*
 * One N2 connection after connect() or accept(): Hello and HelloAck, Ping and Pong with a deadline,
 * transactions. The part of N2 that is the same on both sides; what a message means is the owner's
 * business.
 *
 *     NEW ── Hello / HelloAck with our major ──▶ UP ── EOF, bad frame, other major, missed deadline
 * ──▶ DOWN
 *
 * Nothing is delivered before UP. ops->down is called exactly once, also when the link never came
 * up, except after n2_link_close(). Every transaction in flight is completed with NULL before
 * ops->down.
 */
#ifndef SOCKST_COMMON_IPC_N2_LINK_H
#define SOCKST_COMMON_IPC_N2_LINK_H

#include <uv.h>

#include "proto/n2.h"

struct n2_link;

enum n2_role { N2_ROLE_SOCKSD, N2_ROLE_RELAYD }; /* socksd sends Hello, relayd answers HelloAck */

struct n2_link_config {
    enum n2_role role;
    struct n2_hello hello;                  /* what we say of ourselves */
    uint32_t hello_deadline_ms;             /* default 5000 */
    uint32_t ping_interval_ms;              /* default 10000 */
    uint32_t ping_deadline_ms;              /* default 30000 without anything from the peer */
    size_t high_mark, low_mark, max_queued; /* octets; defaults 256 KiB, 64 KiB, 8 MiB */
    uint32_t max_transactions;              /* default 65536 */
};

struct n2_link_ops {
    void (*up)(struct n2_link *link, const struct n2_hello *peer, void *user);
    /*
     * A message that is not the answer to one of our transactions. `fd` is -1 or now the callee's.
     * An answer whose transaction is unknown (it was cancelled or timed out) comes here too, with
     * stray set: the owner of a RelayOpened must answer CloseRelay, anything else is counted and
     * dropped.
     */
    void (*message)(struct n2_link *link, const struct n2_message *message, int fd, bool stray,
                    void *user);
    /* `text` says why, for the log. The link is gone when this returns. */
    void (*down)(struct n2_link *link, const char *text, void *user);
    void (*relieved)(struct n2_link *link, void *user); /* no longer congested; may be NULL */
};

/* `answer` is NULL when the deadline passed or the link went down. */
typedef void (*n2_answer_cb)(struct n2_link *link, const struct n2_message *answer, void *user);

/* Fills the defaults. */
void n2_link_config_init(struct n2_link_config *config, enum n2_role role);

/* Consumes `fd`, also on failure. Returns 0 or -errno. */
int n2_link_open(struct n2_link **out, uv_loop_t *loop, int fd, const struct n2_link_config *config,
                 const struct n2_link_ops *ops, void *user);

/*
 * Sends a notification or an answer (transaction as in the message; fd_count 1 with a descriptor,
 * otherwise 0). fd is consumed. Returns 0 or -errno: -ENOTCONN before UP, -EPIPE after it; any
 * other failure brings the link down: -EINVAL for a message that is not valid or not this side's to
 * send, -ENOBUFS when the peer does not read.
 */
int n2_link_send(struct n2_link *link, const struct n2_message *message, int fd);

/*
 * Sends a request and waits for its answer; message->transaction is chosen here. *transaction (may
 * be NULL) can be given to n2_link_cancel(). deadline_ms 0: none. Returns 0, -EAGAIN when
 * max_transactions are in flight, -EINVAL for a message that is not valid or no request, -ENOTCONN
 * before UP, -EPIPE after it, or another -errno. On failure `done` is not called; fd is consumed.
 */
int n2_link_request(struct n2_link *link, struct n2_message *message, int fd, uint32_t deadline_ms,
                    n2_answer_cb done, void *user, uint64_t *transaction);

/* `done` will not be called. An answer that still comes is delivered as stray. */
void n2_link_cancel(struct n2_link *link, uint64_t transaction);

/* A message that this state or this side does not permit: counted, logged, and the link goes down.
 */
void n2_link_refuse(struct n2_link *link, const struct n2_message *message, const char *why);

bool n2_link_is_up(const struct n2_link *link);
bool n2_link_is_congested(const struct n2_link *link);
/* Octets that the peer's socket has not taken yet. */
size_t n2_link_queued(const struct n2_link *link);
const struct n2_hello *n2_link_peer(const struct n2_link *link); /* of an UP link */

struct n2_link_stats {
    uint64_t messages_in, messages_out, bad_messages, stray_answers, timeouts;
};
struct n2_link_stats n2_link_stats(const struct n2_link *link);

/* Ends the link without ops->down; transactions are dropped without a call. What is queued is tried
 * once. */
void n2_link_close(struct n2_link *link);

#endif
