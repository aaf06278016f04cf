/*
 * socksd's end of an N2 connection, as fast as it goes: orders and ends of relays are encoded into
 * one buffer, a bounded number of them unanswered at a time. For load generators: what goes wrong
 * ends the program.
 */
#ifndef SOCKST_TESTS_BENCH_ORDER_STREAM_H
#define SOCKST_TESTS_BENCH_ORDER_STREAM_H

#include "common/ipc/peer.h"
#include "proto/n2.h"

#define STREAM_BUFFER (256 * 1024)

struct order_stream {
    int fd;
    pid_t relayd; /* who listens there */
    struct n2_hello hello;
    /* Every message but Ping (answered) and RelayEvent (counted). */
    void (*message)(void *user, const struct n2_message *message);
    void *user;
    uint64_t events;
    size_t out_start, out_end, in_end;
    uint8_t out[STREAM_BUFFER], in[STREAM_BUFFER];
};

/* Connects to the socket at `path` and exchanges Hello. The caller's until order_stream_close(). */
struct order_stream *
order_stream_open(const char *path, void (*message)(void *user, const struct n2_message *message),
                  void *user);

/* Is there room for one more message? */
bool order_stream_has_room(const struct order_stream *stream);

/* Queues it; there must be room. */
void order_stream_put(struct order_stream *stream, const struct n2_message *message);

/* Writes and reads what the socket takes and has; waits up to `wait_ms` when it can do neither. */
void order_stream_turn(struct order_stream *stream, int wait_ms);

void order_stream_close(struct order_stream *stream);

/* Says it on standard error and exits with 1. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
