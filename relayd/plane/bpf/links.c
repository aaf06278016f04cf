#include "relayd/plane/bpf/links.h"

#include <errno.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/netlink.h"

static struct link *find(const struct links *links, uint32_t interface)
{
    struct link *link;

    HASH_FIND(hh, links->table, &interface, sizeof(interface), link);
    return link;
}

static struct link *add(struct links *links, const struct link_message *message)
{
    struct link *link;

    if (HASH_COUNT(links->table) >= LINKS_MAX)
        return NULL;
    link = calloc(1, sizeof(*link));
    if (link == NULL)
        return NULL;
    link->is = *message;
    HASH_ADD(hh, links->table, is.interface, sizeof(link->is.interface), link);
    if (link->hh.tbl == NULL) {
        free(link);
        return NULL;
    }
    return link;
}

static void forget(struct links *links, struct link *link)
{
    HASH_DEL(links->table, link);
    free(link);
}

static enum link_change difference(const struct link_message *old, const struct link_message *new)
{
    if (old->gone != new->gone || old->up != new->up || old->layer != new->layer ||
        old->mtu != new->mtu || old->mtu_v6 != new->mtu_v6)
        return LINK_WAYS;
    return memcmp(old->mac, new->mac, sizeof(old->mac)) != 0 ? LINK_ADDRESS : LINK_SAME;
}

enum link_change links_take(struct links *links, const struct link_message *message,
                            struct link **out)
{
    struct link *link = find(links, message->interface);
    enum link_change change;

    *out = link;
    if (link == NULL) {
        /* What it was before is not known: anything may have changed. */
        if (!message->gone)
            *out = add(links, message);
        return LINK_WAYS;
    }
    change = difference(&link->is, message);
    link->is = *message;
    link->doubtful = false;
    if (message->gone && link->hops == 0) {
        *out = NULL;
        forget(links, link);
    }
    return change;
}

struct answer {
    int error;
    struct link_message message;
};

static void on_answer(void *user, size_t index, int error, const struct nlmsghdr *message)
{
    struct answer *answer = user;

    (void)index;
    answer->error = error;
    if (message != NULL && (!link_message_parse(message, &answer->message) || answer->message.gone))
        answer->error = KERNEL_SILENT;
}

static void ask(struct kernel *kernel, uint32_t interface, struct answer *answer)
{
    const struct ifinfomsg header = {.ifi_family = AF_UNSPEC, .ifi_index = (int)interface};
    const uint32_t filter = RTEXT_FILTER_SKIP_STATS;
    struct kernel_question question;

    kernel_question(&question, RTM_GETLINK, &header, sizeof(header));
    kernel_question_add(&question, IFLA_EXT_MASK, &filter, sizeof(filter));
    kernel_ask(kernel, &question, 1, on_answer, answer);
}

struct link *links_get(struct links *links, struct kernel *kernel, uint32_t interface)
{
    struct link *link = find(links, interface);
    struct answer answer;

    if (link != NULL)
        return link->is.gone ? NULL : link;
    ask(kernel, interface, &answer);
    return answer.error == 0 ? add(links, &answer.message) : NULL;
}

enum link_change links_ask(struct links *links, struct kernel *kernel, struct link *link)
{
    struct answer answer;
    struct link *same;

    ask(kernel, link->is.interface, &answer);
    if (answer.error == -ENODEV)
        answer.message = (struct link_message){.interface = link->is.interface, .gone = true};
    else if (answer.error != 0)
        return LINK_SAME; /* still doubtful */
    return links_take(links, &answer.message, &same);
}

void links_doubt(struct links *links)
{
    struct link *link, *next;

    HASH_ITER(hh, links->table, link, next)
    {
        if (link->hops == 0)
            forget(links, link);
        else
            link->doubtful = true;
    }
}

void links_release(struct links *links, struct link *link)
{
    if (link->is.gone)
        forget(links, link);
}

void links_clear(struct links *links)
{
    struct link *link, *next;

    HASH_ITER(hh, links->table, link, next)
    forget(links, link);
}
