#include "common/client/command/command.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/ptcl.h"

void command_say(const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    fprintf(stderr, "sockst: %s\n", line);
}

int command_failed(const struct sockst_failure *failure)
{
    static const enum exit_status statuses[] = {
        [SOCKST_E_NONE] = EXIT_INCOMPLETE,   [SOCKST_E_PROXY] = EXIT_PROXY,
        [SOCKST_E_TIMEOUT] = EXIT_PROXY,     [SOCKST_E_METHOD] = EXIT_REFUSED,
        [SOCKST_E_AUTH] = EXIT_REFUSED,      [SOCKST_E_REPLY] = EXIT_REFUSED,
        [SOCKST_E_PROTOCOL] = EXIT_PROTOCOL, [SOCKST_E_CLOSED] = EXIT_PROTOCOL,
        [SOCKST_E_DATA] = EXIT_DATA,         [SOCKST_E_LOCAL] = EXIT_INCOMPLETE,
    };
    command_say("%s", failure->text);
    return (int)statuses[failure->error];
}

static enum n1_command request_of(const struct options *options, uint8_t ptcl)
{
    if (options->command == COMMAND_BIND)
        return N1_CMD_BIND;
    if (!options->classic)
        return N1_CMD_TRANSPARENT;
    return ptcl == PTCL_UDP ? N1_CMD_UDP_ASSOCIATE : N1_CMD_CONNECT;
}

int command_resolve(const struct options *options, uint8_t ptcl,
                    struct endpoint proxies[SOCKST_PROXY_ADDRESSES_MAX], struct sockst_options *out)
{
    struct sockst_failure failure;
    int count =
        sockst_proxy_resolve(&options->proxy, proxies, SOCKST_PROXY_ADDRESSES_MAX, &failure);
    if (count < 0)
        return command_failed(&failure);
    *out = (struct sockst_options){
        .proxies = proxies,
        .proxy_count = (size_t)count,
        .userpass = options->proxy.has_user ? &options->proxy.userpass : NULL,
        .command = (uint8_t)request_of(options, ptcl),
        .ptcl = ptcl,
        .destination = options->destination,
    };
    return 0;
}

void command_show(const struct options *options, const struct sockst_association *association)
{
    char source[ENDPOINT_TEXT_MAX], bound[ENDPOINT_TEXT_MAX], proxy[ENDPOINT_TEXT_MAX];
    const struct endpoint *peer = sockst_association_peer(association);
    if (!options->verbose)
        return;
    if (peer->address.family != IP_NONE)
        command_say("connection from %s", endpoint_format(peer, source, sizeof(source)));
    command_say("association %s -> %s through %s",
                endpoint_format(sockst_association_source(association), source, sizeof(source)),
                endpoint_format(sockst_association_bound(association), bound, sizeof(bound)),
                endpoint_format(sockst_association_proxy(association), proxy, sizeof(proxy)));
}

int command_interrupted(int signal)
{
    return 128 + signal;
}
