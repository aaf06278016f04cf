/*
 * The relay table: `relays`, `show` and `close`.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/output/output.h"
#include "proto/ptcl.h"
#include "relayd/ctl/ctl.h"
#include "relayd/ctl/daemons.h"

static const struct output_column columns[] = {
    {.key = "id"},
    {.key = "kind"},
    {.key = "ptcl"},
    {.key = "state"},
    {.key = "plane"},
    {.key = "plane_reason", .json_only = true},
    {.key = "source"},
    {.key = "bound"},
    {.key = "egress", .json_only = true},
    {.key = "destination"},
    {.key = "user"},
    {.key = "rule", .json_only = true},
    {.key = "daemon", .json_only = true},
    {.key = "age_ms", .right = true},
    {.key = "idle_ms", .right = true},
    {.key = "up_packets", .right = true, .json_only = true},
    {.key = "up_bytes", .right = true},
    {.key = "down_packets", .right = true, .json_only = true},
    {.key = "down_bytes", .right = true},
    {.key = "drops", .right = true},
};

#define COLUMNS (sizeof(columns) / sizeof(columns[0]))

static const char *text_or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

static void print_relay(struct output *output, const struct admin_relay *relay, const char *daemon)
{
    char id[N2_LABEL_MAX + 24], ptcl[9], process[2 * N2_LABEL_MAX + 2];

    snprintf(id, sizeof(id), "%s:%" PRIu64, relay->instance, relay->relay);
    snprintf(process, sizeof(process), "%s@%s", daemon, relay->instance);
    output_record(output);
    output_string(output, "id", id);
    output_string(output, "kind", n2_kind_name(relay->kind));
    output_string(output, "ptcl", ptcl_format(relay->ptcl, ptcl));
    output_string(output, "state", relay->state);
    output_string(output, "plane", relay->plane ? n2_plane_name(relay->plane) : NULL);
    output_string(output, "plane_reason", text_or_null(relay->plane_reason));
    output_endpoint(output, "source", &relay->source);
    output_endpoint(output, "bound", &relay->bound);
    output_endpoint(output, "egress", &relay->egress);
    output_endpoint(output, "destination", &relay->destination);
    output_string(output, "user", text_or_null(relay->user));
    output_string(output, "rule", text_or_null(relay->rule));
    output_string(output, "daemon", process);
    output_duration(output, "age_ms", relay->age_ms);
    output_duration(output, "idle_ms", relay->idle_ms);
    output_uint(output, "up_packets", relay->counters.up_packets);
    output_size(output, "up_bytes", relay->counters.up_bytes);
    output_uint(output, "down_packets", relay->counters.down_packets);
    output_size(output, "down_bytes", relay->counters.down_bytes);
    output_uint(output, "drops", relay->counters.drops);
    output_record_end(output);
}

static int finish(const struct ctl *ctl, struct output *output, int status)
{
    int result = output_end(output);

    output_free(output);
    if (result == 0)
        return status;
    ctl_error(ctl, "the output could not be written: %s", strerror(-result));
    return CTL_FAILED;
}

/* ---- relays ---------------------------------------------------------------------------------- */

/* Prints what one daemon says. Returns false, with a message, when it gave no proper answer. */
static bool print_relays_of(const struct ctl *ctl, const char *path,
                            const struct admin_request *request, struct output *output)
{
    struct client *client = NULL;
    struct admin_status status;
    struct admin_answer answer;
    int error = client_open(&client, path, ctl->timeout_ms);

    if (error < 0) {
        ctl_error(ctl, "%s: %s", path, strerror(-error));
        return false;
    }
    enum client_result result = client_status(client, &status);

    /* socksd has an admin socket too, and no relays. */
    if (result == CLIENT_END && strcmp(status.daemon, "relayd") == 0) {
        client_ask(client, request);
        while ((result = client_next(client, &answer)) == CLIENT_RECORD)
            print_relay(output, &answer.relay, status.daemon);
    }
    if (result != CLIENT_END)
        ctl_error(ctl, "%s: %s", path, client_error(client));
    client_close(client);
    return result == CLIENT_END;
}

int ctl_relays(const struct ctl *ctl, char **arguments, int count)
{
    struct admin_request request = {.type = ADMIN_RELAYS};
    struct daemons daemons;

    for (int i = 0; i < count; i++) {
        if (!ctl_filter_parse(ctl, arguments[i], &request.filter))
            return CTL_USAGE;
    }
    int error = daemons_list(&daemons, ctl->directory);

    if (error < 0) {
        ctl_error(ctl, "%s: %s", ctl->directory, strerror(-error));
        return CTL_UNREACHABLE;
    }
    int status = CTL_OK;
    struct output *output = output_new(ctl->json ? OUTPUT_JSON : OUTPUT_TABLE, ctl->out, false);

    if (!output) {
        daemons_free(&daemons);
        ctl_error(ctl, "%s", strerror(ENOMEM));
        return CTL_FAILED;
    }
    if (daemons.count == 0) {
        ctl_error(ctl, "%s: no daemon has a socket there", ctl->directory);
        status = CTL_UNREACHABLE;
    }
    output_begin(output, columns, COLUMNS);
    for (size_t i = 0; i < daemons.count; i++) {
        if (!print_relays_of(ctl, daemons.paths[i], &request, output))
            status = CTL_UNREACHABLE;
    }
    daemons_free(&daemons);
    return finish(ctl, output, status);
}

/* ---- one relay ------------------------------------------------------------------------------- */

/* Asks every daemon whether it is the instance. Returns CTL_OK with *out, or an error that was
 * told. */
static int search(const struct ctl *ctl, const char *instance, struct client **out)
{
    struct daemons daemons;
    struct admin_status status;
    int result = CTL_FAILED, error = daemons_list(&daemons, ctl->directory);

    if (error < 0) {
        ctl_error(ctl, "%s: %s", ctl->directory, strerror(-error));
        return CTL_UNREACHABLE;
    }
    for (size_t i = 0; i < daemons.count && result != CTL_OK; i++) {
        struct client *client = NULL;

        error = client_open(&client, daemons.paths[i], ctl->timeout_ms);
        enum client_result asked = error < 0 ? CLIENT_BROKEN : client_status(client, &status);

        if (asked == CLIENT_END && strcmp(status.instance, instance) == 0) {
            *out = client;
            result = CTL_OK;
            break;
        }
        if (asked != CLIENT_END) {
            ctl_error(ctl, "%s: %s", daemons.paths[i],
                      client ? client_error(client) : strerror(-error));
            result = CTL_UNREACHABLE;
        }
        client_close(client);
    }
    daemons_free(&daemons);
    if (result == CTL_FAILED)
        ctl_error(ctl, "%s: no such instance", instance);
    return result;
}

/* Parses an id and connects to the daemon that has it. */
static int connect_to_owner(const struct ctl *ctl, const char *id, uint64_t *relay,
                            struct client **out)
{
    char instance[N2_LABEL_MAX + 1];

    if (!ctl_id_parse(id, instance, relay)) {
        ctl_error(ctl, "%s: not the id of a relay (instance:number)", id);
        return CTL_USAGE;
    }
    char *path = daemons_path(ctl->directory, instance);

    if (!path) {
        ctl_error(ctl, "%s", strerror(ENOMEM));
        return CTL_FAILED;
    }
    int error = client_open(out, path, ctl->timeout_ms);

    if (error < 0 && error != -ENOENT)
        ctl_error(ctl, "%s: %s", path, strerror(-error));
    free(path);
    if (error == -ENOENT)
        return search(ctl, instance, out);
    return error < 0 ? CTL_UNREACHABLE : CTL_OK;
}

/* The exit status for the end of an answer, with a message unless all is well. */
static int conclude(const struct ctl *ctl, const char *id, const struct client *client,
                    enum client_result result)
{
    if (result == CLIENT_END)
        return CTL_OK;
    ctl_error(ctl, "%s: %s", id, client_error(client));
    return result == CLIENT_REFUSED ? CTL_FAILED : CTL_UNREACHABLE;
}

int ctl_show(const struct ctl *ctl, char **arguments, int count)
{
    struct admin_request request = {.type = ADMIN_SHOW};
    struct admin_answer record, end;
    struct client *client = NULL;
    int status = connect_to_owner(ctl, arguments[0], &request.relay, &client);

    (void)count;
    if (status != CTL_OK)
        return status;
    client_ask(client, &request);
    enum client_result result = client_next(client, &record);

    if (result == CLIENT_RECORD)
        result = client_next(client, &end);
    status = conclude(ctl, arguments[0], client, result);
    client_close(client);
    if (status != CTL_OK)
        return status;
    struct output *output = output_new(ctl->json ? OUTPUT_JSON : OUTPUT_LINES, ctl->out, true);

    if (!output) {
        ctl_error(ctl, "%s", strerror(ENOMEM));
        return CTL_FAILED;
    }
    output_begin(output, columns, COLUMNS);
    print_relay(output, &record.relay, "relayd");
    return finish(ctl, output, CTL_OK);
}

int ctl_close(const struct ctl *ctl, char **arguments, int count)
{
    static const struct output_column closed[] = {{.key = "id"}, {.key = "closed"}};
    struct admin_request request = {.type = ADMIN_CLOSE};
    struct admin_answer answer;
    struct client *client = NULL;
    int status = connect_to_owner(ctl, arguments[0], &request.relay, &client);

    (void)count;
    if (status != CTL_OK)
        return status;
    client_ask(client, &request);
    status = conclude(ctl, arguments[0], client, client_next(client, &answer));
    client_close(client);
    if (status != CTL_OK || !ctl->json)
        return status;
    struct output *output = output_new(OUTPUT_JSON, ctl->out, true);

    if (!output) {
        ctl_error(ctl, "%s", strerror(ENOMEM));
        return CTL_FAILED;
    }
    output_begin(output, closed, 2);
    output_record(output);
    output_string(output, "id", arguments[0]);
    output_bool(output, "closed", true);
    output_record_end(output);
    return finish(ctl, output, CTL_OK);
}
