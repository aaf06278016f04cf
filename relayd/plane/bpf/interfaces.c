/*
 * Every link that the kernel has is known, with what became of it:
 *
 *     suitable, wanted, no port  ──►  attached, or the error of trying
 *     anything else              ──►  not attached
 *
 * After lost notifications all links are read again; those that are attached are attached once
 * more, which finds out whether they are still the same.
 */
#include "relayd/plane/bpf/interfaces.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/admin/status.h"
#include "common/log/log.h"
#include "common/net/netlink.h"
#include "common/net/netlink_dump.h"
#include "relayd/plane/bpf/link_message.h"

#define LINKS_MAX 65536
#define DUMP_ATTEMPTS 5
#define DUMP_RETRY_MS 250
/* Shown by name or warned of; the rest is in the numbers. */
#define NAMES_SHOWN_MAX 16
#define WARNINGS_MAX 4

struct known_link {
    uint32_t interface;
    char name[INTERFACE_NAME_MAX + 1];
    enum link_layer layer;
    bool port;
    bool attached;
    bool seen; /* in the present reading */
    int error; /* of the last attempt to attach it; 0: none */
};

struct interfaces {
    const struct config_list *names;
    struct program *program;
    void (*changed)(void *user);
    void *user;
    struct netlink_listener *listener;
    uv_timer_t retry; /* of a reading that failed */
    struct known_link *links;
    size_t count, capacity;
    bool set_changed; /* since `changed` was last called */
};

static struct log_limit failures = LOG_LIMIT_INIT(16, 10000);

static const char *name_at(const struct config_list *names, size_t index)
{
    return ((char *const *)names->items)[index];
}

static bool is_wanted(const struct interfaces *interfaces, const char *name)
{
    for (size_t i = 0; i < interfaces->names->count; i++)
        if (strcmp(name_at(interfaces->names, i), name) == 0)
            return true;
    return interfaces->names->count == 0;
}

/* ---- one link -------------------------------------------------------------------------------- */

static struct known_link *find(struct interfaces *interfaces, uint32_t interface)
{
    for (size_t i = 0; i < interfaces->count; i++)
        if (interfaces->links[i].interface == interface)
            return &interfaces->links[i];
    return NULL;
}

static struct known_link *add(struct interfaces *interfaces, uint32_t interface)
{
    if (interfaces->count == interfaces->capacity) {
        const size_t capacity = interfaces->capacity == 0 ? 16 : interfaces->capacity * 2;
        struct known_link *links = interfaces->count < LINKS_MAX
                                       ? reallocarray(interfaces->links, capacity, sizeof(*links))
                                       : NULL;
        if (links == NULL) {
            LOG_LIMITED(&failures, LOG_LEVEL_ERROR, "interface-not-known",
                        LOG_U("interface", interface), LOG_ERRNO(ENOMEM));
            return NULL;
        }
        interfaces->links = links;
        interfaces->capacity = capacity;
    }
    struct known_link *link = &interfaces->links[interfaces->count++];
    *link = (struct known_link){.interface = interface};
    return link;
}

static void detach(struct interfaces *interfaces, struct known_link *link)
{
    if (!link->attached)
        return;
    link->attached = false;
    interfaces->set_changed = true;
    program_detach(interfaces->program, link->interface);
    LOG(LOG_LEVEL_INFO, "interface-detached", LOG_S("interface", link->name));
}

static void attach(struct interfaces *interfaces, struct known_link *link)
{
    const bool was_attached = link->attached;
    const int r = program_attach(interfaces->program, link->interface, link->layer == LINK_BARE);

    link->attached = r == 0;
    if (link->attached != was_attached)
        interfaces->set_changed = true;
    if (link->attached && !was_attached)
        LOG(LOG_LEVEL_INFO, "interface-attached", LOG_S("interface", link->name));
    /* One that goes meanwhile is told of by the kernel. */
    if (r < 0 && r != -ENODEV && r != link->error)
        LOG_LIMITED(&failures, LOG_LEVEL_WARNING, "interface-not-attached",
                    LOG_S("interface", link->name), LOG_ERRNO(r));
    link->error = r == -ENODEV ? 0 : r;
}

static bool may_attach(const struct interfaces *interfaces, const struct known_link *link)
{
    return link->layer != LINK_OTHER && !link->port && is_wanted(interfaces, link->name);
}

static void judge(struct interfaces *interfaces, const struct link_message *message, bool again)
{
    struct known_link *link = find(interfaces, message->interface);

    if (link == NULL)
        link = add(interfaces, message->interface);
    if (link == NULL)
        return;
    if (link->layer != (enum link_layer)message->layer)
        detach(interfaces, link); /* it needs the other of the two programs */
    link->layer = (enum link_layer)message->layer;
    link->port = message->port;
    link->seen = true;
    memcpy(link->name, message->name, sizeof(link->name));
    if (!may_attach(interfaces, link)) {
        detach(interfaces, link);
        link->error = 0;
    } else if (again || !link->attached) {
        attach(interfaces, link);
    }
}

static void forget(struct interfaces *interfaces, struct known_link *link)
{
    detach(interfaces, link);
    *link = interfaces->links[--interfaces->count];
}

static void report_change(struct interfaces *interfaces)
{
    if (!interfaces->set_changed)
        return;
    interfaces->set_changed = false;
    interfaces->changed(interfaces->user);
}

/* ---- all links ------------------------------------------------------------------------------- */

static int on_dumped(void *user, const struct nlmsghdr *message)
{
    struct link_message link;

    if (link_message_parse(message, &link) && !link.gone)
        judge(user, &link, true);
    return 0;
}

static int dump(struct interfaces *interfaces)
{
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
    } request = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_GETLINK},
    };
    const int fd = netlink_dump_open();
    int r = -EAGAIN;

    if (fd < 0)
        return fd;
    for (int attempt = 0; attempt < DUMP_ATTEMPTS && r == -EAGAIN; attempt++) {
        for (size_t i = 0; i < interfaces->count; i++)
            interfaces->links[i].seen = false;
        r = netlink_dump(fd, &request.header, on_dumped, interfaces);
    }
    close(fd);
    return r;
}

static int read_all(struct interfaces *interfaces)
{
    const int r = dump(interfaces);

    for (size_t i = interfaces->count; r == 0 && i-- > 0;)
        if (!interfaces->links[i].seen)
            forget(interfaces, &interfaces->links[i]);
    return r;
}

static void read_again(struct interfaces *interfaces);

static void on_retry(uv_timer_t *timer)
{
    struct interfaces *interfaces = timer->data;

    read_again(interfaces);
    report_change(interfaces);
}

static void read_again(struct interfaces *interfaces)
{
    if (read_all(interfaces) < 0)
        uv_timer_start(&interfaces->retry, on_retry, DUMP_RETRY_MS, 0);
}

/* ---- notifications --------------------------------------------------------------------------- */

static void on_message(void *user, const struct nlmsghdr *message)
{
    struct interfaces *interfaces = user;
    struct link_message link;

    if (!link_message_parse(message, &link))
        return;
    if (!link.gone) {
        judge(interfaces, &link, false);
        return;
    }
    struct known_link *known = find(interfaces, link.interface);
    if (known != NULL)
        forget(interfaces, known);
}

static void on_lost(void *user)
{
    read_again(user);
}

static void on_turn(void *user)
{
    report_change(user);
}

static const struct netlink_listener_ops listener_ops = {
    .message = on_message,
    .lost = on_lost,
    .turn = on_turn,
};

/* ---- status ---------------------------------------------------------------------------------- */

static const struct known_link *find_name(const struct interfaces *interfaces, const char *name)
{
    for (size_t i = 0; i < interfaces->count; i++)
        if (strcmp(interfaces->links[i].name, name) == 0)
            return &interfaces->links[i];
    return NULL;
}

static void __attribute__((format(printf, 3, 4)))
warn(struct admin_status *out, size_t *warnings, const char *format, ...)
{
    char text[ADMIN_TEXT_MAX + 1];
    va_list arguments;

    if ((*warnings)++ >= WARNINGS_MAX)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    admin_status_warning(out, text);
}

/* An interface that was asked for by name. */
static void warn_named(const struct interfaces *interfaces, const char *name,
                       struct admin_status *out, size_t *warnings)
{
    const struct known_link *link = find_name(interfaces, name);

    if (link == NULL)
        warn(out, warnings, "interface %s is not there", name);
    else if (link->layer == LINK_OTHER)
        warn(out, warnings, "interface %s is of a kind that the BPF plane cannot be attached to",
             name);
    else if (link->port)
        warn(out, warnings, "interface %s is a port of another one: attach that one instead", name);
}

void interfaces_status(const struct interfaces *interfaces, struct admin_status *out)
{
    size_t attached = 0, warnings = 0;

    if (interfaces == NULL)
        return;
    for (size_t i = 0; i < interfaces->names->count; i++)
        warn_named(interfaces, name_at(interfaces->names, i), out, &warnings);
    for (size_t i = 0; i < interfaces->count; i++) {
        const struct known_link *link = &interfaces->links[i];
        if (link->error != 0)
            warn(out, &warnings,
                 "the BPF plane is not attached to %s (%s): relays over it use sockets%s",
                 link->name, strerror(-link->error),
                 link->error == -EPERM ? " until relayd is started again" : "");
        if (link->attached && attached++ < NAMES_SHOWN_MAX) {
            char name[N2_LABEL_MAX + 1];
            snprintf(name, sizeof(name), "bpf_interface_%s", link->name);
            admin_status_counter(out, name, link->interface);
        }
    }
    admin_status_counter(out, "bpf_interfaces", attached);
}

bool interfaces_has(const struct interfaces *interfaces, uint32_t interface)
{
    for (size_t i = 0; i < interfaces->count; i++)
        if (interfaces->links[i].interface == interface)
            return interfaces->links[i].attached;
    return false;
}

/* ---- lifecycle ------------------------------------------------------------------------------- */

/* What is said at start: nothing that is there could be attached. */
static int first_error(const struct interfaces *interfaces)
{
    int error = 0;

    for (size_t i = 0; i < interfaces->count; i++) {
        if (interfaces->links[i].attached)
            return 0;
        if (error == 0)
            error = interfaces->links[i].error;
    }
    return error;
}

int interfaces_open(struct interfaces **out, uv_loop_t *loop, const struct relayd_config *config,
                    struct program *program, void (*changed)(void *user), void *user)
{
    static const int groups[] = {RTNLGRP_LINK};
    struct interfaces *interfaces = calloc(1, sizeof(*interfaces));
    int r;

    if (interfaces == NULL)
        return -ENOMEM;
    interfaces->names = &config->interfaces;
    interfaces->program = program;
    interfaces->changed = changed;
    interfaces->user = user;
    uv_timer_init(loop, &interfaces->retry);
    uv_unref((uv_handle_t *)&interfaces->retry);
    interfaces->retry.data = interfaces;
    /* Before the first reading, so that no change falls between. */
    r = netlink_listen(&interfaces->listener, loop, groups, 1, &listener_ops, interfaces);
    if (r == 0)
        r = read_all(interfaces);
    if (r == 0)
        r = first_error(interfaces);
    if (r < 0) {
        interfaces_close(interfaces);
        return r;
    }
    interfaces->set_changed = false;
    *out = interfaces;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct interfaces *interfaces = handle->data;

    free(interfaces->links);
    free(interfaces);
}

void interfaces_close(struct interfaces *interfaces)
{
    if (interfaces == NULL || uv_is_closing((uv_handle_t *)&interfaces->retry))
        return;
    netlink_listener_close(interfaces->listener);
    for (size_t i = 0; i < interfaces->count; i++)
        detach(interfaces, &interfaces->links[i]);
    uv_close((uv_handle_t *)&interfaces->retry, on_closed);
}
