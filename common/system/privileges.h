/*
 * What a daemon may do after start-up: no capability, no new privileges, and a filter against the
 * system calls that it never makes.
 *
 * Order: open and bind everything, privileges_drop(), sandbox_enter(), then the first client. Both
 * concern the calling thread: call them before any other thread exists.
 */
#ifndef SOCKST_COMMON_SYSTEM_PRIVILEGES_H
#define SOCKST_COMMON_SYSTEM_PRIVILEGES_H

#include <stdbool.h>

/*
 * Drops every capability from the permitted, effective, inheritable and ambient sets, and from the
 * bounding set where that is permitted; sets no_new_privs; and PR_SET_DUMPABLE 0 unless a debugger
 * is attached or the build has AddressSanitizer. A process that runs as root stays uid 0 but
 * without power over the system. Works for any user. Returns 0 or -errno.
 */
int privileges_drop(void);

/* True when no capability is left in the permitted, effective, inheritable and ambient sets. */
bool privileges_none_left(void);

enum sandbox_profile { SANDBOX_SOCKSD, SANDBOX_RELAYD };

/*
 * Installs the seccomp filter: system calls that the daemon never makes (exec, ptrace, mount,
 * keyctl, changes of identity, module and namespace calls, …) fail with EPERM, sockets of other
 * families than Unix, IPv4, IPv6 and netlink with EAFNOSUPPORT, io_uring_setup and clone3 with
 * ENOSYS. socksd may not move data between descriptors (splice, sendfile, …) nor call bpf either;
 * relayd may call bpf for the elements of tables and for new links of programs it holds. What is
 * not listed stays allowed: a new libc or libuv must not break a daemon.
 *
 * Returns 0; or -errno: -ENOSYS where the kernel has no seccomp or the build has AddressSanitizer
 * (callers warn and go on).
 */
int sandbox_enter(enum sandbox_profile profile);

#endif
