#include "relayd/plane/bpf/stub.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/net/netlink.h"
#include "common/net/netlink_dump.h"

#define PREFIX "sockst"

/* ---- name ------------------------------------------------------------------------------------ */

/* FNV-1a. */
static uint32_t hash(const char *text)
{
    uint32_t value = 2166136261u;

    for (; *text != '\0'; text++)
        value = (value ^ (uint8_t)*text) * 16777619u;
    return value;
}

void stub_name(const char *instance, char name[STUB_NAME_SIZE])
{
    if (sizeof(PREFIX) + strlen(instance) >= STUB_NAME_SIZE) {
        snprintf(name, STUB_NAME_SIZE, PREFIX "_%08x", hash(instance));
        return;
    }
    snprintf(name, STUB_NAME_SIZE, PREFIX ".%s", instance);
    for (char *at = name; *at != '\0'; at++)
        if (*at == '-') /* not in the names of programs */
            *at = '.';
}

/* ---- one stub -------------------------------------------------------------------------------- */

int stub_load(const struct bpf_program *model, const char *instance)
{
    char name[STUB_NAME_SIZE];

    stub_name(instance, name);
    return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, name, "Dual BSD/GPL", bpf_program__insns(model),
                         bpf_program__insn_cnt(model), NULL);
}

int stub_attach(uint32_t interface, int stub_fd, struct stub_place *out)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)interface, .attach_point = BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = stub_fd);
    int r = bpf_tc_hook_create(&hook);

    if (r < 0 && r != -EEXIST)
        return r;
    r = bpf_tc_attach(&hook, &options);
    if (r < 0)
        return r;
    *out = (struct stub_place){.handle = options.handle, .priority = options.priority};
    return 0;
}

int stub_detach(uint32_t interface, const struct stub_place *place)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)interface, .attach_point = BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, options, .handle = place->handle, .priority = place->priority);

    return bpf_tc_detach(&hook, &options);
}

bool stub_is_attached(uint32_t interface, const struct stub_place *place)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)interface, .attach_point = BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, options, .handle = place->handle, .priority = place->priority);

    return bpf_tc_query(&hook, &options) == 0;
}

/* ---- those left behind ----------------------------------------------------------------------- */

struct search {
    char prefix[STUB_NAME_SIZE + 2]; /* libbpf calls a filter "NAME:[ID]" */
    struct {
        uint32_t interface;
        struct stub_place place;
    } found[STUBS_REMOVED_MAX];
    size_t count;
};

static bool text_begins(const struct rtattr *attribute, const char *prefix)
{
    return attribute != NULL && RTA_PAYLOAD(attribute) >= strlen(prefix) &&
           memcmp(RTA_DATA(attribute), prefix, strlen(prefix)) == 0;
}

static int on_filter(void *user, const struct nlmsghdr *message)
{
    const struct tcmsg *filter = NLMSG_DATA(message);
    struct search *search = user;
    const struct rtattr *options;

    if (message->nlmsg_type != RTM_NEWTFILTER ||
        message->nlmsg_len < NLMSG_LENGTH(sizeof(*filter)) || filter->tcm_handle == 0 ||
        !text_begins(netlink_find(message, sizeof(*filter), TCA_KIND, 0), "bpf"))
        return 0;
    options = netlink_find(message, sizeof(*filter), TCA_OPTIONS, 0);
    if (options == NULL || search->count == STUBS_REMOVED_MAX ||
        !text_begins(netlink_find_within(options, 0, TCA_BPF_NAME, 0), search->prefix))
        return 0;
    search->found[search->count].interface = (uint32_t)filter->tcm_ifindex;
    search->found[search->count].place =
        (struct stub_place){.handle = filter->tcm_handle, .priority = filter->tcm_info >> 16};
    search->count++;
    return 0;
}

static int dump_filters(int fd, struct search *search, uint32_t interface)
{
    struct {
        struct nlmsghdr header;
        struct tcmsg filter;
    } request = {
        .header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg)), .nlmsg_type = RTM_GETTFILTER},
        .filter = {.tcm_ifindex = (int)interface,
                   .tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)},
    };
    const int r = netlink_dump(fd, &request.header, on_filter, search);

    return r == -ENODEV ? 0 : r; /* it has gone meanwhile */
}

static int search_all(struct search *search)
{
    struct if_nameindex *interfaces = if_nameindex();
    int fd, r;

    if (interfaces == NULL)
        return -errno;
    r = fd = netlink_dump_open();
    for (size_t i = 0; r >= 0 && interfaces[i].if_index != 0; i++)
        r = dump_filters(fd, search, interfaces[i].if_index);
    if (fd >= 0)
        close(fd);
    if_freenameindex(interfaces);
    return r < 0 ? r : 0;
}

int stubs_remove(const char *instance)
{
    static struct search search;
    char name[STUB_NAME_SIZE];
    int removed = 0, r;

    memset(&search, 0, sizeof(search));
    stub_name(instance, name);
    snprintf(search.prefix, sizeof(search.prefix), "%s:[", name);
    r = search_all(&search);
    for (size_t i = 0; i < search.count; i++) {
        const int result = stub_detach(search.found[i].interface, &search.found[i].place);
        if (result == 0)
            removed++;
        else if (r == 0 && result != -ENOENT && result != -ENODEV)
            r = result;
    }
    return r < 0 ? r : removed;
}
