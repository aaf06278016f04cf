#include "common/system/fd_budget.h"

#include <sys/resource.h>

#include "common/log/log.h"

static uint64_t soft_limit(void)
{
    struct rlimit limit;

    /* Cannot fail with these arguments; if it did, nothing but the reserve would be sure. */
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : FD_RESERVE;
}

/* 0 until asked for the first time. */
static uint64_t budget;

static uint64_t total(void)
{
    if (budget == 0)
        budget = soft_limit();
    return budget;
}

uint64_t fd_budget_setup(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            LOG(LOG_LEVEL_WARNING, "fd-limit-not-raised", LOG_U("wanted", limit.rlim_max));
    }
    budget = soft_limit();
    return budget;
}

uint64_t fd_budget_total(void)
{
    return total() > FD_RESERVE ? total() - FD_RESERVE : 0;
}

uint64_t fd_budget_clamp(const char *option, uint64_t wanted, uint64_t fds_each)
{
    uint64_t fits = fd_budget_total() / (fds_each > 0 ? fds_each : 1);

    if (wanted <= fits)
        return wanted;
    LOG(LOG_LEVEL_WARNING, "limit-clamped", LOG_S("option", option), LOG_U("wanted", wanted),
        LOG_U("granted", fits), LOG_U("fd_limit", total()));
    return fits;
}

bool fd_budget_allows(int newest_fd)
{
    return newest_fd >= 0 && (uint64_t)newest_fd < fd_budget_total();
}
