/*
 * The rows of the table of hops, as the program sees them. PLANE-WAY-090, -100, -110, -120, -130,
 * -160, -170.
 */
#include <check.h>
#include <errno.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/keyed_hash.h"
#include "common/net/netlink.h"
#include "relayd/plane/bpf/hops.h"
#include "relayd/plane/bpf/neighbours.h"
#include "tests/unit/relayd/fake_kernel.h"

static const uint8_t mac_a[6] = {2, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa};
static const uint8_t mac_b[6] = {2, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb};

static struct bpf_hop *rows;
static struct kernel *kernel;
static struct hops *hops;
static uint64_t now_ms;

static void setup(void)
{
    ck_assert_int_eq(keyed_hash_setup(), 0);
    fake_kernel_reset();
    rows = calloc(BPF_HOPS_MAX, sizeof(*rows));
    ck_assert_ptr_nonnull(rows);
    ck_assert_int_eq(kernel_open(&kernel), 0);
    ck_assert_int_eq(hops_open(&hops, rows, kernel), 0);
    now_ms = 1000;
}

static void teardown(void)
{
    hops_close(hops);
    hops_close(NULL);
    kernel_close(kernel);
    free(rows);
}

static struct ip_address address(unsigned number)
{
    const uint8_t octets[4] = {10, (uint8_t)(number >> 16), (uint8_t)(number >> 8),
                               (uint8_t)number};

    return ip_address_v4(octets);
}

static int get(uint32_t interface, unsigned gateway, uint32_t mtu)
{
    const struct ip_address next = address(gateway);

    return hops_get(hops, interface, &next, mtu, now_ms);
}

static void put(int row)
{
    hops_put(hops, (uint16_t)row, now_ms);
}

static void neighbour(unsigned number, uint16_t state, const uint8_t mac[6])
{
    const struct ip_address name = address(number);

    ck_assert(!hops_message(hops, neighbour_message(RTM_NEWNEIGH, 5, &name, state, mac)));
}

static bool link_says(uint16_t type)
{
    return hops_message(hops, link_message(type, 5));
}

START_TEST(a_row_says_where_packets_leave)
{
    const int row = get(5, 1, 1400);
    const struct ip_address gateway = address(1);

    ck_assert_int_eq(row, 1); /* row 0 is never used */
    ck_assert_uint_eq(rows[row].interface, 5);
    ck_assert_uint_eq(rows[row].mtu, 1400);
    ck_assert_uint_eq(rows[row].family, AF_INET);
    ck_assert_mem_eq(rows[row].gateway, gateway.bytes, 4);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_ASK);
    put(row);
}
END_TEST

START_TEST(one_row_for_each_interface_gateway_and_mtu)
{
    const int row = get(5, 1, 1500);

    ck_assert_int_eq(get(5, 1, 1500), row);
    const int mtu = get(5, 1, 1400), gateway = get(5, 2, 1500), interface = get(6, 1, 1500);
    ck_assert_int_ne(mtu, row);
    ck_assert_int_ne(gateway, row);
    ck_assert_int_ne(interface, row);
    /* Both rows of the neighbour hear of it. */
    neighbour(1, NUD_REACHABLE, mac_a);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DIRECT);
    ck_assert_uint_eq(rows[mtu].state, BPF_HOP_DIRECT);
    ck_assert_uint_eq(rows[gateway].state, BPF_HOP_ASK);
    ck_assert_uint_eq(rows[interface].state, BPF_HOP_ASK);
    put(row);
    put(row);
    put(mtu);
    put(gateway);
    put(interface);
}
END_TEST

START_TEST(the_neighbour_makes_it_direct)
{
    static const uint16_t known[] = {NUD_PERMANENT, NUD_NOARP, NUD_REACHABLE,
                                     NUD_PROBE,     NUD_STALE, NUD_DELAY};
    static const uint16_t unknown[] = {NUD_NONE, NUD_INCOMPLETE, NUD_FAILED};
    const int row = get(5, 1, 1500);
    const struct ip_address name = address(1);

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        neighbour(1, known[i], i % 2 ? mac_a : mac_b);
        ck_assert_uint_eq(rows[row].state, BPF_HOP_DIRECT);
        ck_assert_mem_eq(rows[row].destination_mac, i % 2 ? mac_a : mac_b, 6);
        ck_assert_mem_eq(rows[row].source_mac, fake_kernel.link_mac, 6);
        neighbour(1, unknown[i % 3], i % 2 ? mac_a : NULL);
        ck_assert_uint_eq(rows[row].state, BPF_HOP_ASK);
    }
    neighbour(1, NUD_REACHABLE, mac_a);
    hops_message(hops, neighbour_message(RTM_DELNEIGH, 5, &name, NUD_REACHABLE, mac_a));
    ck_assert_uint_eq(rows[row].state, BPF_HOP_ASK);
    /* What is known already when the row is made. */
    fake_kernel.neighbour_known = true;
    memcpy(fake_kernel.neighbour_mac, mac_b, 6);
    const int other = get(5, 2, 1500);
    ck_assert_uint_eq(rows[other].state, BPF_HOP_DIRECT);
    ck_assert_mem_eq(rows[other].destination_mac, mac_b, 6);
    put(row);
    put(other);
}
END_TEST

START_TEST(the_link_decides_above_all)
{
    const int row = get(5, 1, 1500);

    neighbour(1, NUD_REACHABLE, mac_a);
    fake_kernel.up = false;
    ck_assert(link_says(RTM_NEWLINK));
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DOWN);
    neighbour(1, NUD_REACHABLE, mac_b);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DOWN);
    fake_kernel.up = true;
    ck_assert(link_says(RTM_NEWLINK));
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DIRECT);
    ck_assert_mem_eq(rows[row].destination_mac, mac_b, 6);
    /* The same again is no news; its address is one for the hops alone. */
    ck_assert(!link_says(RTM_NEWLINK));
    fake_kernel.link_mac[5] = 9;
    ck_assert(!link_says(RTM_NEWLINK));
    ck_assert_uint_eq(rows[row].source_mac[5], 9);
    fake_kernel.link_mtu = 1400;
    ck_assert(link_says(RTM_NEWLINK));
    ck_assert(link_says(RTM_DELLINK));
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DOWN);
    ck_assert_int_eq(get(5, 3, 1500), -ENODEV);
    ck_assert(link_says(RTM_NEWLINK));
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DIRECT);
    put(row);
}
END_TEST

START_TEST(a_link_without_header_needs_no_neighbour)
{
    fake_kernel.hardware = ARPHRD_NONE;
    const int row = get(5, 1, 1500), same = get(5, 2, 1500);

    ck_assert_int_eq(row, same);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_BARE);
    ck_assert_uint_eq(fake_kernel.neighbours, 0);
    fake_kernel.up = false;
    link_says(RTM_NEWLINK);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DOWN);
    put(row);
    put(same);
    fake_kernel.hardware = ARPHRD_INFINIBAND;
    ck_assert_int_eq(get(6, 1, 1500), -ENODEV);
}
END_TEST

START_TEST(a_row_rests_before_it_means_something_else)
{
    const int row = get(5, 1, 1500);

    put(row);
    now_ms += HOPS_REST_MS - 1;
    const int other = get(5, 2, 1500);
    ck_assert_int_ne(other, row);
    /* Still what it was, and kept up to date. */
    neighbour(1, NUD_REACHABLE, mac_a);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DIRECT);
    /* Wanted again: the same row, and it does not rest any more. */
    ck_assert_int_eq(get(5, 1, 1500), row);
    now_ms += 10 * HOPS_REST_MS;
    const int third = get(5, 3, 1500);
    ck_assert_int_ne(third, row);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DIRECT);
    put(row);
    now_ms += HOPS_REST_MS;
    const int fourth = get(5, 4, 1500);
    ck_assert_int_eq(fourth, row);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_ASK);
    ck_assert_uint_eq(rows[row].refreshed_ns, 0);
    put(other);
    put(third);
    put(fourth);
}
END_TEST

START_TEST(a_full_table_refuses_until_there_is_room)
{
    for (unsigned i = 0; i < BPF_HOPS_MAX - 1; i++)
        ck_assert_int_eq(get(5, i, 1500), (int)i + 1);
    ck_assert_int_eq(get(5, BPF_HOPS_MAX, 1500), -ENOSPC);
    ck_assert_int_eq(get(5, 7, 1500), 8); /* one that is there */
    put(8);
    for (int row = 1; row < 20; row++)
        put(row);
    ck_assert_int_eq(get(5, BPF_HOPS_MAX, 1500), -ENOSPC);
    now_ms += HOPS_REST_MS;
    for (int i = 0; i < 19; i++)
        ck_assert_int_gt(get(5, BPF_HOPS_MAX + (unsigned)i, 1500), 0);
    ck_assert_int_eq(get(5, 2 * BPF_HOPS_MAX, 1500), -ENOSPC);
}
END_TEST

START_TEST(after_a_loss_everything_is_asked_for)
{
    int made[40];

    for (unsigned i = 0; i < 40; i++)
        made[i] = get(5, i, 1500);
    neighbour(0, NUD_REACHABLE, mac_a);
    const unsigned links = fake_kernel.links;
    fake_kernel.neighbours = 0;
    fake_kernel.neighbour_known = true;
    memcpy(fake_kernel.neighbour_mac, mac_b, 6);
    fake_kernel.link_mac[5] = 77;
    hops_doubt(hops);
    unsigned rounds = 1;
    while (hops_ask_again(hops))
        rounds++;
    ck_assert_uint_eq(rounds, (40 + KERNEL_BATCH - 1) / KERNEL_BATCH);
    ck_assert_uint_eq(fake_kernel.neighbours, 40);
    ck_assert_uint_eq(fake_kernel.links, links + 1);
    for (unsigned i = 0; i < 40; i++) {
        ck_assert_uint_eq(rows[made[i]].state, BPF_HOP_DIRECT);
        ck_assert_mem_eq(rows[made[i]].destination_mac, mac_b, 6);
        ck_assert_uint_eq(rows[made[i]].source_mac[5], 77);
    }
    ck_assert(!hops_ask_again(hops));
    /* The link has gone meanwhile. */
    fake_kernel.link_error = -ENODEV;
    hops_doubt(hops);
    while (hops_ask_again(hops))
        continue;
    for (unsigned i = 0; i < 40; i++) {
        ck_assert_uint_eq(rows[made[i]].state, BPF_HOP_DOWN);
        put(made[i]);
    }
}
END_TEST

/* The kernel does not answer: nothing is taken for known, and nothing for gone. */
START_TEST(a_silent_kernel)
{
    const int row = get(5, 1, 1500);

    neighbour(1, NUD_REACHABLE, mac_a);
    fake_kernel.silent = true;
    hops_doubt(hops);
    while (hops_ask_again(hops))
        continue;
    ck_assert_uint_eq(rows[row].state, BPF_HOP_ASK);
    ck_assert_ptr_null(hops_link(hops, 9));
    ck_assert_int_eq(get(9, 1, 1500), -ENODEV);
    put(row);
}
END_TEST

struct reader {
    const struct bpf_hop *row;
    bool stop;
    unsigned long reads, halves;
};

/* What the program does: the state, and then the addresses. */
static void *read_row(void *user)
{
    struct reader *reader = user;
    uint8_t destination[8];

    while (!__atomic_load_n(&reader->stop, __ATOMIC_RELAXED)) {
        if (__atomic_load_n(&reader->row->state, __ATOMIC_ACQUIRE) != BPF_HOP_DIRECT)
            continue;
        const uint64_t word = __atomic_load_n(
            (const uint64_t *)(const void *)reader->row->destination_mac, __ATOMIC_RELAXED);
        memcpy(destination, &word, 8);
        reader->reads++;
        if (memcmp(destination, mac_a, 6) != 0 && memcmp(destination, mac_b, 6) != 0)
            reader->halves++;
    }
    return NULL;
}

START_TEST(a_packet_never_sees_half_of_an_address)
{
    const int row = get(5, 1, 1500);
    struct reader reader = {.row = &rows[row]};
    pthread_t thread;

    neighbour(1, NUD_REACHABLE, mac_a);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_row, &reader), 0);
    for (int i = 0; i < 2000000 || __atomic_load_n(&reader.reads, __ATOMIC_RELAXED) < 1000; i++)
        neighbour(1, NUD_REACHABLE, i % 2 ? mac_a : mac_b);
    __atomic_store_n(&reader.stop, true, __ATOMIC_RELAXED);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_msg(reader.halves == 0, "%lu halves in %lu reads", reader.halves, reader.reads);
    put(row);
}
END_TEST

START_TEST(hostile_messages_change_nothing)
{
    const struct ip_address name = address(1);
    const int row = get(5, 1, 1500);

    neighbour(1, NUD_REACHABLE, mac_a);
    const struct nlmsghdr *whole = neighbour_message(RTM_DELNEIGH, 5, &name, NUD_REACHABLE, mac_b);
    for (uint32_t length = sizeof(*whole); length < whole->nlmsg_len; length++) {
        struct nlmsghdr *cut = malloc(length);
        struct neighbour_message is;

        ck_assert_ptr_nonnull(cut);
        memcpy(cut, whole, length);
        cut->nlmsg_len = length;
        ck_assert_msg(neighbour_message_parse(cut, &is) ==
                          (length >= NLMSG_SPACE(sizeof(struct ndmsg)) + RTA_LENGTH(4)),
                      "length %u", length);
        free(cut);
    }
    /* A bridge's table, a proxy's entry, another family, an interface that is none. */
    struct nlmsghdr *message = (struct nlmsghdr *)whole;
    struct ndmsg *header = NLMSG_DATA(message);
    const struct ndmsg right = *header;
    header->ndm_family = AF_BRIDGE;
    hops_message(hops, message);
    *header = right;
    header->ndm_flags = NTF_PROXY;
    hops_message(hops, message);
    *header = right;
    header->ndm_family = AF_INET6; /* whose address would be longer */
    hops_message(hops, message);
    *header = right;
    header->ndm_ifindex = -5;
    hops_message(hops, message);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_DIRECT);
    ck_assert_mem_eq(rows[row].destination_mac, mac_a, 6);
    /* An address of another length is none. */
    message = (struct nlmsghdr *)neighbour_message(RTM_NEWNEIGH, 5, &name, NUD_REACHABLE, NULL);
    message_add(message, NDA_LLADDR, "12345678", 8);
    hops_message(hops, message);
    ck_assert_uint_eq(rows[row].state, BPF_HOP_ASK);
    put(row);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hops");
    TCase *tcase = tcase_create("hops");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_row_says_where_packets_leave);
    tcase_add_test(tcase, one_row_for_each_interface_gateway_and_mtu);
    tcase_add_test(tcase, the_neighbour_makes_it_direct);
    tcase_add_test(tcase, the_link_decides_above_all);
    tcase_add_test(tcase, a_link_without_header_needs_no_neighbour);
    tcase_add_test(tcase, a_row_rests_before_it_means_something_else);
    tcase_add_test(tcase, a_full_table_refuses_until_there_is_room);
    tcase_add_test(tcase, after_a_loss_everything_is_asked_for);
    tcase_add_test(tcase, a_silent_kernel);
    tcase_add_test(tcase, a_packet_never_sees_half_of_an_address);
    tcase_add_test(tcase, hostile_messages_change_nothing);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
