/*
 * A daemon and its service manager: sd_notify, the watchdog and inherited sockets. Without systemd
 * each call about it does nothing.
 */
#ifndef SOCKST_COMMON_SYSTEM_SERVICE_H
#define SOCKST_COMMON_SYSTEM_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#define SERVICE_FDS_MAX 256 /* inherited sockets */

/*
 * To be called before anything is opened that stays open: descriptors 0 to 2 that are closed become
 * /dev/null. Otherwise a socket, or what the event loop keeps for itself, becomes standard error,
 * and gets the log. Returns 0 or -errno.
 */
int service_setup_standard_fds(void);

/*
 * Where service_ready() writes the line "READY" besides telling systemd: what --ready-fd N gives,
 * for tests and scripts. Consumed: closed after the line, or by service_stopping() without one, so
 * that a reader sees either "READY\n" or the end of file. Gets close-on-exec. Returns 0, or -EBADF
 * when it is no open descriptor.
 */
int service_ready_fd(int fd);

/*
 * The daemon serves from now on: READY=1 with STATUS, a log event "ready" (field status), and the
 * line on --ready-fd.
 */
void service_ready(const char *status);

/* SIGHUP has come: RELOADING=1. service_ready() is to follow, whether the reload succeeds or not.
 */
void service_reloading(void);

/* STATUS alone: one line for `systemctl status`. */
void service_status(const char *status);

/* STOPPING=1. Idempotent. */
void service_stopping(void);

/*
 * Starts WATCHDOG=1 at half the interval that systemd asks for, if it does. The timer does not keep
 * the loop alive and is closed by service_watchdog_stop(); the loop has to run once more after
 * that.
 */
void service_watchdog_start(uv_loop_t *loop);
void service_watchdog_stop(void);

/*
 * Takes over the sockets of LISTEN_FDS (all get close-on-exec); call once, first. Returns how many,
 * or -errno; -E2BIG above SERVICE_FDS_MAX.
 */
int service_listen_fds(void);

/*
 * The next inherited socket with this FileDescriptorName ("socks", "n2", "admin"), which becomes
 * the caller's and is made non-blocking; -1 when there is no more.
 */
int service_take_fd(const char *name);

/* Closes the sockets that nobody took, logging each. Idempotent. */
void service_close_unused_fds(void);

#endif
