/*
 * The command line of sockst. Parsing is pure: nothing is printed and nothing looked up.
 */
#ifndef SOCKST_COMMAND_OPTIONS_H
#define SOCKST_COMMAND_OPTIONS_H

#include "common/client/sockst.h"

#define OPTIONS_WHY_MAX 256

enum command {
    COMMAND_HELP,
    COMMAND_VERSION,
    COMMAND_CONNECT,
    COMMAND_BIND,
    COMMAND_UDP,
    COMMAND_FORWARD,
    COMMAND_PROBE,
    COMMAND_END, /* one above the last */
};

struct options {
    enum command command;
    struct sockst_proxy proxy;
    bool json, verbose;
    bool classic; /* CONNECT and UDP ASSOCIATE instead of TRANSPARENT */
    uint32_t connect_timeout_ms;
    struct n1_host destination; /* connect, udp, forward; bind: whose connection is expected */
    uint8_t ptcl;               /* forward */
    struct endpoint local;      /* forward: where to listen; port 0: any */
    bool lines;                 /* udp: a datagram is a line */
    uint32_t count;             /* udp: done after so many; 0: no such end */
    uint32_t timeout_ms;        /* udp: how long to wait for answers after the end of the input */
    uint32_t idle_ms;           /* forward udp: a silent association ends */
    uint32_t max;               /* forward: associations at a time */
};

/*
 * `proxy` is $SOCKST_PROXY or NULL. Options may stand anywhere; "--" ends them. Returns 0, or
 * -EINVAL with one line in `why`.
 */
int options_parse(int argc, char **argv, const char *proxy, struct options *out,
                  char why[OPTIONS_WHY_MAX]);

/* The text of --help. */
extern const char options_help[];

#endif
