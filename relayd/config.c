#include "relayd/config.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "relayd/relay/table.h"

#define AT(member) offsetof(struct relayd_config, member)
#define END                                                                                        \
    {                                                                                              \
        .name = NULL                                                                               \
    }

const struct config_keyword relayd_plane_keywords[] = {
    {"auto", PLANE_AUTO},
    {"socket", PLANE_SOCKET},
    {"bpf", PLANE_BPF},
    {NULL, 0},
};

static const struct config_keyword fragments_choices[] = {
    {"reassemble", FRAGMENTS_REASSEMBLE},
    {"drop", FRAGMENTS_DROP},
    {NULL, 0},
};

static const struct config_keyword guard_actions[] = {
    {"event", GUARD_EVENT},
    {"close", GUARD_CLOSE},
    {NULL, 0},
};

static const struct config_keyword log_levels[] = {
    {"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"notice", LOG_LEVEL_NOTICE},
    {"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},     {NULL, 0},
};

static const struct config_keyword log_formats[] = {
    {"text", LOG_FORMAT_TEXT},
    {"json", LOG_FORMAT_JSON},
    {"journal", LOG_FORMAT_JOURNAL},
    {NULL, 0},
};

static bool check_directory(const char *text, char *why, size_t size)
{
    if (text[0] != '/') {
        snprintf(why, size, "has to be an absolute path");
        return false;
    }
    return true;
}

static bool check_not_empty(const char *text, char *why, size_t size)
{
    if (text[0] == '\0') {
        snprintf(why, size, "has to be a name");
        return false;
    }
    return true;
}

/* What the kernel takes as the name of an interface. */
static bool check_interface(const char *text, char *why, size_t size)
{
    const size_t length = strlen(text);

    if (length >= 1 && length <= INTERFACE_NAME_MAX && strpbrk(text, "/: \t\r\n\v\f") == NULL &&
        strcmp(text, ".") != 0 && strcmp(text, "..") != 0) {
        return true;
    }
    snprintf(why, size, "is no name of an interface");
    return false;
}

static const struct config_option n2_options[] = {
    {.name = "directory",
     .type = CONFIG_STRING,
     .offset = AT(n2.directory),
     .standard = "/run/sockst/n2",
     .check = check_directory,
     .help = "Where the N2 socket INSTANCE.sock is made, unless a service manager hands one over."},
    {.name = "allow-users",
     .type = CONFIG_LIST,
     .element = CONFIG_STRING,
     .offset = AT(n2.allow_users),
     .max = RELAYD_ALLOW_USERS_MAX,
     .standard = "[socksd]",
     .check = check_not_empty,
     .help = "Users (names or numbers) who may order relays, besides root and relayd's own user."},
    END,
};

static const struct config_option admin_options[] = {
    {.name = "directory",
     .type = CONFIG_STRING,
     .offset = AT(admin.directory),
     .standard = "/run/sockst/admin",
     .check = check_directory,
     .help = "Where the admin socket INSTANCE.sock is made, unless a service manager hands "
             "one over."},
    {.name = "group",
     .type = CONFIG_STRING,
     .offset = AT(admin.group),
     .check = check_not_empty,
     .help = "Members of this group may use relayctl, besides root and relayd's own user; null: "
             "nobody else."},
    END,
};

static const struct config_option bind_options[] = {
    {.name = "addresses",
     .type = CONFIG_LIST,
     .element = CONFIG_ADDRESS,
     .offset = AT(bind.addresses),
     .max = 256,
     .standard = "auto",
     .flags = CONFIG_AUTO,
     .help = "Addresses on which relays listen for their clients (BND); auto: the host's own."},
    {.name = "advertise",
     .type = CONFIG_PAIRS,
     .offset = AT(bind.advertise),
     .max = 256,
     .help = "What clients are told instead of an address, behind 1:1 address translation: "
             "{private: public}."},
    {.name = "ports",
     .type = CONFIG_LIST,
     .element = CONFIG_PORT_RANGE,
     .offset = AT(bind.ports),
     .min = 1,
     .max = 64,
     .standard = "20000-59999",
     .help = "Ports on which relays listen; each relay has one of its own. The BPF plane shares "
             "them when they, or descriptors, run out."},
    END,
};

static const struct config_option egress_options[] = {
    {.name = "addresses",
     .type = CONFIG_LIST,
     .element = CONFIG_ADDRESS,
     .offset = AT(egress.addresses),
     .max = 256,
     .standard = "auto",
     .flags = CONFIG_AUTO,
     .help = "Addresses from which targets are reached; auto: the kernel chooses by its routes."},
    {.name = "ports",
     .type = CONFIG_LIST,
     .element = CONFIG_PORT_RANGE,
     .offset = AT(egress.ports),
     .max = 64,
     .standard = "auto",
     .flags = CONFIG_AUTO,
     .help = "Ports from which targets are reached; auto: the kernel's ephemeral ports, and "
             "20000-59999 on the BPF plane, which has as many relays to one destination as there "
             "are ports."},
    END,
};

static const struct config_option tcp_options[] = {
    {.name = "connect-timeout",
     .type = CONFIG_DURATION,
     .offset = AT(tcp.connect_timeout_ms),
     .min = 100,
     .max = 300000,
     .standard = "10s",
     .help = "How long a target may take to accept a connection; all addresses of a CONNECT's "
             "together."},
    {.name = "accept-timeout",
     .type = CONFIG_DURATION,
     .offset = AT(tcp.accept_timeout_ms),
     .min = 100,
     .max = 300000,
     .standard = "10s",
     .help = "How long a client may take to connect to BND after the reply, or socksd to hand its "
             "connection over (CONNECT, BIND)."},
    {.name = "bind-timeout",
     .type = CONFIG_DURATION,
     .offset = AT(tcp.bind_timeout_ms),
     .min = 100,
     .max = 86400000,
     .standard = "60s",
     .help = "How long the peer of a BIND may take to connect."},
    {.name = "fin-timeout",
     .type = CONFIG_DURATION,
     .offset = AT(tcp.fin_timeout_ms),
     .min = 100,
     .max = 86400000,
     .standard = "60s",
     .help = "How long a half-closed connection may be silent before it ends."},
    {.name = "pipe-size",
     .type = CONFIG_SIZE,
     .offset = AT(tcp.pipe_size),
     .min = 4096,
     .max = 16777216,
     .standard = "1MiB",
     .help = "Size of the pipe through which an active stream is spliced."},
    END,
};

static const struct config_option udp_options[] = {
    {.name = "idle-timeout",
     .type = CONFIG_DURATION,
     .offset = AT(udp.idle_timeout_ms),
     .max = 604800000,
     .standard = "0",
     .help =
         "A relay without a datagram for so long ends; 0: the control connection alone decides."},
    {.name = "receive-buffer",
     .type = CONFIG_SIZE,
     .offset = AT(udp.receive_buffer),
     .max = 268435456,
     .standard = "0",
     .help = "Receive buffer of a relay's sockets; 0: the kernel's default."},
    {.name = "destinations",
     .type = CONFIG_UINT,
     .offset = AT(udp.destinations),
     .min = 1,
     .max = 65536,
     .standard = "1024",
     .help = "Destinations that a UDP ASSOCIATE relay remembers; the one that was not used for the "
             "longest time makes room."},
    {.name = "fragments",
     .type = CONFIG_ENUM,
     .offset = AT(udp.fragments),
     .values = fragments_choices,
     .standard = "reassemble",
     .help = "What becomes of datagrams that a UDP ASSOCIATE client sends in fragments of its own "
             "(FRAG, RFC 1928 section 7)."},
    {.name = "full-cone",
     .type = CONFIG_BOOL,
     .offset = AT(udp.full_cone),
     .standard = "false",
     .help = "A UDP ASSOCIATE relay takes datagrams from anybody, not only from addresses that its "
             "client has sent to."},
    END,
};

static const struct config_option guard_options[] = {
    {.name = "wrong-source-per-second",
     .type = CONFIG_UINT,
     .offset = AT(guard.wrong_source_per_second),
     .max = 1000000000,
     .standard = "1000",
     .help = "More packets than this from others than its client are a flood on a relay; 0: off."},
    {.name = "action",
     .type = CONFIG_ENUM,
     .offset = AT(guard.action),
     .values = guard_actions,
     .standard = "event",
     .help = "What a flood does: event tells socksd and the log; close ends the relay as well, a "
             "lever that anybody who can forge packets may pull."},
    END,
};

static const struct config_option deny_floor_options[] = {
    {.name = "open",
     .type = CONFIG_LIST,
     .element = CONFIG_PREFIX,
     .offset = AT(deny_floor.open),
     .max = 1024,
     .standard = "[]",
     .help = "Prefixes that relays may reach although the deny floor forbids them (the host's own "
             "addresses, loopback, link-local, multicast, 0/8, 240/4)."},
    END,
};

static const struct config_option limits_options[] = {
    {.name = "relays",
     .type = CONFIG_UINT,
     .offset = AT(limits.relays),
     .min = 1,
     .max = RELAY_TABLE_MAX,
     .standard = "100000",
     .help =
         "Relays at a time. Those that sockets carry are fewer, with a warning, where the limit "
         "of open files allows no more."},
    END,
};

static const struct config_option log_options[] = {
    {.name = "level",
     .type = CONFIG_ENUM,
     .offset = AT(log.level),
     .values = log_levels,
     .standard = "info",
     .help = "The least severe events that are logged."},
    {.name = "format",
     .type = CONFIG_ENUM,
     .offset = AT(log.format),
     .values = log_formats,
     .standard = "text",
     .help = "How events are written: text or JSON lines on standard error, or the journal's own "
             "protocol."},
    END,
};

const struct config_option relayd_schema[] = {
    {.name = "n2",
     .type = CONFIG_SECTION,
     .children = n2_options,
     .help = "The interface to socksd."},
    {.name = "admin",
     .type = CONFIG_SECTION,
     .children = admin_options,
     .help = "The interface to relayctl."},
    {.name = "plane",
     .type = CONFIG_ENUM,
     .offset = AT(plane),
     .values = relayd_plane_keywords,
     .standard = "auto",
     .help = "What carries the packets: bpf is the kernel alone, socket is relayd; auto takes bpf "
             "where it can be had and can carry the relay."},
    {.name = "interfaces",
     .type = CONFIG_LIST,
     .element = CONFIG_STRING,
     .offset = AT(interfaces),
     .max = RELAYD_INTERFACES_MAX,
     .standard = "auto",
     .flags = CONFIG_AUTO,
     .check = check_interface,
     .help = "Interfaces between which the BPF plane carries packets, whether they are there yet "
             "or not; auto: every one that it can be attached to."},
    {.name = "bind", .type = CONFIG_SECTION, .children = bind_options, .help = "Towards clients."},
    {.name = "egress",
     .type = CONFIG_SECTION,
     .children = egress_options,
     .help = "Towards targets."},
    {.name = "tcp", .type = CONFIG_SECTION, .children = tcp_options, .help = "Relays of TCP."},
    {.name = "udp", .type = CONFIG_SECTION, .children = udp_options, .help = "Relays of UDP."},
    {.name = "guard",
     .type = CONFIG_SECTION,
     .children = guard_options,
     .help = "Floods of packets from strangers."},
    {.name = "deny-floor",
     .type = CONFIG_SECTION,
     .children = deny_floor_options,
     .help = "Destinations that no relay reaches, whatever socksd orders."},
    {.name = "limits", .type = CONFIG_SECTION, .children = limits_options, .help = "Maxima."},
    {.name = "log", .type = CONFIG_SECTION, .children = log_options, .help = "The log."},
    END,
};
