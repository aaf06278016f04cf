/*
 * A daemon and its service manager: sd_notify and inherited sockets. Without systemd each call does nothing.
 */
#ifndef SOCKST_COMMON_SYSTEM_SERVICE_H
#define SOCKST_COMMON_SYSTEM_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

/* READY=1 with STATUS, and (when NOTIFY_SOCKET is not set) one line "READY" is not printed: tests and scripts use --ready-fd. */
void service_ready(const char *status);
void service_status(const char *status);
void service_stopping(void);
/* Starts WATCHDOG=1 at half the interval that systemd asks for, if it does. The timer is unreferenced and closed by service_watchdog_stop(). */
void service_watchdog_start(uv_loop_t *loop);
void service_watchdog_stop(void);

/* Takes over the sockets of LISTEN_FDS (all get close-on-exec); call once, first. Returns how many, or -errno. */
int service_listen_fds(void);
/* The next inherited socket with this FileDescriptorName ("socks", "n2", "admin"), which becomes the caller's; -1 when no more. */
int service_take_fd(const char *name);
/* Closes the sockets that nobody took, logging each. */
void service_close_unused_fds(void);

#endif
