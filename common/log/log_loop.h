/*
 * The log of a daemon with an event loop: what one turn of the loop logs leaves together, and a
 * reader that is slow holds nobody up. Errors, warnings and notices do not wait for the end of the
 * turn.
 */
#ifndef SOCKST_COMMON_LOG_LOG_LOOP_H
#define SOCKST_COMMON_LOG_LOG_LOOP_H

#include <uv.h>

/* Until log_loop_stop(), for one loop. Keeps no loop alive. */
void log_loop_start(uv_loop_t *loop);

/* What is kept is given a moment to leave, then lines are written at once again. The loop has to
 * run for the close callbacks. Idempotent. */
void log_loop_stop(void);

#endif
