#include "relayd/plane/bpf/hops.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/admin/status.h"
#include "relayd/plane/bpf/neighbours.h"

/* Rested rows given another life whenever one is needed: their number shrinks. */
#define RECLAIMED_AT_ONCE 2

/* What relayd knows of a row besides. Lists are chained by the numbers of rows; 0 ends them. */
struct hop {
    struct link *link; /* NULL: the row is free */
    struct neighbour *neighbour;
    uint64_t rests_since_ms; /* without references */
    uint32_t mtu;
    uint32_t references;
    uint16_t sibling;                  /* the same neighbour's next, with another MTU */
    uint16_t link_next, link_previous; /* the same link's */
    uint16_t next, previous;           /* resting: by time; free: next alone */
};

struct hops {
    struct bpf_hop *rows;
    struct kernel *kernel;
    struct links links;
    struct neighbours neighbours;
    uint32_t used_once;             /* rows from here on never had a meaning */
    uint16_t free;                  /* the first one */
    uint16_t rest_first, rest_last; /* oldest, youngest */
    uint32_t doubtful; /* rows from here on may be out of date; `used_once` or more: none */
    struct hop hops[BPF_HOPS_MAX];
};

/* ---- the program's rows ---------------------------------------------------------------------- */

/*
 * The program reads a row while it is written here. So the addresses are written as whole words: a
 * destination that is half old and half new is never there to be read. And while they do not belong
 * together the state says that they are not to be used.
 */
struct mac_words {
    uint64_t first;  /* destination, and two octets of the source */
    uint32_t second; /* the rest of the source */
};
_Static_assert(offsetof(struct bpf_hop, destination_mac) % 8 == 0 &&
                   offsetof(struct bpf_hop, source_mac) ==
                       offsetof(struct bpf_hop, destination_mac) + 6,
               "the addresses are two aligned words");

static struct mac_words words_of(const uint8_t destination[6], const uint8_t source[6])
{
    uint8_t octets[12];
    struct mac_words words;

    memcpy(octets, destination, 6);
    memcpy(octets + 6, source, 6);
    memcpy(&words.first, octets, 8);
    memcpy(&words.second, octets + 8, 4);
    return words;
}

static void write_state(struct bpf_hop *row, uint32_t state)
{
    __atomic_store_n(&row->state, state, __ATOMIC_SEQ_CST);
}

static void write_direct(struct bpf_hop *row, const uint8_t destination[6], const uint8_t source[6])
{
    const struct mac_words new = words_of(destination, source),
                           old = words_of(row->destination_mac, row->source_mac);
    uint64_t *first = (uint64_t *)(void *)row->destination_mac;
    uint32_t *second = (uint32_t *)(void *)(row->destination_mac + 8);

    if (new.first != old.first || new.second != old.second) {
        if (row->state == BPF_HOP_DIRECT)
            write_state(row, BPF_HOP_ASK);
        __atomic_store_n(first, new.first, __ATOMIC_SEQ_CST);
        __atomic_store_n(second, new.second, __ATOMIC_SEQ_CST);
    }
    write_state(row, BPF_HOP_DIRECT);
}

static void write_row(struct hops *hops, uint16_t number)
{
    const struct hop *hop = &hops->hops[number];
    const struct link_message *link = &hop->link->is;
    struct bpf_hop *row = &hops->rows[number];

    if (link->gone || !link->up || link->layer == LINK_OTHER)
        write_state(row, BPF_HOP_DOWN);
    else if (link->layer == LINK_BARE)
        write_state(row, BPF_HOP_BARE);
    else if (hop->neighbour->known)
        write_direct(row, hop->neighbour->mac, link->mac);
    else
        write_state(row, BPF_HOP_ASK);
}

static void write_rows_of_link(struct hops *hops, const struct link *link)
{
    for (uint16_t row = link->hops; row != 0; row = hops->hops[row].link_next)
        write_row(hops, row);
}

static void write_rows_of_neighbour(struct hops *hops, const struct neighbour *neighbour)
{
    for (uint16_t row = neighbour->hops; row != 0; row = hops->hops[row].sibling)
        write_row(hops, row);
}

/* The row is DOWN. */
static void begin_row(struct hops *hops, uint16_t number)
{
    const struct hop *hop = &hops->hops[number];
    struct bpf_hop *row = &hops->rows[number];

    row->interface = hop->link->is.interface;
    row->mtu = hop->mtu;
    row->family = hop->neighbour->key.family;
    memcpy(row->gateway, hop->neighbour->key.address, sizeof(row->gateway));
    row->refreshed_ns = 0;
    write_row(hops, number);
}

/* ---- rows that rest, and free ones ----------------------------------------------------------- */

static void rest_add(struct hops *hops, uint16_t row)
{
    struct hop *hop = &hops->hops[row];

    hop->next = 0;
    hop->previous = hops->rest_last;
    if (hop->previous != 0)
        hops->hops[hop->previous].next = row;
    else
        hops->rest_first = row;
    hops->rest_last = row;
}

static void rest_remove(struct hops *hops, uint16_t row)
{
    const struct hop *hop = &hops->hops[row];

    if (hop->previous != 0)
        hops->hops[hop->previous].next = hop->next;
    else
        hops->rest_first = hop->next;
    if (hop->next != 0)
        hops->hops[hop->next].previous = hop->previous;
    else
        hops->rest_last = hop->previous;
}

static void leave_link(struct hops *hops, const struct hop *hop)
{
    if (hop->link_previous != 0)
        hops->hops[hop->link_previous].link_next = hop->link_next;
    else
        hop->link->hops = hop->link_next;
    if (hop->link_next != 0)
        hops->hops[hop->link_next].link_previous = hop->link_previous;
    if (hop->link->hops == 0)
        links_release(&hops->links, hop->link);
}

static void leave_neighbour(struct hops *hops, uint16_t row, const struct hop *hop)
{
    uint16_t *place = &hop->neighbour->hops;

    while (*place != row)
        place = &hops->hops[*place].sibling;
    *place = hop->sibling;
    if (hop->neighbour->hops == 0)
        neighbours_release(&hops->neighbours, hop->neighbour);
}

/* The oldest one that rests; false: there is none that has rested long enough. */
static bool reclaim(struct hops *hops, uint64_t now_ms)
{
    const uint16_t row = hops->rest_first;
    struct hop *hop = &hops->hops[row];

    if (row == 0 || now_ms - hop->rests_since_ms < HOPS_REST_MS)
        return false;
    rest_remove(hops, row);
    write_state(&hops->rows[row], BPF_HOP_DOWN);
    leave_link(hops, hop);
    leave_neighbour(hops, row, hop);
    *hop = (struct hop){.next = hops->free};
    hops->free = row;
    return true;
}

/* A row without meaning; 0: all are in use or have to rest. */
static uint16_t take_free(struct hops *hops)
{
    const uint16_t row = hops->free;

    if (row != 0)
        hops->free = hops->hops[row].next;
    else if (hops->used_once < BPF_HOPS_MAX)
        return (uint16_t)hops->used_once++;
    return row;
}

/* ---- references ------------------------------------------------------------------------------ */

const struct link_message *hops_link(struct hops *hops, uint32_t interface)
{
    const struct link *link = links_get(&hops->links, hops->kernel, interface);

    return link != NULL ? &link->is : NULL;
}

static int make(struct hops *hops, struct link *link, struct neighbour *neighbour, uint32_t mtu)
{
    const uint16_t row = take_free(hops);
    struct hop *hop = &hops->hops[row];

    if (row == 0)
        return -ENOSPC;
    *hop = (struct hop){.link = link,
                        .neighbour = neighbour,
                        .mtu = mtu,
                        .sibling = neighbour->hops,
                        .link_next = link->hops};
    neighbour->hops = row;
    if (link->hops != 0)
        hops->hops[link->hops].link_previous = row;
    link->hops = row;
    begin_row(hops, row);
    return row;
}

int hops_get(struct hops *hops, uint32_t interface, const struct ip_address *gateway, uint32_t mtu,
             uint64_t now_ms)
{
    static const struct ip_address far_end;
    struct neighbour_key key;
    struct neighbour *neighbour;
    struct link *link;
    int row;

    for (int i = 0; i < RECLAIMED_AT_ONCE; i++)
        if (!reclaim(hops, now_ms))
            break;
    link = links_get(&hops->links, hops->kernel, interface);
    if (link == NULL || link->is.layer == LINK_OTHER)
        return -ENODEV;
    key = neighbour_key(interface, link->is.layer == LINK_BARE ? &far_end : gateway);
    neighbour = neighbours_get(&hops->neighbours, hops->kernel, &key);
    if (neighbour == NULL)
        return -ENOMEM;
    row = neighbour->hops;
    while (row != 0 && hops->hops[row].mtu != mtu)
        row = hops->hops[row].sibling;
    if (row == 0) {
        row = make(hops, link, neighbour, mtu);
        if (row < 0 && neighbour->hops == 0)
            neighbours_release(&hops->neighbours, neighbour);
        if (row < 0)
            return row;
    } else if (hops->hops[row].references == 0) {
        rest_remove(hops, (uint16_t)row);
    }
    hops->hops[row].references++;
    return row;
}

void hops_put(struct hops *hops, uint16_t row, uint64_t now_ms)
{
    struct hop *hop = &hops->hops[row];

    if (row == 0)
        return;
    assert(hop->references > 0);
    if (--hop->references > 0)
        return;
    hop->rests_since_ms = now_ms;
    rest_add(hops, row);
}

/* ---- what the kernel tells ------------------------------------------------------------------- */

bool hops_message(struct hops *hops, const struct nlmsghdr *message)
{
    struct neighbour_message neighbour_is;
    struct neighbour *neighbour;
    struct link_message link_is;
    enum link_change change;
    struct link *link;

    if (neighbour_message_parse(message, &neighbour_is)) {
        neighbour = neighbours_take(&hops->neighbours, &neighbour_is);
        if (neighbour != NULL)
            write_rows_of_neighbour(hops, neighbour);
        return false;
    }
    if (!link_message_parse(message, &link_is))
        return false;
    change = links_take(&hops->links, &link_is, &link);
    if (change != LINK_SAME && link != NULL)
        write_rows_of_link(hops, link);
    return change == LINK_WAYS;
}

void hops_doubt(struct hops *hops)
{
    links_doubt(&hops->links);
    hops->doubtful = 1;
}

bool hops_ask_again(struct hops *hops)
{
    struct neighbour *neighbours[KERNEL_BATCH];
    bool changed[KERNEL_BATCH];
    size_t count = 0;

    for (; count < KERNEL_BATCH && hops->doubtful < hops->used_once; hops->doubtful++) {
        const struct hop *hop = &hops->hops[hops->doubtful];

        if (hop->link == NULL)
            continue;
        if (hop->link->doubtful && links_ask(&hops->links, hops->kernel, hop->link) != LINK_SAME)
            write_rows_of_link(hops, hop->link);
        if (hop->neighbour->key.family != AF_UNSPEC)
            neighbours[count++] = hop->neighbour;
    }
    if (count > 0)
        neighbours_ask(hops->kernel, neighbours, count, changed);
    for (size_t i = 0; i < count; i++)
        if (changed[i])
            write_rows_of_neighbour(hops, neighbours[i]);
    return hops->doubtful < hops->used_once;
}

/* ---- the whole ------------------------------------------------------------------------------- */

void hops_status(const struct hops *hops, struct admin_status *out)
{
    static const char *const names[] = {[BPF_HOP_DOWN] = "hops_down",
                                        [BPF_HOP_ASK] = "hops_ask",
                                        [BPF_HOP_DIRECT] = "hops_direct",
                                        [BPF_HOP_BARE] = "hops_bare"};
    uint32_t counts[sizeof(names) / sizeof(names[0])] = {0};

    for (uint32_t row = 1; row < hops->used_once; row++)
        if (hops->hops[row].references > 0)
            counts[hops->rows[row].state]++;
    for (size_t state = 0; state < sizeof(names) / sizeof(names[0]); state++)
        admin_status_counter(out, names[state], counts[state]);
}

int hops_open(struct hops **out, struct bpf_hop *rows, struct kernel *kernel)
{
    /* Pages that no row needs are never touched. */
    struct hops *hops = calloc(1, sizeof(*hops));

    if (hops == NULL)
        return -ENOMEM;
    hops->rows = rows;
    hops->kernel = kernel;
    hops->used_once = 1;
    hops->doubtful = BPF_HOPS_MAX;
    *out = hops;
    return 0;
}

void hops_close(struct hops *hops)
{
    if (hops == NULL)
        return;
    links_clear(&hops->links);
    neighbours_clear(&hops->neighbours);
    free(hops);
}
