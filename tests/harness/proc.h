/*
 * What the kernel says of a process under test: /proc.
 */
#ifndef SOCKST_TESTS_HARNESS_PROC_H
#define SOCKST_TESTS_HARNESS_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/lab.h"

/* Open descriptors. */
unsigned proc_fd_count(pid_t pid);
/* The same, once none was opened or closed for a moment: what is on its way out (a relay's sockets,
 * relayctl's connection) is gone. */
unsigned proc_fd_count_at_rest(pid_t pid);
/* Resident memory in KiB. */
uint64_t proc_rss_kib(pid_t pid);
/* A line of /proc/PID/status as text ("CapEff"); valid until the next call. */
const char *proc_status(pid_t pid, const char *key);
/* No capability in CapInh, CapPrm, CapEff, CapAmb. */
bool proc_has_no_capability(pid_t pid);

struct proc_socket {
    int protocol;                  /* IPPROTO_TCP or IPPROTO_UDP */
    struct endpoint local, remote; /* remote 0.0.0.0:0 or [::]:0 when not connected */
    unsigned state;                /* as in <netinet/tcp.h>: TCP_ESTABLISHED, TCP_LISTEN, … */
    uint64_t inode;                /* for proc_holds() */
};

/* The process's own TCP and UDP sockets, in its network namespace; at most `max` are stored,
 * returned is how many there are. */
size_t proc_sockets(pid_t pid, struct proc_socket *out, size_t max);
/* Does the process still have one of these sockets open? Unlike the others this is quick: the
 * kernel's tables of sockets are not read. */
bool proc_holds(pid_t pid, const struct proc_socket *sockets, size_t count);
/* Sockets of the process whose remote address is this (port 0: any port). */
size_t proc_sockets_to(pid_t pid, struct endpoint remote);
/* Sockets of the process whose local endpoint is this (port 0: any port). */
size_t proc_sockets_at(pid_t pid, struct endpoint local);

#endif
