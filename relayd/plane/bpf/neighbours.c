#include "relayd/plane/bpf/neighbours.h"

#include <linux/neighbour.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/netlink.h"
#include "common/net/sockaddr.h"

/* The kernel's NUD_VALID: it would send to the address it has. */
#define STATES_KNOWN (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)

struct neighbour_key neighbour_key(uint32_t interface, const struct ip_address *address)
{
    struct neighbour_key key = {.interface = interface, .family = (uint32_t)ip_address_af(address)};

    memcpy(key.address, address->bytes, ip_address_size(address));
    return key;
}

bool neighbour_message_parse(const struct nlmsghdr *message, struct neighbour_message *out)
{
    const struct ndmsg *neighbour = NLMSG_DATA(message);
    const struct rtattr *address, *mac;
    size_t size;

    memset(out, 0, sizeof(*out));
    if ((message->nlmsg_type != RTM_NEWNEIGH && message->nlmsg_type != RTM_DELNEIGH) ||
        message->nlmsg_len < NLMSG_LENGTH(sizeof(*neighbour)) || neighbour->ndm_ifindex <= 0 ||
        (neighbour->ndm_family != AF_INET && neighbour->ndm_family != AF_INET6) ||
        (neighbour->ndm_flags & NTF_PROXY))
        return false;
    size = neighbour->ndm_family == AF_INET ? 4 : 16;
    address = netlink_find(message, sizeof(*neighbour), NDA_DST, size);
    if (!address)
        return false;
    out->key.interface = (uint32_t)neighbour->ndm_ifindex;
    out->key.family = neighbour->ndm_family;
    memcpy(out->key.address, RTA_DATA(address), size);
    mac = netlink_find(message, sizeof(*neighbour), NDA_LLADDR, sizeof(out->mac));
    out->known = message->nlmsg_type == RTM_NEWNEIGH && (neighbour->ndm_state & STATES_KNOWN) &&
                 mac && RTA_PAYLOAD(mac) == sizeof(out->mac);
    if (out->known)
        memcpy(out->mac, RTA_DATA(mac), sizeof(out->mac));
    return true;
}

static bool update(struct neighbour *neighbour, const struct neighbour_message *message)
{
    const bool changed =
        neighbour->known != message->known ||
        (message->known && memcmp(neighbour->mac, message->mac, sizeof(neighbour->mac)) != 0);

    neighbour->known = message->known;
    memcpy(neighbour->mac, message->mac, sizeof(neighbour->mac));
    return changed;
}

struct batch {
    struct neighbour *const *neighbours;
    bool *changed;
};

static void on_answer(void *user, size_t index, int error, const struct nlmsghdr *message)
{
    const struct batch *batch = user;
    struct neighbour_message is = {0};

    (void)error;
    if (message != NULL && !neighbour_message_parse(message, &is))
        is.known = false;
    batch->changed[index] = update(batch->neighbours[index], &is);
}

void neighbours_ask(struct kernel *kernel, struct neighbour *const *neighbours, size_t count,
                    bool *changed)
{
    struct kernel_question questions[KERNEL_BATCH];
    struct batch batch = {.neighbours = neighbours, .changed = changed};

    for (size_t i = 0; i < count; i++) {
        const struct neighbour_key *key = &neighbours[i]->key;
        const struct ndmsg header = {.ndm_family = (uint8_t)key->family,
                                     .ndm_ifindex = (int)key->interface};

        kernel_question(&questions[i], RTM_GETNEIGH, &header, sizeof(header));
        kernel_question_add(&questions[i], NDA_DST, key->address, key->family == AF_INET ? 4 : 16);
    }
    kernel_ask(kernel, questions, count, on_answer, &batch);
}

struct neighbour *neighbours_get(struct neighbours *neighbours, struct kernel *kernel,
                                 const struct neighbour_key *key)
{
    struct neighbour *neighbour;
    bool changed;

    HASH_FIND(hh, neighbours->table, key, sizeof(*key), neighbour);
    if (neighbour != NULL)
        return neighbour;
    neighbour = calloc(1, sizeof(*neighbour));
    if (neighbour == NULL)
        return NULL;
    neighbour->key = *key;
    HASH_ADD(hh, neighbours->table, key, sizeof(neighbour->key), neighbour);
    if (neighbour->hh.tbl == NULL) {
        free(neighbour);
        return NULL;
    }
    if (key->family != AF_UNSPEC)
        neighbours_ask(kernel, &neighbour, 1, &changed);
    return neighbour;
}

struct neighbour *neighbours_take(struct neighbours *neighbours,
                                  const struct neighbour_message *message)
{
    struct neighbour *neighbour;

    HASH_FIND(hh, neighbours->table, &message->key, sizeof(message->key), neighbour);
    return neighbour != NULL && update(neighbour, message) ? neighbour : NULL;
}

void neighbours_release(struct neighbours *neighbours, struct neighbour *neighbour)
{
    HASH_DEL(neighbours->table, neighbour);
    free(neighbour);
}

void neighbours_clear(struct neighbours *neighbours)
{
    struct neighbour *neighbour, *next;

    HASH_ITER(hh, neighbours->table, neighbour, next)
    neighbours_release(neighbours, neighbour);
}
