/*
 * What the commands of sockst share.
 */
#ifndef SOCKST_COMMAND_COMMAND_H
#define SOCKST_COMMAND_COMMAND_H

#include "common/client/command/options.h"

enum exit_status {
    EXIT_COMPLETE = 0,
    EXIT_INCOMPLETE = 1, /* the transfer, or what this host could give */
    EXIT_USAGE = 2,
    EXIT_PROXY = 3,
    EXIT_REFUSED = 4,
    EXIT_PROTOCOL = 5,
    EXIT_DATA = 6, /* BND cannot be reached */
};

/* Each runs one command and returns the exit status. */
int command_connect(const struct options *options); /* bind, too */
int command_udp(const struct options *options);
int command_forward(const struct options *options);
int command_probe(const struct options *options);

/* forward's two halves: `proxies` were resolved. */
int forward_tcp(const struct options *options, const struct sockst_options *association);
int forward_udp(const struct options *options, const struct sockst_options *association);

/* The proxy's addresses and the rest of what an association of this PTCL needs; `proxies` is the
 * memory behind it. */
int command_resolve(const struct options *options, uint8_t ptcl,
                    struct endpoint proxies[SOCKST_PROXY_ADDRESSES_MAX],
                    struct sockst_options *out);
/* One line on standard error, "sockst: " in front. */
void command_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says why an association could not be had, and returns the exit status for it. */
int command_failed(const struct sockst_failure *failure);
/* With --verbose: which association it is, and through which of the proxy's addresses. */
void command_show(const struct options *options, const struct sockst_association *association);
/* The exit status after SIGINT or SIGTERM. */
int command_interrupted(int signal);

#endif
