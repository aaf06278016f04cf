#include "common/admin/status.h"

#include <stdio.h>

void admin_status_counter(struct admin_status *status, const char *name, uint64_t value)
{
    if (status->counter_count >= ADMIN_COUNTERS_MAX)
        return;
    struct admin_counter *counter = &status->counters[status->counter_count++];
    snprintf(counter->name, sizeof(counter->name), "%s", name);
    counter->value = value;
}

void admin_status_warning(struct admin_status *status, const char *text)
{
    if (status->warning_count < ADMIN_WARNINGS_MAX)
        snprintf(status->warnings[status->warning_count++], sizeof(status->warnings[0]), "%s",
                 text);
}
