/*
 * sockst forward: what connects to a local address is carried to one destination; each TCP
 * connection, and each local UDP peer, has an association of its own.
 */
#include <sys/resource.h>

#include "common/client/command/command.h"
#include "proto/ptcl.h"

static void raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int command_forward(const struct options *options)
{
    struct endpoint proxies[SOCKST_PROXY_ADDRESSES_MAX];
    struct sockst_options association;
    int status = command_resolve(options, options->ptcl, proxies, &association);
    if (status != 0)
        return status;
    raise_fd_limit();
    return options->ptcl == PTCL_TCP ? forward_tcp(options, &association)
                                     : forward_udp(options, &association);
}
