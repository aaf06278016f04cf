/*
 * How many file descriptors the process may use, and for what. RLIMIT_NOFILE is raised to its hard
 * limit; configured maxima are clamped to what it allows, with a warning that names both numbers;
 * the reserve keeps accept(), logging and netlink alive when the rest is used up.
 */
#ifndef SOCKST_COMMON_SYSTEM_FD_BUDGET_H
#define SOCKST_COMMON_SYSTEM_FD_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define FD_RESERVE 64

/*
 * Raises the soft limit to the hard one. Returns the number of descriptors the process may have
 * open; a limit that cannot be raised stays as it is.
 */
uint64_t fd_budget_setup(void);

/* Descriptors that the process may have open beside the reserve. */
uint64_t fd_budget_total(void);

/*
 * How many users of `fds_each` descriptors fit beside the reserve; at most `wanted`. Warns (log
 * event "limit-clamped", fields option, wanted, granted) when it is less.
 */
uint64_t fd_budget_clamp(const char *option, uint64_t wanted, uint64_t fds_each);

/*
 * May a further descriptor be used for a client's sake? Cheap: told by the last descriptor number
 * that the kernel gave out, since it always gives the lowest that is free. False for -1.
 */
bool fd_budget_allows(int newest_fd);

#endif
