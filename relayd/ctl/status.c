#include <errno.h>
#include <string.h>

#include "common/output/output.h"
#include "proto/ptcl.h"
#include "relayd/ctl/ctl.h"
#include "relayd/ctl/daemons.h"

static const struct output_column columns[] = {
    {.key = "daemon"},    {.key = "instance"}, {.key = "version"},
    {.key = "state"},     {.key = "pid"},      {.key = "ptcl"},
    {.key = "uptime_ms"}, {.key = "counters"}, {.key = "warnings"},
};

/* People are shown the counters that have counted, programs all of them. */
static void print_status(struct output *output, const struct admin_status *status, bool all)
{
    const char *warnings[ADMIN_WARNINGS_MAX];
    char ptcl[9];

    for (size_t i = 0; i < status->warning_count; i++)
        warnings[i] = status->warnings[i];
    output_record(output);
    output_string(output, "daemon", status->daemon);
    output_string(output, "instance", status->instance[0] ? status->instance : NULL);
    output_string(output, "version", status->version);
    output_string(output, "state", status->state);
    output_uint(output, "pid", status->pid);
    output_string(output, "ptcl", status->ptcl ? ptcl_format(status->ptcl, ptcl) : NULL);
    output_duration(output, "uptime_ms", status->uptime_ms);
    output_counters_begin(output, "counters");
    for (size_t i = 0; i < status->counter_count; i++) {
        if (all || status->counters[i].value > 0)
            output_uint(output, status->counters[i].name, status->counters[i].value);
    }
    output_counters_end(output);
    output_strings(output, "warnings", warnings, status->warning_count);
    output_record_end(output);
}

/* Prints what one daemon says. Returns false, with a message, when it gave no proper answer. */
static bool print_status_of(const struct ctl *ctl, const char *path, struct output *output)
{
    struct client *client = NULL;
    struct admin_status status;
    int error = client_open(&client, path, ctl->timeout_ms);

    if (error < 0) {
        ctl_error(ctl, "%s: %s", path, strerror(-error));
        return false;
    }
    enum client_result result = client_status(client, &status);

    if (result == CLIENT_END)
        print_status(output, &status, ctl->json);
    else
        ctl_error(ctl, "%s: %s", path, client_error(client));
    client_close(client);
    return result == CLIENT_END;
}

int ctl_status(const struct ctl *ctl, char **arguments, int count)
{
    struct daemons daemons;
    int status = CTL_OK, error = daemons_list(&daemons, ctl->directory);

    (void)arguments;
    (void)count;
    if (error < 0) {
        ctl_error(ctl, "%s: %s", ctl->directory, strerror(-error));
        return CTL_UNREACHABLE;
    }
    struct output *output = output_new(ctl->json ? OUTPUT_JSON : OUTPUT_LINES, ctl->out, false);

    if (!output) {
        daemons_free(&daemons);
        ctl_error(ctl, "%s", strerror(ENOMEM));
        return CTL_FAILED;
    }
    if (daemons.count == 0) {
        ctl_error(ctl, "%s: no daemon has a socket there", ctl->directory);
        status = CTL_UNREACHABLE;
    }
    output_begin(output, columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; i < daemons.count; i++) {
        if (!print_status_of(ctl, daemons.paths[i], output))
            status = CTL_UNREACHABLE;
    }
    daemons_free(&daemons);
    error = output_end(output);
    output_free(output);
    if (error == 0)
        return status;
    ctl_error(ctl, "the output could not be written: %s", strerror(-error));
    return CTL_FAILED;
}
