/*
 * socksd.yaml as a struct, and the schema that fills it.
 */
#ifndef SOCKST_SOCKSD_CONFIG_H
#define SOCKST_SOCKSD_CONFIG_H

#include "common/config/schema.h"

#define CONFIG_LISTEN_MAX 64
#define CONFIG_RELAYS_MAX 64
#define CONFIG_RULES_MAX 4096

struct listen_config {
    struct config_origin origin;
    struct ip_address address; /* :: takes IPv4 too, unless an IPv4 address has the same port */
    uint64_t port;
};

struct relay_config {
    struct config_origin origin;
    char *ptcl; /* name or number; ptcl_by_name() knows it */
    char *socket;
};

enum rule_action { RULE_DENY, RULE_ALLOW };

struct rule_config {
    struct config_origin origin;
    char *name;                  /* NULL: "rule-N", counted from 1 */
    int action;                  /* enum rule_action */
    struct config_list from;     /* struct ip_prefix */
    struct config_list commands; /* int, enum n1_command */
    struct config_list ptcl;     /* char * */
    struct config_list to;       /* char *: prefix, name or .suffix */
    struct config_list ports;    /* struct port_range */
    bool foreign_source;
};

struct socksd_config {
    struct config_list listen; /* struct listen_config */
    struct {
        struct config_list methods; /* int, enum n1_method, in order of preference */
    } auth;
    struct config_list relays; /* struct relay_config */
    char *relays_user;
    struct config_list rules; /* struct rule_config */
    struct {
        struct config_list open; /* struct ip_prefix */
    } deny_floor;
    struct {
        uint64_t sessions, sessions_per_address;
        uint64_t handshake_timeout_ms, relay_timeout_ms;
    } limits;
    struct {
        bool learn_source_port;
    } transparent;
    struct {
        uint64_t idle_ms, interval_ms, count;
    } keepalive;
    struct {
        struct config_list servers; /* char * */
        uint64_t timeout_ms, tries, queries, queries_per_address;
    } resolver;
    struct {
        int level, format; /* enum log_level, enum log_format */
    } log;
    struct {
        char *socket; /* NULL: none */
        char *group;  /* NULL: root and our own uid alone */
    } admin;
};

extern const struct config_option socksd_schema[];

/* What runs without -c: 127.0.0.1:1080, relayd of TCP and UDP in /run/sockst/n2, clients of this
 * host only. */
extern const char socksd_default_config[];

/*
 * Loads and then judges across options (a relay daemon is named, names of rules differ). `path`
 * NULL: the embedded default;
 * "-": standard input. Returns 0, or -errno with error->text set and nothing to free.
 */
int socksd_config_load(struct socksd_config *config, const char *path, struct config_error *error);
/* The same from text in memory. */
int socksd_config_load_text(struct socksd_config *config, const char *name, const char *text,
                            struct config_error *error);
void socksd_config_free(struct socksd_config *config);

#endif
