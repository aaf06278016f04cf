/*
 * The interfaces that packets are redirected to, and others that the kernel has told about: what
 * link_message.h says of each. A link is asked for when a hop needs it, and followed from then on.
 */
#ifndef SOCKST_RELAYD_BPF_LINKS_H
#define SOCKST_RELAYD_BPF_LINKS_H

#include "common/keyed_hash.h"
#include "relayd/plane/bpf/kernel.h"
#include "relayd/plane/bpf/link_message.h"

/* Known at a time; one more is not remembered. */
#define LINKS_MAX 65536

struct link {
    struct link_message is; /* as the kernel has said last */
    bool doubtful;          /* notifications were lost since */
    uint16_t hops;          /* the first of its hops, their owner's; 0: none */
    UT_hash_handle hh;
};

/* Zeroed: empty. */
struct links {
    struct link *table;
};

/* What a message has changed. */
enum link_change {
    LINK_SAME = 0,
    LINK_ADDRESS, /* the link-layer address alone */
    LINK_WAYS,    /* the ways over it, and perhaps others: up or down, another MTU, new, gone */
};

/*
 * Takes a message. *out becomes the link, or NULL when there is (now) none that is remembered. A
 * link that goes stays while it has hops, as `gone`.
 */
enum link_change links_take(struct links *links, const struct link_message *message,
                            struct link **out);

/* The link, asked for where it is not known; NULL: there is none, or the kernel did not answer. */
struct link *links_get(struct links *links, struct kernel *kernel, uint32_t interface);

/* Asks again for a link that is doubtful. Returns what that has changed; the link stays. */
enum link_change links_ask(struct links *links, struct kernel *kernel, struct link *link);

/* Notifications were lost: links without hops are forgotten, the others become doubtful. */
void links_doubt(struct links *links);

/* The last of its hops has gone: forgets it where it has gone itself. */
void links_release(struct links *links, struct link *link);

void links_clear(struct links *links);

#endif
