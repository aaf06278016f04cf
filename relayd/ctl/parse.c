/*
 * What is typed on the command line: filters and ids.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/ctl/ctl.h"
#include "relayd/ctl/daemons.h"

static bool parse_kind(const char *text, struct admin_filter *filter)
{
    for (int kind = 1; kind < N2_KIND_END; kind++) {
        if (strcmp(text, n2_kind_name((enum n2_kind)kind)) == 0)
            filter->kind = (enum n2_kind)kind;
    }
    return filter->kind != 0;
}

static bool parse_plane(const char *text, struct admin_filter *filter)
{
    for (int plane = 1; plane < N2_PLANE_END; plane++) {
        if (strcmp(text, n2_plane_name((enum n2_plane)plane)) == 0)
            filter->plane = (enum n2_plane)plane;
    }
    return filter->plane != 0;
}

static bool parse_source(const char *text, struct admin_filter *filter)
{
    return ip_address_parse(text, &filter->source) == 0;
}

static bool parse_destination(const char *text, struct admin_filter *filter)
{
    return ip_address_parse(text, &filter->destination) == 0;
}

static bool parse_user(const char *text, struct admin_filter *filter)
{
    size_t length = strlen(text);

    if (length == 0 || length > N2_USER_MAX)
        return false;
    memcpy(filter->user, text, length + 1);
    return true;
}

static bool has_kind(const struct admin_filter *filter)
{
    return filter->kind != 0;
}

static bool has_plane(const struct admin_filter *filter)
{
    return filter->plane != 0;
}

static bool has_source(const struct admin_filter *filter)
{
    return filter->source.family != IP_NONE;
}

static bool has_destination(const struct admin_filter *filter)
{
    return filter->destination.family != IP_NONE;
}

static bool has_user(const struct admin_filter *filter)
{
    return filter->user[0] != '\0';
}

static const struct {
    const char *key, *what;
    bool (*parse)(const char *text, struct admin_filter *filter);
    bool (*is_set)(const struct admin_filter *filter);
} filters[] = {
    {"kind=", "transparent, connect, bind or udp-associate", parse_kind, has_kind},
    {"plane=", "socket or bpf", parse_plane, has_plane},
    {"source=", "an address", parse_source, has_source},
    {"destination=", "an address", parse_destination, has_destination},
    {"user=", "a name of 1-255 octets", parse_user, has_user},
};

bool ctl_filter_parse(const struct ctl *ctl, const char *text, struct admin_filter *filter)
{
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        size_t length = strlen(filters[i].key);

        if (strncmp(text, filters[i].key, length) != 0)
            continue;
        if (filters[i].is_set(filter)) {
            ctl_error(ctl, "%s is given twice", filters[i].key);
            return false;
        }
        if (filters[i].parse(text + length, filter))
            return true;
        ctl_error(ctl, "%s: expected %s", text, filters[i].what);
        return false;
    }
    ctl_error(ctl, "%s: not a filter (kind=, plane=, source=, destination=, user=)", text);
    return false;
}

bool ctl_id_parse(const char *text, char instance[N2_LABEL_MAX + 1], uint64_t *relay)
{
    const char *colon = strchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;

    if (!daemons_instance_is_valid(text, length))
        return false;
    const char *number = colon + 1;

    /* strtoull would take white space and signs. */
    if (number[0] < '1' || number[0] > '9' || strspn(number, "0123456789") != strlen(number))
        return false;
    errno = 0;
    *relay = strtoull(number, NULL, 10);
    if (errno != 0)
        return false;
    memcpy(instance, text, length);
    instance[length] = '\0';
    return true;
}
