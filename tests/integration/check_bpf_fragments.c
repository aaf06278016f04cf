/*
 * Fragments as networks and liars send them, to a relay of UDP: in any order, twice, over each
 * other, in pieces that never become a whole. proto/PLANE.md
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"
#include "tests/harness/wire.h"

#define MTU 1500
#define PIECES_MAX 64
#define SILENCE_MS 100

static struct lab *lab;
static struct daemons daemons;
static struct association association;
static struct wire wire; /* the client's link */
static int target;
static bool v6;
static uint8_t sent[65536], got[65536];

static void setup(void)
{
    const struct daemons_options options = {.relayd = {"plane: bpf"}};

    lab = lab_new();
    daemons = daemons_start(lab, &options);
    wire = wire_to_relay(lab, LAB_CLIENT);
}

static void teardown(void)
{
    wire_close(&wire);
    daemons_stop(&daemons);
    lab_free(lab);
}

static void open_relay(int family)
{
    struct endpoint local;

    v6 = family != 0;
    target = socket_bound(lab, LAB_TARGET, SOCK_DGRAM, at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0),
                          &local);
    association = association_udp(lab, local);
}

static void close_relay(void)
{
    close(target);
    association_close(&association);
}

/* ---- pieces ------------------------------------------------------------------------------------
 */

struct pieces {
    unsigned count;
    size_t lengths[PIECES_MAX];
    uint8_t octets[PIECES_MAX][MTU];
};

static void keep(void *user, const uint8_t *fragment, size_t length)
{
    struct pieces *pieces = user;

    ck_assert_uint_lt(pieces->count, PIECES_MAX);
    memcpy(pieces->octets[pieces->count], fragment, length);
    pieces->lengths[pieces->count++] = length;
}

/* From S to BND, with the pattern as its data. */
static struct craft datagram(size_t length, uint64_t seed)
{
    struct pattern pattern = pattern_start(seed);

    pattern_next(&pattern, sent, length);
    return (struct craft){.source = association.source,
                          .destination = association.bound,
                          .protocol = IPPROTO_UDP,
                          .data = sent,
                          .length = length};
}

static void cut(const struct craft *craft, uint32_t id, struct pieces *out)
{
    static uint8_t packet[CRAFT_MAX];
    const size_t length = craft_build(craft, packet, sizeof(packet));

    out->count = 0;
    craft_fragments(packet, length, MTU, id, keep, out);
    ck_assert_uint_gt(out->count, 1);
}

static void send_piece(const struct wire *by, const struct pieces *pieces, unsigned n)
{
    wire_send(by, pieces->octets[n], pieces->lengths[n]);
}

static void check_arrives(size_t length)
{
    struct endpoint from;

    ck_assert_int_eq(socket_receive_from(target, got, sizeof(got), PATIENCE_MS, &from),
                     (ssize_t)length);
    ck_assert_mem_eq(got, sent, length);
}

static void check_nothing_arrives(const char *what)
{
    struct endpoint from;
    const ssize_t n = socket_receive_from(target, got, sizeof(got), SILENCE_MS, &from);

    ck_assert_msg(n < 0, "%s: %zd octets at the target", what, n);
}

/* Whatever came before, a whole datagram is relayed. */
static void check_still_works(uint64_t seed)
{
    const struct craft craft = datagram(5000, seed);

    wire_send_fragments(&wire, &craft, MTU, 90000 + (uint32_t)seed);
    check_arrives(5000);
}

/* ---- what becomes a whole ----------------------------------------------------------------------
 */

/* PLANE-FRAG-060, PLANE-FRAG-120: orders 0 forwards, 1 backwards, 2 the first one last, 3 every
 * other one first, 4 each of them twice. */
static unsigned place_of(unsigned order, unsigned i, unsigned count)
{
    switch (order) {
    case 1:
        return count - 1 - i;
    case 2:
        return (i + 1) % count;
    case 3:
        return i < (count + 1) / 2 ? i * 2 : (i - (count + 1) / 2) * 2 + 1;
    default:
        return i;
    }
}

START_TEST(any_order_will_do)
{
    static struct pieces pieces;

    open_relay(_i);
    for (unsigned order = 0; order < 5; order++) {
        const struct craft craft = datagram(20000, order);
        cut(&craft, 100 + order, &pieces);
        for (unsigned i = 0; i < pieces.count; i++) {
            send_piece(&wire, &pieces, place_of(order, i, pieces.count));
            /* A repetition of the last one would begin a datagram of its own. */
            if (order == 4 && i < pieces.count - 1)
                send_piece(&wire, &pieces, i);
        }
        check_arrives(20000);
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_spoofed"), 0);
    close_relay();
}
END_TEST

/* Several datagrams at once, their fragments interleaved. */
START_TEST(datagrams_are_not_mixed_up)
{
    static struct pieces pieces[8];
    static uint8_t wanted[8][9000];
    bool seen[8] = {false};
    struct endpoint from;

    open_relay(_i);
    for (unsigned n = 0; n < 8; n++) {
        const struct craft craft = datagram(sizeof(wanted[n]), n);
        memcpy(wanted[n], sent, sizeof(wanted[n]));
        cut(&craft, 200 + n, &pieces[n]);
    }
    for (unsigned i = 0; i < pieces[0].count; i++) {
        for (unsigned n = 0; n < 8; n++)
            send_piece(&wire, &pieces[n], i);
    }
    for (unsigned k = 0; k < 8; k++) {
        unsigned n = 0;
        ck_assert_int_eq(socket_receive_from(target, got, sizeof(got), PATIENCE_MS, &from),
                         sizeof(wanted[0]));
        while (n < 8 && memcmp(got, wanted[n], sizeof(wanted[n])) != 0)
            n++;
        ck_assert_msg(n < 8 && !seen[n], "octets of several datagrams, or one twice");
        seen[n] = true;
    }
    close_relay();
}
END_TEST

/* The smallest fragments: the first one is the UDP header and nothing else. */
START_TEST(fragments_of_eight_octets)
{
    open_relay(_i);
    const struct craft craft = datagram(256, 5);

    wire_send_fragments(&wire, &craft, v6 ? 40 + 8 + 8 : 20 + 8, 77);
    check_arrives(256);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_fragments"), 1);
    close_relay();
}
END_TEST

/* ---- what does not -----------------------------------------------------------------------------
 */

START_TEST(what_is_not_whole_is_not_relayed)
{
    static struct pieces pieces;

    open_relay(_i);
    for (unsigned missing = 0; missing < 4; missing++) {
        const struct craft craft = datagram(5000, missing);
        cut(&craft, 300 + missing, &pieces);
        ck_assert_uint_eq(pieces.count, 4);
        for (unsigned i = 0; i < pieces.count; i++) {
            if (i != missing)
                send_piece(&wire, &pieces, i);
        }
        check_nothing_arrives("incomplete");
    }
    check_still_works(1);
    close_relay();
}
END_TEST

/* RFC 5722; Linux drops overlapping fragments of IPv4, too. */
START_TEST(overlapping_fragments_are_not_relayed)
{
    static struct pieces pieces, other;

    open_relay(_i);
    const struct craft craft = datagram(5000, 9);
    cut(&craft, 400, &pieces);
    memcpy(other.octets[0], pieces.octets[1], pieces.lengths[1]);
    other.lengths[0] = pieces.lengths[1];
    /* The second one eight octets earlier, over the end of the first. */
    if (v6) {
        const unsigned offset = (unsigned)(other.octets[0][42] << 8 | other.octets[0][43]) - 8;
        other.octets[0][42] = (uint8_t)(offset >> 8);
        other.octets[0][43] = (uint8_t)offset;
    } else {
        const unsigned field = (unsigned)(other.octets[0][6] << 8 | other.octets[0][7]) - 1;
        other.octets[0][6] = (uint8_t)(field >> 8);
        other.octets[0][7] = (uint8_t)field;
        other.octets[0][11]++; /* the header's checksum makes up for it */
        ck_assert_uint_ne(other.octets[0][11], 0);
    }
    send_piece(&wire, &pieces, 0);
    send_piece(&wire, &other, 0);
    for (unsigned i = 1; i < pieces.count; i++)
        send_piece(&wire, &pieces, i);
    check_nothing_arrives("overlapping");
    check_still_works(2);
    close_relay();
}
END_TEST

/* PLANE-FRAG-050: whose first fragment comes from the wrong interface, or from a stranger. */
START_TEST(who_may_not_is_not_relayed_in_fragments)
{
    static struct pieces pieces;
    struct wire elsewhere = wire_to_relay(lab, LAB_TARGET);

    open_relay(_i);
    struct craft craft = datagram(5000, 3);
    cut(&craft, 500, &pieces);
    send_piece(&elsewhere, &pieces, 0);
    for (unsigned i = 1; i < pieces.count; i++)
        send_piece(&wire, &pieces, i);
    check_nothing_arrives("spoofed");
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_spoofed"), 1);
    craft.source.port ^= 1;
    wire_send_fragments(&wire, &craft, MTU, 501);
    check_nothing_arrives("a stranger's");
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_strangers"), 1);
    ck_assert_uint_eq(daemons_counter(&daemons, "udp", "bpf_fragments"), 0);
    check_still_works(3);
    wire_close(&elsewhere);
    close_relay();
}
END_TEST

/* A damaged datagram is found by the relay host, which has put it together. */
START_TEST(damaged_datagrams_are_not_relayed)
{
    open_relay(_i);
    struct craft craft = datagram(5000, 4);
    craft.wrong = CRAFT_BAD_CHECKSUM;
    wire_send_fragments(&wire, &craft, MTU, 600);
    check_nothing_arrives("damaged");
    check_still_works(4);
    close_relay();
}
END_TEST

/* ---- header fields -----------------------------------------------------------------------------
 */

/* PLANE-FRAG-140, on the wire: the first packet of each datagram at the target. */
START_TEST(header_fields_are_kept)
{
    open_relay(_i);
    struct capture *capture = capture_start(lab, LAB_TARGET, LAB_TO_RELAY);
    const struct packet_match match = {.protocol = IPPROTO_UDP, .only_incoming = true};
    struct craft craft = datagram(3000, 6);
    struct packet packet;

    craft.tos = 0xb9; /* expedited forwarding, ECT(1) */
    craft.ttl = 33;
    wire_send_fragments(&wire, &craft, MTU, 700);
    check_arrives(3000);
    ck_assert(capture_get(capture, &match, 0, &packet));
    ck_assert_uint_eq(packet.data[v6 ? 7 : 8], 32);
    ck_assert_uint_eq(v6 ? (packet.data[0] & 15) << 4 | packet.data[1] >> 4 : packet.data[1], 0xb9);
    if (!v6)
        ck_assert_uint_eq(packet.data[6] & 0x40, 0);
    craft.ttl = 1;
    wire_send_fragments(&wire, &craft, MTU, 701);
    check_nothing_arrives("a TTL that is used up");
    check_still_works(5);
    close_relay();
}
END_TEST

int main(void)
{
    lab_require();
    TCase *fragments = tcase_create("fragments");
    tcase_set_timeout(fragments, 60);
    tcase_add_checked_fixture(fragments, setup, teardown);
    tcase_add_loop_test(fragments, any_order_will_do, 0, 2);
    tcase_add_loop_test(fragments, datagrams_are_not_mixed_up, 0, 2);
    tcase_add_loop_test(fragments, fragments_of_eight_octets, 0, 2);
    tcase_add_loop_test(fragments, what_is_not_whole_is_not_relayed, 0, 2);
    tcase_add_loop_test(fragments, overlapping_fragments_are_not_relayed, 0, 2);
    tcase_add_loop_test(fragments, who_may_not_is_not_relayed_in_fragments, 0, 2);
    tcase_add_loop_test(fragments, damaged_datagrams_are_not_relayed, 0, 2);
    tcase_add_loop_test(fragments, header_fields_are_kept, 0, 2);
    Suite *suite = suite_create("bpf_fragments");
    suite_add_tcase(suite, fragments);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
