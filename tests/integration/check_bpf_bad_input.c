/*
 * Packets that nobody sends in good faith, put on the wire beside a relay that is alive: each is
 * dropped and counted, nothing of it reaches the other end, nothing is answered, no state is made,
 * and the relay goes on. proto/PLANE.md
 */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "proto/ptcl.h"
#include "tests/harness/capture.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/netstat.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"
#include "tests/harness/wire.h"

#define XMAS (CRAFT_FIN | CRAFT_PSH | CRAFT_URG)

static struct lab *lab;
static struct daemons daemons;
static struct association association;
static struct endpoint egress;
static struct wire client, target; /* the links to the relay host */
static struct capture *at_client, *at_target;
static bool is_tcp, v6;

static void setup(void)
{
    const struct daemons_options options = {.relayd = {"plane: bpf"}};

    lab = lab_new();
    daemons = daemons_start(lab, &options);
    client = wire_to_relay(lab, LAB_CLIENT);
    target = wire_to_relay(lab, LAB_TARGET);
}

static void teardown(void)
{
    wire_close(&client);
    wire_close(&target);
    daemons_stop(&daemons);
    lab_free(lab);
}

static uint64_t counter(const char *name)
{
    return daemons_counter(&daemons, is_tcp ? "tcp" : "udp", name);
}

/* A relay, of which the captures have seen nothing yet. Bits: TCP, IPv6. */
static void open_relay(int bits, bool is_used)
{
    is_tcp = (bits & 1) != 0;
    v6 = (bits & 2) != 0;
    const struct server_spec spec = {.kind = SERVER_ECHO,
                                     .type = is_tcp ? SOCK_STREAM : SOCK_DGRAM,
                                     .address = at(v6 ? LAB_TARGET_V6 : LAB_TARGET_V4, 0)};
    struct server *echo = server_start(lab, LAB_TARGET, &spec);
    const struct association_spec wanted = {.ptcl = is_tcp ? PTCL_TCP : PTCL_UDP,
                                            .source = at(v6 ? LAB_CLIENT_V6 : LAB_CLIENT_V4, 0),
                                            .destination = server_endpoint(echo)};

    association = association_open(lab, &wanted);
    if (is_used) {
        if (is_tcp)
            association_connect(&association);
        association_check_echo(&association);
    }
    json_t *relay = daemons_relay_at(&daemons, association.bound);
    ck_assert_int_eq(endpoint_parse(relay_text(relay, "egress"), &egress), 0);
    json_decref(relay);
    at_client = capture_start(lab, LAB_CLIENT, LAB_TO_RELAY);
    at_target = capture_start(lab, LAB_TARGET, LAB_TO_RELAY);
}

/* From S to BND, in the middle of the connection. */
static struct craft from_client(void)
{
    return (struct craft){.source = association.source,
                          .destination = association.bound,
                          .protocol = is_tcp ? IPPROTO_TCP : IPPROTO_UDP,
                          .tcp_flags = CRAFT_ACK,
                          .sequence = 1000,
                          .acknowledgment = 1000,
                          .length = 16};
}

static struct craft from_target(void)
{
    struct craft craft = from_client();

    craft.source = association.destination;
    craft.destination = egress;
    return craft;
}

/* What the ends have received of TCP, UDP and ICMP errors; N1 is not counted. */
static bool is_data(const struct packet *packet, void *user)
{
    const bool is_error = (packet->protocol == IPPROTO_ICMP && packet->payload[0] == 3) ||
                          (packet->protocol == IPPROTO_ICMP && packet->payload[0] == 11) ||
                          (packet->protocol == IPPROTO_ICMPV6 && packet->payload[0] < 128);

    (void)user;
    if (packet->outgoing || packet->source.port == 1080)
        return false;
    return is_error || packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP;
}

static void check_silence(const char *what)
{
    const size_t client_heard = capture_count_if(at_client, is_data, NULL);
    const size_t target_heard = capture_count_if(at_target, is_data, NULL);

    ck_assert_msg(client_heard == 0, "%s: %zu packets at the client", what, client_heard);
    ck_assert_msg(target_heard == 0, "%s: %zu packets at the target", what, target_heard);
}

/* The next packets make the counter grow by as many, and nothing is heard of them. veth hands a
 * packet over, and the program runs, while it is sent. */
#define DROPPED(name, packets, send)                                                               \
    do {                                                                                           \
        const uint64_t before_ = counter(name);                                                    \
        send;                                                                                      \
        const uint64_t after_ = counter(name);                                                     \
        ck_assert_msg(after_ == before_ + (packets), "line %d: %s: %llu → %llu, wanted %u more",   \
                      __LINE__, name, (unsigned long long)before_, (unsigned long long)after_,     \
                      (unsigned)(packets));                                                        \
        check_silence(name);                                                                       \
    } while (0)

/* Neither a relay nor anything that a relay consists of has come about, and ours still works. */
struct state {
    uint64_t slots, rows, ends, opened;
};

static struct state state_now(void)
{
    return (struct state){.slots = counter("bpf_slots_in_use"),
                          .rows = counter("bpf_rows"),
                          .ends = counter("relays_closed"),
                          .opened = counter("bpf_opened")};
}

static void check_unmoved(const struct state *before)
{
    const struct state now = state_now();

    ck_assert_uint_eq(now.slots, before->slots);
    ck_assert_uint_eq(now.rows, before->rows);
    ck_assert_uint_eq(now.ends, before->ends);
    ck_assert_uint_eq(now.opened, before->opened);
    if (is_tcp && daemons_relay_number(&daemons, association.bound, "up_packets") == 0)
        association_connect(&association);
    association_check_echo(&association);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
}

/* ---- TCP ---------------------------------------------------------------------------------------
 */

/* PLANE-TCP-010. Bit 1: IPv6. */
START_TEST(flags_that_mean_nothing)
{
    static const uint8_t flags[] = {0,
                                    XMAS,
                                    CRAFT_FIN,
                                    CRAFT_PSH,
                                    CRAFT_URG,
                                    CRAFT_SYN | CRAFT_FIN,
                                    CRAFT_SYN | CRAFT_RST,
                                    CRAFT_SYN | CRAFT_FIN | CRAFT_ACK,
                                    CRAFT_FIN | CRAFT_RST | CRAFT_ACK,
                                    0x3f};

    open_relay(1 | _i, true);
    const struct state before = state_now();
    for (size_t i = 0; i < sizeof(flags); i++) {
        struct craft up = from_client(), down = from_target();
        up.tcp_flags = down.tcp_flags = flags[i];
        DROPPED("bpf_tcp_flags", 1, wire_send_craft(&client, &up));
        DROPPED("bpf_tcp_flags", 1, wire_send_craft(&target, &down));
    }
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* PLANE-TCP-020: without the client's SYN there is no connection. */
START_TEST(segments_without_a_connection)
{
    static const uint8_t flags[] = {CRAFT_ACK, CRAFT_ACK | CRAFT_PSH, CRAFT_ACK | CRAFT_FIN,
                                    CRAFT_RST, CRAFT_RST | CRAFT_ACK, CRAFT_SYN | CRAFT_ACK};

    open_relay(1 | _i, false);
    const struct state before = state_now();
    for (size_t i = 0; i < sizeof(flags); i++) {
        struct craft up = from_client(), down = from_target();
        up.tcp_flags = down.tcp_flags = flags[i];
        DROPPED("bpf_tcp_state", 1, wire_send_craft(&client, &up));
        DROPPED("bpf_tcp_state", 1, wire_send_craft(&target, &down));
    }
    struct craft down = from_target();
    down.tcp_flags = CRAFT_SYN; /* the target does not open one either */
    DROPPED("bpf_tcp_state", 1, wire_send_craft(&target, &down));
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* PLANE-FRAG-020 */
START_TEST(segments_in_fragments)
{
    open_relay(1 | _i, true);
    const struct state before = state_now();
    struct craft up = from_client();

    up.length = 4000;
    DROPPED("bpf_tcp_left", 1, wire_send_fragments(&client, &up, 1500, 7));
    up.length = 16; /* in one piece, but said to be the first of several */
    if (v6)
        up.extensions[0] = (struct craft_extension){IPPROTO_FRAGMENT, "\0\1\0\0\0\5", 6};
    else
        up.fragment = CRAFT_MF;
    DROPPED("bpf_tcp_left", 1, wire_send_craft(&client, &up));
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* ---- both protocols ----------------------------------------------------------------------------
 */

/* PLANE-BAD-010. Bits: TCP, IPv6. */
START_TEST(lengths_that_contradict_each_other)
{
    open_relay(_i, true);
    const struct state before = state_now();
    struct craft up = from_client();

    up.total_length = 500; /* more than there is */
    DROPPED("bpf_malformed", 1, wire_send_craft(&client, &up));
    up.total_length = v6 ? 5 : 25; /* the transport header is not in it */
    DROPPED("bpf_malformed", 1, wire_send_craft(&client, &up));
    up = from_client();
    if (is_tcp) {
        up.tcp_data_words = 4;
        DROPPED("bpf_malformed", 1, wire_send_craft(&client, &up));
        up.tcp_data_words = 15;
        DROPPED("bpf_malformed", 1, wire_send_craft(&client, &up));
    } else {
        up.udp_length = 7;
        DROPPED("bpf_malformed", 1, wire_send_craft(&client, &up));
        up.udp_length = 25;
        DROPPED("bpf_malformed", 1, wire_send_craft(&client, &up));
    }
    up = from_client();
    up.header_words = v6 ? 0 : 4;
    if (!v6)
        DROPPED("bpf_malformed", 1, wire_send_craft(&client, &up));
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* PLANE-BAD-020: frames cut at every octet. */
START_TEST(truncated_frames)
{
    uint8_t packet[256];

    open_relay(_i, true);
    const struct state before = state_now();
    struct craft up = from_client();
    const size_t length = craft_build(&up, packet, sizeof(packet));
    for (size_t cut = 1; cut < length; cut++)
        wire_send(&client, packet, cut);
    up = from_target();
    ck_assert_uint_eq(craft_build(&up, packet, sizeof(packet)), length);
    for (size_t cut = 1; cut < length; cut++)
        wire_send(&target, packet, cut);
    check_silence("truncated frames");
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* PLANE-STRANGER-010: nearly the right addresses and ports, to either endpoint. */
START_TEST(those_that_belong_to_no_relay)
{
    open_relay(_i, true);
    const struct state before = state_now();
    struct craft up = from_client(), down = from_target();

    up.tcp_flags = down.tcp_flags = CRAFT_SYN;
    up.source.port ^= 1;
    down.source.port ^= 1;
    DROPPED("bpf_strangers", 1, wire_send_craft(&client, &up));
    DROPPED("bpf_strangers", 1, wire_send_craft(&target, &down));
    up.source = at(v6 ? LAB_CLIENT_V6_2 : LAB_CLIENT_V4_2, association.source.port);
    down.source = at(v6 ? LAB_TARGET_V6_2 : LAB_TARGET_V4_2, association.destination.port);
    DROPPED("bpf_strangers", 1, wire_send_craft(&client, &up));
    DROPPED("bpf_strangers", 1, wire_send_craft(&target, &down));
    /* Land: from BND to itself, from the one endpoint to the other. */
    up.source = up.destination;
    DROPPED("bpf_strangers", 1, wire_send_craft(&client, &up));
    up.source = egress;
    DROPPED("bpf_strangers", 1, wire_send_craft(&client, &up));
    down.source = association.bound;
    DROPPED("bpf_strangers", 1, wire_send_craft(&target, &down));
    /* DST to BND, S to egress. */
    up.source = association.destination;
    DROPPED("bpf_strangers", 1, wire_send_craft(&client, &up));
    down.source = association.source;
    DROPPED("bpf_strangers", 1, wire_send_craft(&target, &down));
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* PLANE-SPOOF-010: each end's packets, from the other end's link. */
START_TEST(those_of_the_other_end)
{
    open_relay(_i, true);
    const struct state before = state_now();
    const struct craft up = from_client(), down = from_target();

    DROPPED("bpf_spoofed", 1, wire_send_craft(&target, &up));
    DROPPED("bpf_spoofed", 1, wire_send_craft(&client, &down));
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* PLANE-FRAG-040 */
START_TEST(source_routes)
{
    static const uint8_t loose[] = {1, 131, 7, 4, 10, 77, 2, 2},
                         strict[] = {137, 7, 4, 10, 77, 2, 2};
    static const uint8_t type0[22] = {0, 1}, type2[22] = {2, 1};

    open_relay(_i, true);
    const struct state before = state_now();
    struct craft up = from_client();
    for (unsigned i = 0; i < 2; i++) {
        up.options = i == 0 ? loose : strict;
        up.options_length = i == 0 ? sizeof(loose) : sizeof(strict);
        up.extensions[0] =
            (struct craft_extension){IPPROTO_ROUTING, i == 0 ? type0 : type2, sizeof(type0)};
        DROPPED("bpf_source_route", 1, wire_send_craft(&client, &up));
    }
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* PLANE-PKT-020: addressed to the relay by IP alone. The host sees them, and does not answer. */
START_TEST(frames_for_others)
{
    static const uint8_t macs[][LINK_MAC] = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                                             {0x01, 0, 0x5e, 0, 0, 1},
                                             {2, 0, 0, 0x12, 0x34, 0x56}};

    open_relay(_i, true);
    const struct state before = state_now();
    const struct craft up = from_client();
    struct wire other = client;
    for (size_t i = 0; i < sizeof(macs) / sizeof(macs[0]); i++) {
        memcpy(other.destination, macs[i], LINK_MAC);
        wire_send_craft(&other, &up);
        check_silence("a frame for others");
    }
    other = client;
    other.vlan = 100;
    wire_send_craft(&other, &up);
    check_silence("a tagged frame");
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* ---- ICMP errors -------------------------------------------------------------------------------
 */

/* What `from` says of a packet from `quoted`'s source to its destination. */
static struct craft error_about(struct endpoint from, const struct craft *quoted, size_t octets)
{
    static uint8_t packet[CRAFT_MAX];

    craft_build(quoted, packet, sizeof(packet));
    return (struct craft){.source = {.address = from.address},
                          .destination = {.address = quoted->source.address},
                          .protocol = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP,
                          .icmp_type = v6 ? 1 : 3,
                          .icmp_code = v6 ? 4 : 3,
                          .data = packet,
                          .length = octets};
}

/* As the relay sends it to the target. */
static struct craft sent_to_target(void)
{
    struct craft craft = from_target();
    const struct endpoint source = craft.source;

    craft.source = craft.destination;
    craft.destination = source;
    return craft;
}

/* PLANE-ICMP-040, -050, -080: about packets that no relay has sent, from where it cannot have come,
 * with too little in it. */
START_TEST(errors_about_nothing)
{
    open_relay(_i, true);
    const struct state before = state_now();
    const size_t whole = (v6 ? 40u : 20u) + 20;
    struct craft quoted = sent_to_target();
    struct craft error = error_about(association.destination, &quoted, whole);

    error.total_length = v6 ? 8 + 40 + 4 : 20 + 8 + 20 + 4;
    DROPPED("bpf_icmp_malformed", 1, wire_send_craft(&target, &error));
    error = error_about(association.destination, &quoted, whole);
    DROPPED("bpf_spoofed", 1, wire_send_craft(&client, &error));
    quoted.destination.port ^= 1;
    error = error_about(association.destination, &quoted, whole);
    DROPPED("bpf_icmp_unknown", 1, wire_send_craft(&target, &error));
    quoted = sent_to_target();
    quoted.destination = at(v6 ? LAB_TARGET_V6_2 : LAB_TARGET_V4_2, quoted.destination.port);
    error = error_about(association.destination, &quoted, whole);
    DROPPED("bpf_icmp_unknown", 1, wire_send_craft(&target, &error));
    /* To BND, about packets to the client: from the target's link. */
    quoted = craft_reply(&(struct craft){.source = association.source,
                                         .destination = association.bound,
                                         .protocol = is_tcp ? IPPROTO_TCP : IPPROTO_UDP});
    error = error_about(association.source, &quoted, whole - (is_tcp ? 0 : 12));
    DROPPED("bpf_spoofed", 1, wire_send_craft(&target, &error));
    check_unmoved(&before);
    association_close(&association);
}
END_TEST

/* The same error, about a packet of the relay, arrives: what was wrong above is what was dropped.
 */
START_TEST(an_error_that_is_right)
{
    open_relay(_i, true);
    const struct craft quoted = sent_to_target();
    const struct craft error =
        error_about(association.destination, &quoted, (v6 ? 40u : 20u) + (is_tcp ? 20 : 24));

    wire_send_craft(&target, &error);
    ck_assert_uint_eq(counter("bpf_icmp"), 1);
    ck_assert_uint_eq(capture_count_if(at_client, is_data, NULL), 1);
    association_close(&association);
}
END_TEST

static void add(TCase *tests)
{
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
}

int main(void)
{
    lab_require();
    TCase *tcp = tcase_create("tcp"), *both = tcase_create("both"), *icmp = tcase_create("icmp");
    add(tcp);
    tcase_add_loop_test(tcp, flags_that_mean_nothing, 0, 1);
    tcase_add_loop_test(tcp, flags_that_mean_nothing, 2, 3);
    tcase_add_loop_test(tcp, segments_without_a_connection, 0, 1);
    tcase_add_loop_test(tcp, segments_without_a_connection, 2, 3);
    tcase_add_loop_test(tcp, segments_in_fragments, 0, 1);
    tcase_add_loop_test(tcp, segments_in_fragments, 2, 3);
    add(both);
    tcase_add_loop_test(both, lengths_that_contradict_each_other, 0, 4);
    tcase_add_loop_test(both, truncated_frames, 0, 4);
    tcase_add_loop_test(both, those_that_belong_to_no_relay, 0, 4);
    tcase_add_loop_test(both, those_of_the_other_end, 0, 4);
    tcase_add_loop_test(both, source_routes, 0, 4);
    tcase_add_loop_test(both, frames_for_others, 0, 4);
    add(icmp);
    tcase_add_loop_test(icmp, errors_about_nothing, 0, 4);
    tcase_add_loop_test(icmp, an_error_that_is_right, 0, 4);
    Suite *suite = suite_create("bpf_bad_input");
    suite_add_tcase(suite, tcp);
    suite_add_tcase(suite, both);
    suite_add_tcase(suite, icmp);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
