/*
 * Slots: which are free, and what is written into one.
 */
#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/plane/bpf/flow.h"
#include "relayd/plane/bpf/slot.h"
#include "relayd/plane/bpf/slots.h"

#define RELAYS 40
#define COUNT 50

static struct bpf_slot rows[COUNT];
static struct flow flows[COUNT];
static struct slots slots;

static void setup(void)
{
    memset(rows, 0, sizeof(rows));
    memset(flows, 0, sizeof(flows));
    slots_init(&slots, rows, flows, COUNT, RELAYS);
}

/* ---- which are free ----------------------------------------------------------------------------
 */

/* PLANE-SLOT-050 */
START_TEST(a_slot_rests_before_it_is_used_again)
{
    bool taken[COUNT] = {false};

    for (uint32_t i = 0; i < COUNT; i++) {
        const uint32_t index = slots_take(&slots, 100);
        ck_assert_uint_lt(index, COUNT);
        ck_assert(!taken[index]);
        taken[index] = true;
    }
    ck_assert(!slots_have_one(&slots, 100));
    ck_assert_uint_eq(slots_take(&slots, 100), FLOW_NONE);
    slots_rest(&slots, 17, 200);
    slots_rest(&slots, 4, 500);
    ck_assert_uint_eq(slots.in_use, COUNT - 2);
    ck_assert(!slots_have_one(&slots, 200 + SLOTS_REST_MS - 1));
    ck_assert_uint_eq(slots_take(&slots, 200 + SLOTS_REST_MS - 1), FLOW_NONE);
    ck_assert_uint_eq(slots_take(&slots, 200 + SLOTS_REST_MS), 17);
    ck_assert_uint_eq(slots_take(&slots, 200 + SLOTS_REST_MS), FLOW_NONE);
    ck_assert_uint_eq(slots_take(&slots, 500 + SLOTS_REST_MS), 4);
    ck_assert_uint_eq(slots.in_use, COUNT);
}
END_TEST

/* PLANE-SLOT-050 */
START_TEST(each_use_has_a_generation_and_nothing_of_the_last)
{
    uint32_t now_ms = UINT32_MAX - 1500; /* time wraps */
    uint32_t generation = 0;

    for (uint32_t i = 0; i < COUNT - 1; i++)
        (void)slots_take(&slots, now_ms);
    for (int i = 0; i < 5; i++) {
        const uint32_t index = slots_take(&slots, now_ms);
        ck_assert_uint_eq(index, COUNT - 1);
        ck_assert_uint_ne(rows[index].generation, generation);
        generation = rows[index].generation;
        ck_assert_uint_eq(rows[index].state, BPF_SLOT_FREE);
        ck_assert_uint_eq(rows[index].max_bytes, 0);
        ck_assert_uint_eq(rows[index].from[BPF_TARGET].seen, 0);
        ck_assert_uint_eq(flows[index].drops, 0);
        rows[index].max_bytes = 5;
        rows[index].from[BPF_TARGET].seen = 5;
        flows[index].drops = 5;
        slots_rest(&slots, index, now_ms);
        now_ms += SLOTS_REST_MS;
    }
}
END_TEST

/* PLANE-SLOT-030 */
START_TEST(tombstones_stay_for_a_minute)
{
    (void)slots_take(&slots, 0);
    (void)slots_take(&slots, 0);
    ck_assert_uint_eq(slots_wait_ms(&slots, 0), UINT32_MAX);
    slots_bury(&slots, 1, 1000);
    slots_bury(&slots, 0, 3000);
    ck_assert_uint_eq(slots_oldest(&slots), 1);
    ck_assert_uint_eq(slots_expired(&slots, 1000 + SLOTS_TOMBSTONE_MS - 1), FLOW_NONE);
    ck_assert_uint_eq(slots_wait_ms(&slots, 2000), SLOTS_TOMBSTONE_MS - 1000);
    ck_assert_uint_eq(slots_expired(&slots, 1000 + SLOTS_TOMBSTONE_MS), 1);
    slots_exhume(&slots, 1);
    slots_rest(&slots, 1, 1000 + SLOTS_TOMBSTONE_MS);
    ck_assert_uint_eq(slots_expired(&slots, 1000 + SLOTS_TOMBSTONE_MS), FLOW_NONE);
    ck_assert_uint_eq(slots_oldest(&slots), 0);
}
END_TEST

/* PLANE-SLOT-040 */
START_TEST(tombstones_go_when_slots_run_low)
{
    unsigned gone = 0;

    for (uint32_t i = 0; i < COUNT - slots.spare; i++) {
        const uint32_t index = slots_take(&slots, 0);
        slots_bury(&slots, index, i);
    }
    ck_assert_uint_gt(slots.spare, 1);
    ck_assert_uint_eq(slots_expired(&slots, 100), FLOW_NONE);
    (void)slots_take(&slots, 100);
    (void)slots_take(&slots, 100);
    ck_assert_uint_eq(slots_wait_ms(&slots, 100), 0);
    for (uint32_t oldest; (oldest = slots_expired(&slots, 100)) != FLOW_NONE; gone++) {
        ck_assert_uint_eq(oldest, gone);
        slots_exhume(&slots, oldest);
        slots_rest(&slots, oldest, 100);
    }
    ck_assert_uint_eq(gone, 2);
}
END_TEST

/* ---- what is written ---------------------------------------------------------------------------
 */

static struct endpoint endpoint(const char *text)
{
    struct endpoint result;
    ck_assert_int_eq(endpoint_parse(text, &result), 0);
    return result;
}

static uint32_t add(uint32_t sum, const void *data, size_t length)
{
    const uint8_t *octets = data;
    for (size_t i = 0; i < length; i += 2)
        sum += (uint32_t)octets[i] << 8 | octets[i + 1];
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

static uint32_t add_endpoint(uint32_t sum, const struct endpoint *endpoint, bool port)
{
    const uint16_t number = htons(endpoint->port);
    sum = add(sum, endpoint->address.bytes, ip_address_size(&endpoint->address));
    return port ? add(sum, &number, 2) : sum;
}

/* What the difference, which is in the order of memory, makes of a sum. */
static uint32_t apply(uint32_t sum, uint32_t difference)
{
    return add(sum, &difference, sizeof(difference));
}

/* Zero has two faces. */
static void assert_same_sum(uint32_t a, uint32_t b)
{
    ck_assert_uint_eq(a == 0xffff ? 0 : a, b == 0xffff ? 0 : b);
}

static void check_sums(const char *s, const char *bnd, const char *egress, const char *dst)
{
    const struct endpoint client = endpoint(s), bound = endpoint(bnd), out = endpoint(egress),
                          target = endpoint(dst);
    const struct slot_side sides[BPF_ENDS] = {
        [BPF_CLIENT] = {.peer = &client, .local = &bound, .interface = 3, .hop = 7},
        [BPF_TARGET] = {.peer = &target, .local = &out, .interface = 4, .hop = 8},
    };
    const uint32_t payload = 0x1234; /* whatever else is summed */
    struct bpf_slot slot = {.generation = 9};

    slot_put_sides(&slot, sides);
    for (int end = BPF_CLIENT; end < BPF_ENDS; end++) {
        const struct slot_side *in = &sides[end], *other = &sides[slot_other(end)];
        const struct bpf_direction *from = &slot.from[end];
        uint32_t before = add_endpoint(add_endpoint(payload, in->peer, true), in->local, true);
        uint32_t after = add_endpoint(add_endpoint(payload, other->local, true), other->peer, true);
        assert_same_sum(apply(apply(before, from->address_sum), from->port_sum), after);
        before = add_endpoint(add_endpoint(payload, in->peer, false), in->local, false);
        after = add_endpoint(add_endpoint(payload, other->local, false), other->peer, false);
        if (client.address.family == IP_V4)
            assert_same_sum(apply(before, from->header_sum), after);
        else
            ck_assert_uint_eq(from->header_sum, 0);
        struct endpoint back = slot_endpoint(slot.side[end].peer, slot.side[end].peer_port);
        ck_assert(endpoint_equal(&back, in->peer));
        back = slot_endpoint(slot.side[end].local, slot.side[end].local_port);
        ck_assert(endpoint_equal(&back, in->local));
        ck_assert_uint_eq(slot.side[end].interface, in->interface);
        ck_assert_uint_eq(slot.side[end].hop, in->hop);
    }
}

START_TEST(checksums_change_by_what_is_written)
{
    check_sums("10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "10.0.0.4:4");
    check_sums("255.255.255.254:65535", "192.0.2.1:20000", "198.51.100.7:59999", "8.8.8.8:53");
    check_sums("10.0.0.1:1000", "10.0.0.1:1000", "10.0.0.1:1000", "10.0.0.1:1000");
    check_sums("[2001:db8::1]:1", "[2001:db8::2]:2", "[2001:db8:1::3]:3", "[2001:db8:2::4]:4");
    check_sums("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535", "[fd00::1]:65535",
               "[fd00:1:2:3:4:5:6:7]:1", "[fd00::ff]:443");
    for (unsigned i = 1; i < 500; i++) {
        char text[4][64];
        for (unsigned j = 0; j < 4; j++)
            snprintf(text[j], sizeof(text[j]), "%u.%u.%u.%u:%u", i * 7 % 223 + 1, i * 31 % 256,
                     (i + j * 77) % 256, (i * j * 13) % 256, (i * 7919 + j * 104729) % 65535 + 1);
        check_sums(text[0], text[1], text[2], text[3]);
    }
}
END_TEST

START_TEST(rows_name_what_packets_carry)
{
    const struct endpoint client = endpoint("10.1.2.3:1000"), bound = endpoint("10.9.9.9:2000"),
                          out = endpoint("10.8.8.8:3000"), target = endpoint("10.7.7.7:4000");
    const struct slot_side sides[BPF_ENDS] = {
        [BPF_CLIENT] = {.peer = &client, .local = &bound},
        [BPF_TARGET] = {.peer = &target, .local = &out},
    };
    struct bpf_slot slot = {.generation = 5};
    const uint8_t s[16] = {[10] = 0xff, 0xff, 10, 1, 2, 3},
                  bnd[16] = {[10] = 0xff, 0xff, 10, 9, 9, 9};

    slot_put_sides(&slot, sides);
    struct bpf_flow_key key = slot_key(&slot, BPF_CLIENT);
    ck_assert_mem_eq(key.source, s, 16);
    ck_assert_mem_eq(key.destination, bnd, 16);
    ck_assert_uint_eq(ntohs(key.source_port), 1000);
    ck_assert_uint_eq(ntohs(key.destination_port), 2000);
    key = slot_key(&slot, BPF_TARGET);
    ck_assert_uint_eq(ntohs(key.source_port), 4000);
    ck_assert_uint_eq(ntohs(key.destination_port), 3000);
    ck_assert_uint_eq(slot_value(&slot, 77, BPF_CLIENT).slot, 77);
    ck_assert_uint_eq(slot_value(&slot, 77, BPF_TARGET).slot, 77 | BPF_FLOW_FROM_TARGET);
    ck_assert_uint_eq(slot_value(&slot, 77, BPF_TARGET).generation, 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bpf_slots");
    TCase *tcase = tcase_create("free");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, a_slot_rests_before_it_is_used_again);
    tcase_add_test(tcase, each_use_has_a_generation_and_nothing_of_the_last);
    tcase_add_test(tcase, tombstones_stay_for_a_minute);
    tcase_add_test(tcase, tombstones_go_when_slots_run_low);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("written");
    tcase_add_test(tcase, checksums_change_by_what_is_written);
    tcase_add_test(tcase, rows_name_what_packets_carry);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
