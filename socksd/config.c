#include "socksd/config.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "common/log/log.h"
#include "proto/n1.h"
#include "proto/n2.h"
#include "proto/ptcl.h"
#include "socksd/policy/rule.h"

const char socksd_default_config[] =
    "listen:\n"
    "  - {address: 127.0.0.1, port: 1080}\n"
    "relays:\n"
    "  - {ptcl: tcp, socket: /run/sockst/n2/tcp.sock}\n"
    "  - {ptcl: udp, socket: /run/sockst/n2/udp.sock}\n"
    "rules:\n"
    "  - {name: this-host, action: allow, from: [127.0.0.0/8, \"::1\"]}\n";

static bool check_ptcl(const char *text, char *why, size_t size)
{
    if (ptcl_by_name(text))
        return true;
    snprintf(why, size, "%.64s: no such transport protocol", text);
    return false;
}

static bool check_label(const char *text, char *why, size_t size)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    if (*text && text[strspn(text, allowed)] == '\0')
        return true;
    snprintf(why, size, "only letters, digits, dot, underscore and hyphen");
    return false;
}

static bool check_target(const char *text, char *why, size_t size)
{
    struct rule_target target;
    return rule_target_parse(text, &target, why, size) == 0;
}

static bool check_server(const char *text, char *why, size_t size)
{
    struct endpoint endpoint;
    struct ip_address address;
    if (ip_address_parse(text, &address) == 0 ||
        (endpoint_parse(text, &endpoint) == 0 && endpoint.port))
        return true;
    snprintf(why, size, "%.64s is neither an address nor address:port", text);
    return false;
}

static bool check_socket(const char *text, char *why, size_t size)
{
    if (text[0] == '/' && strlen(text) < 108)
        return true;
    snprintf(why, size, "must be an absolute path of at most 107 octets");
    return false;
}

static const struct config_keyword action_words[] = {
    {"allow", RULE_ALLOW}, {"deny", RULE_DENY}, {NULL, 0}};

static const struct config_keyword command_words[] = {{"connect", N1_CMD_CONNECT},
                                                      {"bind", N1_CMD_BIND},
                                                      {"udp-associate", N1_CMD_UDP_ASSOCIATE},
                                                      {"transparent", N1_CMD_TRANSPARENT},
                                                      {NULL, 0}};

static const struct config_keyword method_words[] = {{"none", N1_METHOD_NONE}, {NULL, 0}};

static const struct config_keyword level_words[] = {
    {"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"notice", LOG_LEVEL_NOTICE},
    {"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},     {NULL, 0}};

static const struct config_keyword format_words[] = {{"text", LOG_FORMAT_TEXT},
                                                     {"json", LOG_FORMAT_JSON},
                                                     {"journal", LOG_FORMAT_JOURNAL},
                                                     {NULL, 0}};

static const struct config_option listen_record[] = {
    {.name = "address",
     .type = CONFIG_ADDRESS,
     .offset = offsetof(struct listen_config, address),
     .flags = CONFIG_REQUIRED,
     .help =
         "Address to listen on; \"::\" takes IPv4 too, unless an IPv4 address has the same port."},
    {.name = "port",
     .type = CONFIG_UINT,
     .offset = offsetof(struct listen_config, port),
     .min = 1,
     .max = 65535,
     .standard = "1080",
     .help = "TCP port."},
    {0},
};

static const struct config_option relay_record[] = {
    {.name = "ptcl",
     .type = CONFIG_STRING,
     .offset = offsetof(struct relay_config, ptcl),
     .check = check_ptcl,
     .flags = CONFIG_REQUIRED,
     .help = "The transport protocol that this relayd serves, by name or number."},
    {.name = "socket",
     .type = CONFIG_STRING,
     .offset = offsetof(struct relay_config, socket),
     .check = check_socket,
     .flags = CONFIG_REQUIRED,
     .help = "The N2 socket on which this relayd listens."},
    {0},
};

static const struct config_option rule_record[] = {
    {.name = "name",
     .type = CONFIG_STRING,
     .offset = offsetof(struct rule_config, name),
     .max = N2_LABEL_MAX,
     .check = check_label,
     .help = "What log and relay table call the rule; without it rule-1, rule-2, … by position."},
    {.name = "action",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct rule_config, action),
     .values = action_words,
     .flags = CONFIG_REQUIRED,
     .help = "What happens to a request that matches."},
    {.name = "from",
     .type = CONFIG_LIST,
     .element = CONFIG_PREFIX,
     .offset = offsetof(struct rule_config, from),
     .help = "Matches clients in these prefixes; without it every client."},
    {.name = "commands",
     .type = CONFIG_LIST,
     .element = CONFIG_ENUM,
     .offset = offsetof(struct rule_config, commands),
     .values = command_words,
     .help = "Matches these commands; without it every command."},
    {.name = "ptcl",
     .type = CONFIG_LIST,
     .element = CONFIG_STRING,
     .offset = offsetof(struct rule_config, ptcl),
     .check = check_ptcl,
     .help = "Matches these transport protocols; without it all."},
    {.name = "to",
     .type = CONFIG_LIST,
     .element = CONFIG_STRING,
     .offset = offsetof(struct rule_config, to),
     .check = check_target,
     .help =
         "Matches destinations: a prefix by the address that will be used, a name by the name that "
         "was asked for, .suffix by that domain and all below it; without it every destination."},
    {.name = "ports",
     .type = CONFIG_LIST,
     .element = CONFIG_PORT_RANGE,
     .offset = offsetof(struct rule_config, ports),
     .help = "Matches these destination ports; without it all."},
    {.name = "foreign-source",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct rule_config, foreign_source),
     .standard = "false",
     .help = "What this rule allows may name a source address other than the client's own."},
    {0},
};

static const struct config_option auth_section[] = {
    {.name = "methods",
     .type = CONFIG_LIST,
     .element = CONFIG_ENUM,
     .offset = offsetof(struct socksd_config, auth.methods),
     .min = 1,
     .max = 8,
     .standard = "[none]",
     .values = method_words,
     .help =
         "Methods in order of preference: the first that the client offers is used, nothing else."},
    {0},
};

static const struct config_option deny_floor_section[] = {
    {.name = "open",
     .type = CONFIG_LIST,
     .element = CONFIG_PREFIX,
     .offset = offsetof(struct socksd_config, deny_floor.open),
     .help = "Prefixes that rules may allow although the deny floor forbids them; relayd's own "
             "configuration must open them too."},
    {0},
};

static const struct config_option limits_section[] = {
    {.name = "sessions",
     .type = CONFIG_UINT,
     .offset = offsetof(struct socksd_config, limits.sessions),
     .min = 1,
     .max = 10000000,
     .standard = "100000",
     .help = "Control connections at a time."},
    {.name = "sessions-per-address",
     .type = CONFIG_UINT,
     .offset = offsetof(struct socksd_config, limits.sessions_per_address),
     .min = 1,
     .max = 10000000,
     .standard = "1000",
     .help = "Control connections at a time from one client address."},
    {.name = "handshake-timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct socksd_config, limits.handshake_timeout_ms),
     .min = 10,
     .max = 3600000,
     .standard = "10s",
     .help = "A client that has not sent its whole request by then is closed."},
    {.name = "relay-timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct socksd_config, limits.relay_timeout_ms),
     .min = 10,
     .max = 3600000,
     .standard = "20s",
     .help = "A relayd that has not answered an order by then has failed it."},
    {0},
};

static const struct config_option transparent_section[] = {
    {.name = "learn-source-port",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct socksd_config, transparent.learn_source_port),
     .standard = "false",
     .help = "Take requests with source port 0 and record the port of the first packet instead."},
    {0},
};

static const struct config_option keepalive_section[] = {
    {.name = "idle",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct socksd_config, keepalive.idle_ms),
     .min = 1000,
     .max = 32767000,
     .standard = "30s",
     .help = "Silence on a control connection before the first keepalive probe."},
    {.name = "interval",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct socksd_config, keepalive.interval_ms),
     .min = 1000,
     .max = 32767000,
     .standard = "10s",
     .help = "Time between probes."},
    {.name = "count",
     .type = CONFIG_UINT,
     .offset = offsetof(struct socksd_config, keepalive.count),
     .min = 1,
     .max = 127,
     .standard = "3",
     .help = "Unanswered probes after which the client is gone."},
    {0},
};

static const struct config_option resolver_section[] = {
    {.name = "servers",
     .type = CONFIG_LIST,
     .element = CONFIG_STRING,
     .offset = offsetof(struct socksd_config, resolver.servers),
     .max = 8,
     .check = check_server,
     .help = "DNS servers, as address or address:port; without it those of /etc/resolv.conf."},
    {.name = "timeout",
     .type = CONFIG_DURATION,
     .offset = offsetof(struct socksd_config, resolver.timeout_ms),
     .min = 100,
     .max = 60000,
     .standard = "5s",
     .help = "A name that is not resolved by then cannot be resolved."},
    {.name = "tries",
     .type = CONFIG_UINT,
     .offset = offsetof(struct socksd_config, resolver.tries),
     .min = 1,
     .max = 5,
     .standard = "2",
     .help = "How often each server is asked within the timeout."},
    {.name = "queries",
     .type = CONFIG_UINT,
     .offset = offsetof(struct socksd_config, resolver.queries),
     .min = 1,
     .max = 65536,
     .standard = "1024",
     .help = "Look-ups at a time; a request beyond them is answered with general failure."},
    {.name = "queries-per-address",
     .type = CONFIG_UINT,
     .offset = offsetof(struct socksd_config, resolver.queries_per_address),
     .min = 1,
     .max = 65536,
     .standard = "256",
     .help = "Of those, for one client address; those of clients that have gone count until they "
             "have ended."},
    {0},
};

static const struct config_option log_section[] = {
    {.name = "level",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct socksd_config, log.level),
     .standard = "info",
     .values = level_words,
     .help = "The least important events that are logged."},
    {.name = "format",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct socksd_config, log.format),
     .standard = "text",
     .values = format_words,
     .help = "How events are written to standard error, or to the journal."},
    {0},
};

static const struct config_option admin_section[] = {
    {.name = "socket",
     .type = CONFIG_STRING,
     .offset = offsetof(struct socksd_config, admin.socket),
     .standard = "/run/sockst/admin/socksd.sock",
     .check = check_socket,
     .help = "Where relayctl asks; null for nowhere."},
    {.name = "group",
     .type = CONFIG_STRING,
     .offset = offsetof(struct socksd_config, admin.group),
     .help = "Members of this group may ask, besides root and the daemon's own user."},
    {0},
};

const struct config_option socksd_schema[] = {
    {.name = "listen",
     .type = CONFIG_RECORDS,
     .offset = offsetof(struct socksd_config, listen),
     .max = CONFIG_LISTEN_MAX,
     .children = listen_record,
     .record_size = sizeof(struct listen_config),
     .help = "Where clients connect; sockets inherited from the service manager (named socks) "
             "replace it."},
    {.name = "auth",
     .type = CONFIG_SECTION,
     .children = auth_section,
     .help = "Authentication of clients."},
    {.name = "relays",
     .type = CONFIG_RECORDS,
     .offset = offsetof(struct socksd_config, relays),
     .max = CONFIG_RELAYS_MAX,
     .children = relay_record,
     .record_size = sizeof(struct relay_config),
     .help = "The relay daemons; of several for one protocol the least loaded is used."},
    {.name = "relays-user",
     .type = CONFIG_STRING,
     .offset = offsetof(struct socksd_config, relays_user),
     .min = 1,
     .standard = "relayd",
     .help = "The user (name or number) as whom relay daemons run; root and the daemon's own user "
             "are accepted too."},
    {.name = "rules",
     .type = CONFIG_RECORDS,
     .offset = offsetof(struct socksd_config, rules),
     .max = CONFIG_RULES_MAX,
     .children = rule_record,
     .record_size = sizeof(struct rule_config),
     .help = "Who may reach what: the first rule that matches decides; where none matches, deny."},
    {.name = "deny-floor",
     .type = CONFIG_SECTION,
     .children = deny_floor_section,
     .help = "Destinations that no rule can allow: the host itself, loopback, link-local, "
             "multicast, …"},
    {.name = "limits", .type = CONFIG_SECTION, .children = limits_section, .help = "Limits."},
    {.name = "transparent",
     .type = CONFIG_SECTION,
     .children = transparent_section,
     .help = "The TRANSPARENT command."},
    {.name = "keepalive",
     .type = CONFIG_SECTION,
     .children = keepalive_section,
     .help = "How vanished clients are noticed."},
    {.name = "resolver",
     .type = CONFIG_SECTION,
     .children = resolver_section,
     .help = "How names in requests are looked up."},
    {.name = "log", .type = CONFIG_SECTION, .children = log_section, .help = "The log."},
    {.name = "admin",
     .type = CONFIG_SECTION,
     .children = admin_section,
     .help = "The socket for relayctl."},
    {0},
};

__attribute__((format(printf, 4, 5))) static int complain(struct config_error *error,
                                                          const char *name,
                                                          const struct config_origin *origin,
                                                          const char *format, ...)
{
    int used = snprintf(error->text, sizeof(error->text), "%s:%u:%u: ", name, origin->line,
                        origin->column);
    if (used < 0 || (size_t)used >= sizeof(error->text))
        return -EINVAL;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text + used, sizeof(error->text) - (size_t)used, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* What no single option can know. */
static int judge_whole(const struct socksd_config *config, const char *name,
                       struct config_error *error)
{
    static const struct config_origin top = {1, 1};
    const struct relay_config *relays = config->relays.items;
    const struct rule_config *rules = config->rules.items;

    if (config->relays.count == 0)
        return complain(error, name, &top, "relays: at least one relay daemon is needed");
    for (size_t i = 0; i < config->relays.count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(relays[i].socket, relays[j].socket) == 0)
                return complain(error, name, &relays[i].origin, "relays: socket %s is named twice",
                                relays[i].socket);
    for (size_t i = 0; i < config->rules.count; i++)
        for (size_t j = 0; rules[i].name && j < i; j++)
            if (rules[j].name && strcmp(rules[i].name, rules[j].name) == 0)
                return complain(error, name, &rules[i].origin, "rules: the name %s is used twice",
                                rules[i].name);
    return 0;
}

static int finish(struct socksd_config *config, const char *name, struct config_error *error)
{
    int rc = judge_whole(config, name, error);
    if (rc < 0)
        socksd_config_free(config);
    return rc;
}

int socksd_config_load_text(struct socksd_config *config, const char *name, const char *text,
                            struct config_error *error)
{
    int rc =
        config_load_text(socksd_schema, config, sizeof(*config), name, text, strlen(text), error);
    return rc < 0 ? rc : finish(config, name, error);
}

int socksd_config_load(struct socksd_config *config, const char *path, struct config_error *error)
{
    if (!path)
        return socksd_config_load_text(config, "default", socksd_default_config, error);
    int rc = config_load_file(socksd_schema, config, sizeof(*config), path, error);
    return rc < 0 ? rc : finish(config, strcmp(path, "-") == 0 ? "(standard input)" : path, error);
}

void socksd_config_free(struct socksd_config *config)
{
    config_free(socksd_schema, config);
}
