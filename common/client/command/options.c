#include "common/client/command/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "proto/ptcl.h"

#define DEFAULT_PROXY "socks5t://127.0.0.1:1080"
#define SECONDS_MAX 86400
#define ASSOCIATIONS_MAX 4096

const char options_help[] =
    "usage: sockst [OPTION…] connect HOST PORT\n"
    "       sockst [OPTION…] bind HOST [PORT]\n"
    "       sockst [OPTION…] udp HOST PORT\n"
    "       sockst [OPTION…] forward tcp|udp LOCAL:PORT HOST:PORT\n"
    "       sockst [OPTION…] probe\n"
    "\n"
    "  --proxy URL            socks5t://[USER[:PASSWORD]@]HOST[:PORT]\n"
    "                         (default: $SOCKST_PROXY, else " DEFAULT_PROXY
    ")\n"
    "  --classic              CONNECT and UDP ASSOCIATE, for servers without TRANSPARENT\n"
    "  --connect-timeout SEC  until an association stands (30)\n"
    "  --verbose              say on standard error what happens\n"
    "  --json                 probe: print JSON\n"
    "  --lines                udp: each line is a datagram, in and out\n"
    "  --count N              udp: end after N answers\n"
    "  --timeout SEC          udp: wait so long for answers after the end of the input (5)\n"
    "  --idle SEC             forward udp: end an association that is silent for so long (120)\n"
    "  --max N                forward: associations at a time (256)\n"
    "  --help, --version\n"
    "\n"
    "exit status: 0 complete, 1 incomplete, 2 usage, 3 proxy not reached, 4 refused by the "
    "server,\n"
    "             5 not a SOCKS 5 server, 6 no data path\n";

struct parser {
    struct options *out;
    char *why;
};

static int refuse(const struct parser *parser, const char *what, const char *text,
                  const char *problem)
{
    snprintf(parser->why, OPTIONS_WHY_MAX, "%s%s%.100s%s: %s", what, text[0] != '\0' ? " '" : "",
             text, text[0] != '\0' ? "'" : "", problem);
    return -EINVAL;
}

/* A decimal number without sign, white space or leading zero. */
static bool read_number(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (*text == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > max)
            return false;
    }
    *out = (uint32_t)value;
    return value >= min;
}

/* Seconds with up to three decimals, as milliseconds. */
static bool read_seconds(const char *text, uint32_t *out_ms)
{
    char whole[16], decimals[4] = "000";
    uint32_t seconds, milliseconds = 0;
    size_t length = strcspn(text, ".");
    if (length >= sizeof(whole))
        return false;
    memcpy(whole, text, length);
    whole[length] = '\0';
    if (!read_number(whole, 0, SECONDS_MAX, &seconds))
        return false;
    if (text[length] == '.') {
        size_t count = strlen(text + length + 1);
        if (count == 0 || count > 3)
            return false;
        memcpy(decimals, text + length + 1, count);
        for (int i = 0; i < 3; i++) {
            if (decimals[i] < '0' || decimals[i] > '9')
                return false;
            milliseconds = milliseconds * 10 + (uint32_t)(decimals[i] - '0');
        }
    }
    *out_ms = seconds * 1000 + milliseconds;
    return true;
}

/* An address, or a name that the server will look up. `text` is not bracketed. */
static int read_host(const struct parser *parser, const char *text, uint32_t port)
{
    struct endpoint endpoint = {.port = (uint16_t)port};
    if (ip_address_parse(text, &endpoint.address) == 0) {
        if (endpoint.address.scope_id != 0)
            return refuse(parser, "host", text, "a scope means nothing to the server");
        parser->out->destination = n1_host_from_endpoint(&endpoint);
        return 0;
    }
    if (strpbrk(text, ":%[]/") != NULL ||
        n1_host_from_name(text, (uint16_t)port, &parser->out->destination) < 0)
        return refuse(parser, "host", text, "neither a name nor an address");
    return 0;
}

static int read_bracketed(const struct parser *parser, const char *host, uint32_t port)
{
    char text[N1_NAME_MAX + 1];
    size_t length = strlen(host);
    if (length > 2 && host[0] == '[' && host[length - 1] == ']' && strchr(host, ':') != NULL) {
        host++;
        length -= 2;
    }
    if (length >= sizeof(text))
        return refuse(parser, "host", host, "longer than a name can be");
    memcpy(text, host, length);
    text[length] = '\0';
    return read_host(parser, text, port);
}

static int read_host_and_port(const struct parser *parser, const char *host, const char *port)
{
    uint32_t number;
    if (!read_number(port, 1, UINT16_MAX, &number))
        return refuse(parser, "port", port, "not a number from 1 to 65535");
    return read_bracketed(parser, host, number);
}

/* HOST:PORT with an IPv6 HOST in brackets. */
static int read_target(const struct parser *parser, const char *text)
{
    char host[N1_NAME_MAX + 3];
    const char *colon = strrchr(text, ':');
    size_t length = colon != NULL ? (size_t)(colon - text) : 0;
    if (length == 0 || length >= sizeof(host))
        return refuse(parser, "destination", text, "not HOST:PORT");
    memcpy(host, text, length);
    host[length] = '\0';
    if (host[0] != '[' && strchr(host, ':') != NULL)
        return refuse(parser, "destination", text, "an IPv6 address stands in brackets");
    return read_host_and_port(parser, host, colon + 1);
}

static int read_forward(const struct parser *parser, char **arguments)
{
    const struct ptcl *ptcl = ptcl_by_name(arguments[0]);
    if (ptcl == NULL || (ptcl->number != PTCL_TCP && ptcl->number != PTCL_UDP))
        return refuse(parser, "protocol", arguments[0], "neither tcp nor udp");
    parser->out->ptcl = ptcl->number;
    if (endpoint_parse(arguments[1], &parser->out->local) < 0)
        return refuse(parser, "local address", arguments[1], "not ADDRESS:PORT");
    return read_target(parser, arguments[2]);
}

/* 0.0.0.0 and :: are anybody, and so is port 0. */
static int read_expected(const struct parser *parser, char **arguments)
{
    uint32_t port = 0;
    if (arguments[1] != NULL && !read_number(arguments[1], 0, UINT16_MAX, &port))
        return refuse(parser, "port", arguments[1], "not a number up to 65535");
    return read_bracketed(parser, arguments[0], port);
}

static int read_destination(const struct parser *parser, char **arguments)
{
    return read_host_and_port(parser, arguments[0], arguments[1]);
}

static const struct {
    const char *name;
    enum command command;
    int arguments_min, arguments_max;
    int (*read)(const struct parser *parser, char **arguments);
    const char *usage;
} commands[] = {
    {"connect", COMMAND_CONNECT, 2, 2, read_destination, "it takes HOST PORT"},
    {"bind", COMMAND_BIND, 1, 2, read_expected, "it takes HOST [PORT]"},
    {"udp", COMMAND_UDP, 2, 2, read_destination, "it takes HOST PORT"},
    {"forward", COMMAND_FORWARD, 3, 3, read_forward, "it takes tcp|udp LOCAL:PORT HOST:PORT"},
    {"probe", COMMAND_PROBE, 0, 0, NULL, "it takes no argument"},
};

static int read_command(const struct parser *parser, int count, char **arguments)
{
    if (count == 0)
        return refuse(parser, "command", "", "missing; see --help");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, arguments[0]) != 0)
            continue;
        parser->out->command = commands[i].command;
        if (count - 1 < commands[i].arguments_min || count - 1 > commands[i].arguments_max)
            return refuse(parser, commands[i].name, "", commands[i].usage);
        return commands[i].read != NULL ? commands[i].read(parser, arguments + 1) : 0;
    }
    return refuse(parser, "command", arguments[0], "unknown; see --help");
}

enum {
    OPT_PROXY = 256,
    OPT_CLASSIC,
    OPT_CONNECT,
    OPT_COUNT,
    OPT_TIMEOUT,
    OPT_IDLE,
    OPT_MAX,
    OPT_LINES,
    OPT_JSON
};

static const struct option long_options[] = {
    {"proxy", required_argument, NULL, OPT_PROXY},
    {"classic", no_argument, NULL, OPT_CLASSIC},
    {"connect-timeout", required_argument, NULL, OPT_CONNECT},
    {"verbose", no_argument, NULL, 'v'},
    {"json", no_argument, NULL, OPT_JSON},
    {"lines", no_argument, NULL, OPT_LINES},
    {"count", required_argument, NULL, OPT_COUNT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"idle", required_argument, NULL, OPT_IDLE},
    {"max", required_argument, NULL, OPT_MAX},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {0},
};

static int read_time(const struct parser *parser, const char *option, const char *text,
                     uint32_t *out_ms)
{
    if (read_seconds(text, out_ms))
        return 0;
    return refuse(parser, option, text, "not a number of seconds up to 86400");
}

static int read_option(const struct parser *parser, int option, const char *value, char **argv,
                       const char **proxy)
{
    struct options *out = parser->out;
    switch (option) {
    case OPT_PROXY:
        *proxy = value;
        return 0;
    case OPT_CONNECT:
        return read_time(parser, "--connect-timeout", value, &out->connect_timeout_ms);
    case OPT_TIMEOUT:
        return read_time(parser, "--timeout", value, &out->timeout_ms);
    case OPT_IDLE:
        return read_time(parser, "--idle", value, &out->idle_ms);
    case OPT_COUNT:
        if (read_number(value, 1, UINT32_MAX, &out->count))
            return 0;
        return refuse(parser, "--count", value, "not a number above 0");
    case OPT_MAX:
        if (read_number(value, 1, ASSOCIATIONS_MAX, &out->max))
            return 0;
        return refuse(parser, "--max", value, "not a number from 1 to 4096");
    case 'v':
        out->verbose = true;
        return 0;
    case OPT_CLASSIC:
        out->classic = true;
        return 0;
    case OPT_JSON:
        out->json = true;
        return 0;
    case OPT_LINES:
        out->lines = true;
        return 0;
    case ':':
        return refuse(parser, "option", argv[optind - 1], "its value is missing");
    default:
        return refuse(parser, "option", argv[optind - 1], "unknown or ambiguous; see --help");
    }
}

int options_parse(int argc, char **argv, const char *proxy, struct options *out,
                  char why[OPTIONS_WHY_MAX])
{
    struct parser parser = {.out = out, .why = why};
    const char *url_problem;
    int option, error = 0;
    *out = (struct options){
        .connect_timeout_ms = 30000, .timeout_ms = 5000, .idle_ms = 120000, .max = 256};
    optind = 0; /* glibc: start anew */
    opterr = 0;
    while (error == 0 && (option = getopt_long(argc, argv, ":vhV", long_options, NULL)) != -1) {
        if (option == 'h' || option == 'V') {
            out->command = option == 'h' ? COMMAND_HELP : COMMAND_VERSION;
            return 0;
        }
        error = read_option(&parser, option, optarg, argv, &proxy);
    }
    if (error == 0)
        error = read_command(&parser, argc - optind, argv + optind);
    if (error == 0 && out->json && out->command != COMMAND_PROBE)
        error = refuse(&parser, "--json", "", "only probe prints JSON");
    /* The URL is not repeated: it may hold a password. */
    if (error == 0 &&
        sockst_proxy_parse(proxy != NULL ? proxy : DEFAULT_PROXY, &out->proxy, &url_problem) < 0)
        error = refuse(&parser, "proxy URL", "", url_problem);
    return error;
}
