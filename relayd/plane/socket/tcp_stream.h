/*
 * One direction of a TCP relay: octets go from one socket to the other without passing through the
 * process where a pipe is to be had, and by a copy without state where not. Nothing is read while
 * something read earlier has not been written: that is the back-pressure.
 */
#ifndef SOCKST_RELAYD_TCP_STREAM_H
#define SOCKST_RELAYD_TCP_STREAM_H

#include "relayd/plane/socket/socket_plane.h"
#include "relayd/plane/socket/token_bucket.h"

struct tcp_stream {
    struct pipe_ends pipe; /* valid while has_pipe */
    bool has_pipe;
    bool blocked;     /* something waits for the receiving socket to become writable */
    bool finished;    /* everything up to the sender's FIN was written and the FIN passed on */
    uint32_t in_pipe; /* octets */
    uint64_t bytes;   /* written so far */
    struct token_bucket bucket; /* of what is read */
};

enum tcp_stream_result {
    TCP_STREAM_OK,         /* ->blocked says what to wait for */
    TCP_STREAM_FINISHED,   /* ->finished has just been set */
    TCP_STREAM_E_SENDER,   /* *error is of the socket that is read from */
    TCP_STREAM_E_RECEIVER, /* *error is of the socket that is written to */
};

/*
 * Moves what can be moved now: at most what waits already, one read and one write. `readable`: the
 * sender has been reported readable. At most `max_bytes` are read (0: none). *error is a negative
 * errno, set with TCP_STREAM_E_… alone.
 */
enum tcp_stream_result tcp_stream_pump(struct tcp_stream *stream, struct socket_plane *plane,
                                       int sender, int receiver, bool readable, uint64_t max_bytes,
                                       int *error);
/*
 * Passes octets on ahead of everything that the sender will send: before the first pump. What the
 * receiver does not take waits in a pipe: `length` is at most 4096, the smallest one.
 * TCP_STREAM_E_SENDER: something would have to wait and there is no pipe.
 */
enum tcp_stream_result tcp_stream_push(struct tcp_stream *stream, struct socket_plane *plane,
                                       int receiver, const uint8_t *octets, size_t length,
                                       int *error);
/* Lets go of the pipe and what is in it. Idempotent. */
void tcp_stream_release(struct tcp_stream *stream, struct socket_plane *plane);

#endif
