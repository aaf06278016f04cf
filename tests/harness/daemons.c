#include "tests/harness/daemons.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/harness/wait.h"

#define CONFIG_MAX 32768
#define RELAYCTL_ARGUMENTS_MAX 8

/* Defaults, one top-level key each; %s is the lab's directory. */
static const char *const socksd_defaults[] = {
    "listen: [{address: '::', port: 1080}]",
    "relays:\n"
    "  - {ptcl: tcp, socket: %s/n2/tcp.sock}\n"
    "  - {ptcl: udp, socket: %s/n2/udp.sock}",
    "rules: [{action: allow}]",
    "admin: {socket: %s/admin/socksd.sock}",
    "log: {level: debug}",
    NULL,
};

static const char *const relayd_defaults[] = {
    "n2: {directory: %s/n2, allow-users: ['0']}",  "admin: {directory: %s/admin}", "plane: socket",
    "bind: {addresses: auto, ports: 20000-59999}", "log: {level: debug}",          NULL,
};

/* Does the override begin with the key of this default? */
static bool same_key(const char *standard, const char *override)
{
    const size_t length = strcspn(standard, ":") + 1;
    return strncmp(standard, override, length) == 0;
}

static void append(char *text, const char *line, const char *directory)
{
    const size_t used = strlen(text);
    /* Up to two places for the directory; arguments that are not used do no harm. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const int length = snprintf(text + used, CONFIG_MAX - used, line, directory, directory);
#pragma GCC diagnostic pop
    ck_assert_int_lt((int)used + length + 1, CONFIG_MAX);
    strcat(text, "\n");
}

static void write_config(struct lab *lab, const char *name, const char *const *defaults,
                         const char *const *overrides)
{
    static char text[CONFIG_MAX];
    text[0] = '\0';
    for (; *defaults != NULL; defaults++) {
        bool replaced = false;
        for (size_t i = 0; i < DAEMONS_OVERRIDES_MAX && overrides[i] != NULL; i++) {
            replaced = replaced || same_key(*defaults, overrides[i]);
        }
        if (!replaced) {
            append(text, *defaults, lab_directory(lab));
        }
    }
    for (size_t i = 0; i < DAEMONS_OVERRIDES_MAX && overrides[i] != NULL; i++) {
        const size_t used = strlen(text);
        ck_assert_uint_lt(used + strlen(overrides[i]) + 2, CONFIG_MAX);
        strcat(strcat(text, overrides[i]), "\n");
    }
    lab_write_file(lab, name, text);
}

void daemons_write_config(struct daemons *daemons, struct lab *lab,
                          const struct daemons_options *options)
{
    static const struct daemons_options none;
    if (options == NULL) {
        options = &none;
    }
    *daemons = (struct daemons){.lab = lab, .attach = options->attach};
    snprintf(daemons->n2, sizeof(daemons->n2), "%s/n2", lab_directory(lab));
    snprintf(daemons->admin, sizeof(daemons->admin), "%s/admin", lab_directory(lab));
    mkdir(daemons->n2, 0755);
    mkdir(daemons->admin, 0755);
    write_config(lab, "socksd.yaml", socksd_defaults, options->socksd);
    write_config(lab, "relayd.yaml", relayd_defaults, options->relayd);
}

void daemons_start_socksd(struct daemons *daemons)
{
    const struct process_spec spec = {
        .name = "socksd",
        .argv = {program_socksd(), "-c", lab_path(daemons->lab, "socksd.yaml")},
        .ready = true};
    daemons->socksd = process_start(daemons->lab, LAB_RELAY, &spec);
}

void daemons_start_relayd(struct daemons *daemons, const char *ptcl)
{
    const bool tcp = strcmp(ptcl, "tcp") == 0;
    const struct process_spec spec = {
        .name = tcp ? "relayd-tcp" : "relayd-udp",
        .argv = {program_relayd(), "-c", lab_path(daemons->lab, "relayd.yaml"), "--ptcl", ptcl,
                 daemons->attach != NULL ? "--attach" : NULL, daemons->attach},
        .ready = true};
    *(tcp ? &daemons->relayd_tcp : &daemons->relayd_udp) =
        process_start(daemons->lab, LAB_RELAY, &spec);
}

struct daemons daemons_start(struct lab *lab, const struct daemons_options *options)
{
    struct daemons daemons;
    daemons_write_config(&daemons, lab, options);
    if (options == NULL || !options->no_tcp) {
        daemons_start_relayd(&daemons, "tcp");
    }
    if (options == NULL || !options->no_udp) {
        daemons_start_relayd(&daemons, "udp");
    }
    if (options == NULL || !options->no_socksd) {
        daemons_start_socksd(&daemons);
        daemons_wait_connected(&daemons);
    }
    return daemons;
}

void daemons_stop(struct daemons *daemons)
{
    struct process **all[] = {&daemons->socksd, &daemons->relayd_tcp, &daemons->relayd_udp};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (*all[i] != NULL) {
            process_stop(*all[i]);
            process_free(*all[i]);
            *all[i] = NULL;
        }
    }
}

static struct process *relayctl(struct daemons *daemons, int *status, const char *first,
                                va_list more)
{
    struct process_spec spec = {
        .name = "relayctl", .argv = {program_relayctl(), "--json", "--dir", daemons->admin, first}};
    size_t count = 5;
    for (const char *argument; (argument = va_arg(more, const char *)) != NULL;) {
        ck_assert_uint_lt(count, 5 + RELAYCTL_ARGUMENTS_MAX);
        spec.argv[count++] = argument;
    }
    return process_run(daemons->lab, LAB_RELAY, &spec, 2 * PATIENCE_MS, status);
}

int daemons_relayctl_status(struct daemons *daemons, struct process **out, const char *argument,
                            ...)
{
    va_list more;
    int status;
    va_start(more, argument);
    struct process *process = relayctl(daemons, &status, argument, more);
    va_end(more);
    if (out != NULL) {
        *out = process;
    } else {
        process_free(process);
    }
    return status;
}

json_t *daemons_relayctl(struct daemons *daemons, const char *argument, ...)
{
    va_list more;
    int status;
    json_error_t error;
    va_start(more, argument);
    struct process *process = relayctl(daemons, &status, argument, more);
    va_end(more);
    ck_assert_msg(status == 0, "relayctl %s: exit status %d: %s", argument, status,
                  process_log(process));
    json_t *json = json_loads(process_output(process), 0, &error);
    ck_assert_msg(json != NULL, "relayctl --json %s: %s at %d:%d in: %s", argument, error.text,
                  error.line, error.column, process_output(process));
    process_free(process);
    return json;
}

uint64_t daemons_counter(struct daemons *daemons, const char *instance, const char *counter)
{
    uint64_t value = UINT64_MAX;
    json_t *status = daemons_relayctl(daemons, "status", NULL), *daemon;
    size_t index;
    json_array_foreach(status, index, daemon)
    {
        const char *name = json_string_value(json_object_get(daemon, "instance"));
        if (name == NULL || name[0] == '\0') {
            name = json_string_value(json_object_get(daemon, "daemon"));
        }
        const json_t *found = json_object_get(json_object_get(daemon, "counters"), counter);
        if (name != NULL && strcmp(name, instance) == 0 && found != NULL) {
            value = (uint64_t)json_integer_value(found);
        }
    }
    json_decref(status);
    return value;
}

void daemons_wait_connected(struct daemons *daemons)
{
    const uint64_t wanted = (daemons->relayd_tcp != NULL) + (daemons->relayd_udp != NULL);
    WAIT_UNTIL(daemons_counter(daemons, "socksd", "n2_connected") >= wanted, PATIENCE_MS);
}

size_t daemons_relay_count(struct daemons *daemons)
{
    json_t *relays = daemons_relayctl(daemons, "relays", NULL);
    ck_assert_msg(json_is_array(relays), "relayctl --json relays gave no array");
    const size_t count = json_array_size(relays);
    json_decref(relays);
    return count;
}

json_t *daemons_relay_at(struct daemons *daemons, struct endpoint bound)
{
    json_t *relays = daemons_relayctl(daemons, "relays", NULL), *relay, *found = NULL;
    size_t index;
    json_array_foreach(relays, index, relay)
    {
        if (strcmp(relay_text(relay, "bound"), show(bound)) == 0) {
            found = json_incref(relay);
        }
    }
    json_decref(relays);
    return found;
}

uint64_t relay_number(const json_t *relay, const char *key)
{
    const json_t *value = json_object_get(relay, key);
    ck_assert_msg(json_is_integer(value), "the relay has no number %s", key);
    return (uint64_t)json_integer_value(value);
}

const char *relay_text(const json_t *relay, const char *key)
{
    const json_t *value = json_object_get(relay, key);
    ck_assert_msg(json_is_string(value), "the relay has no text %s", key);
    return json_string_value(value);
}

uint64_t daemons_relay_number(struct daemons *daemons, struct endpoint bound, const char *key)
{
    json_t *relay = daemons_relay_at(daemons, bound);
    ck_assert_msg(relay != NULL, "no relay at %s", show(bound));
    const uint64_t number = relay_number(relay, key);
    json_decref(relay);
    return number;
}
