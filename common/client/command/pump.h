/*
 * Octets from one descriptor to another: by splice() through a pipe where both sides allow it,
 * through a buffer otherwise. One read and one write per call, so that many pumps share a loop
 * fairly. Borrows both descriptors.
 */
#ifndef SOCKST_COMMAND_PUMP_H
#define SOCKST_COMMAND_PUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUMP_SIZE (256 * 1024) /* of the pipe, or of the buffer */

enum pump_state {
    PUMP_WANT_IN,  /* waits for octets */
    PUMP_WANT_OUT, /* holds octets that do not go out */
    PUMP_DONE,     /* the end came and everything before it went out */
    PUMP_E_IN,     /* reading failed: pump.error */
    PUMP_E_OUT,    /* writing failed: pump.error */
};

struct pump {
    enum pump_state state;
    int error; /* errno */
    uint64_t moved;
    int in, out; /* the pump's own from here on */
    bool in_is_socket, out_is_socket, ended;
    int pipe[2]; /* -1: octets go through the buffer */
    uint8_t *buffer;
    size_t start, pending;
};

/* Returns 0 or -ENOMEM. */
int pump_init(struct pump *pump, int in, int out);
/* Idempotent, also on a zeroed pump. */
void pump_free(struct pump *pump);
/* Goes one step and returns the new state. */
enum pump_state pump_run(struct pump *pump);

#endif
