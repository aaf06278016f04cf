/*
 * What a daemon may do after start-up: no capability, no new privileges, and a system-call filter of what it really uses.
 */
#ifndef SOCKST_COMMON_SYSTEM_PRIVILEGES_H
#define SOCKST_COMMON_SYSTEM_PRIVILEGES_H

#include <stdbool.h>

/* Drops every capability from all sets, also the bounding and ambient ones where that is permitted, sets no_new_privs and PR_SET_DUMPABLE 0 when not
 * running under a debugger. A process that runs as root stays uid 0 but without power over the system. Returns 0 or -errno. */
int privileges_drop(void);
/* True when no capability is left in the permitted, effective and ambient sets. */
bool privileges_none_left(void);

enum sandbox_profile { SANDBOX_SOCKSD, SANDBOX_RELAYD };
/* Installs the seccomp filter: system calls that the daemon never makes (exec, ptrace, mount, bpf, keyctl, module and namespace calls, …) fail with EPERM
 * (io_uring_setup with ENOSYS). Returns 0, or -errno (-ENOSYS where the kernel has no seccomp; callers warn and go on). */
int sandbox_enter(enum sandbox_profile profile);

#endif
