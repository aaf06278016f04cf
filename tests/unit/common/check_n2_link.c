#include "tests/unit/common/n2_support.h"

/* --- versions --- */

START_TEST(both_sides_come_up)
{
    start_two();
    ck_assert_uint_eq(near.peer.boot_epoch, 77);
    ck_assert_uint_eq(near.peer.ptcl, 6);
    ck_assert_uint_eq(near.peer.capacity, 1000);
    ck_assert_str_eq(near.peer.instance, "tcp");
    ck_assert_str_eq(near.peer.build, SOCKST_VERSION);
    ck_assert_uint_eq(far_end.peer.boot_epoch, 66);
    ck_assert_uint_eq(n2_link_peer(near.link)->boot_epoch, 77);
    finish();
    ck_assert_int_eq(near.down + far_end.down, 0); /* after n2_link_close() nobody is told */
}
END_TEST

START_TEST(one_side_hears_of_the_others_close)
{
    start_two();
    close_it(&far_end);
    expect_down(&near, "closed the connection");
    finish();
}
END_TEST

START_TEST(higher_minor_is_welcome)
{
    struct n2_link_config config = standard(N2_ROLE_RELAYD);
    struct n2_message hello = hello_message(N2_HELLO, N2_VERSION_MAJOR, N2_VERSION_MINOR + 7);
    start_raw(&config);
    raw_say(&hello);
    TEST_RUN_UNTIL(&test, near.up == 1);
    ck_assert_uint_eq(near.peer.minor, N2_VERSION_MINOR + 7);
    finish();
}
END_TEST

static const uint32_t other_majors[] = {0, N2_VERSION_MAJOR + 1, UINT32_MAX};

START_TEST(relayd_refuses_another_major)
{
    struct n2_link_config config = standard(N2_ROLE_RELAYD);
    struct n2_message hello = hello_message(N2_HELLO, other_majors[_i], 0), heard;
    start_raw(&config);
    raw_say(&hello);
    expect_down(&near, "version");
    ck_assert_int_eq(near.up, 0);
    /* and says its own before it goes */
    ck_assert(raw_hear(&heard));
    ck_assert_int_eq(heard.type, N2_HELLO_ACK);
    ck_assert_uint_eq(heard.hello.major, N2_VERSION_MAJOR);
    finish();
}
END_TEST

START_TEST(socksd_refuses_another_major)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    struct n2_message ack = hello_message(N2_HELLO_ACK, other_majors[_i], 0);
    start_raw(&config);
    raw_say(&ack);
    expect_down(&near, "version");
    ck_assert_int_eq(near.up, 0);
    finish();
}
END_TEST

/* N2-HELLO-040 */
START_TEST(hello_has_a_deadline)
{
    struct n2_link_config config = standard(_i ? N2_ROLE_SOCKSD : N2_ROLE_RELAYD);
    config.hello_deadline_ms = 20;
    start_raw(&config);
    uint64_t begin = uv_now(&test.loop);
    expect_down(&near, _i ? "no HelloAck within" : "no Hello within");
    ck_assert_uint_ge(uv_now(&test.loop) - begin, 20);
    finish();
}
END_TEST

START_TEST(nothing_is_sent_before_up)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    struct n2_message drain = sample(N2_DRAIN), attach = sample(N2_ATTACH_CLIENT),
                      open = sample(N2_OPEN_RELAY), heard;
    start_raw(&config);
    ck_assert(!n2_link_is_up(near.link));
    ck_assert_int_eq(n2_link_send(near.link, &drain, -1), -ENOTCONN);
    ck_assert_int_eq(n2_link_send(near.link, &attach, some_descriptor()), -ENOTCONN);
    ck_assert_int_eq(n2_link_request(near.link, &open, -1, 10, on_done, &near, NULL), -ENOTCONN);
    test_turns(&test, 3);
    ck_assert(raw_hear(&heard));
    ck_assert_int_eq(heard.type, N2_HELLO);
    ck_assert_str_eq(heard.hello.instance, "");
    ck_assert(!raw_hear(&heard));
    ck_assert_int_eq(near.down, 0);
    finish();
    ck_assert_int_eq(near.completed, 0);
}
END_TEST

/* --- what is permitted: said here a second time, from the notes --- */

static bool may_reach(enum n2_role role, enum n2_type type)
{
    switch (type) {
    case N2_PING:
    case N2_PONG:
        return true;
    case N2_OPEN_RELAY:
    case N2_ATTACH_CLIENT:
    case N2_AUTHORIZED:
    case N2_POLICY_CHANGED:
    case N2_CLOSE_RELAY:
    case N2_DRAIN:
    case N2_CANCEL_ORDER:
        return role == N2_ROLE_RELAYD;
    case N2_RELAY_OPENED:
    case N2_RELAY_FAILED:
    case N2_RELAY_CONNECTED:
    case N2_AUTHORIZE:
    case N2_RELAY_STATS:
    case N2_RELAY_CLOSED:
    case N2_RELAY_EVENT:
        return role == N2_ROLE_SOCKSD;
    default:
        return false; /* Hello and HelloAck come once */
    }
}

static void check_reach(enum n2_role role, enum n2_type type)
{
    struct n2_message message = sample(type);
    start_raw_up(role);
    int fd = message.fd_count > 0 ? some_descriptor() : -1;
    raw_say_with(&message, fd);
    if (fd >= 0) {
        close(fd);
    }
    test_turns(&test, 4);
    if (may_reach(role, type)) {
        ck_assert_msg(near.down == 0, "%s ended the link: %s", n2_type_name(type), near.why);
        bool internal = type == N2_PING || type == N2_PONG;
        ck_assert_int_eq(near.messages, internal ? 0 : 1);
        ck_assert_uint_eq(n2_link_stats(near.link).bad_messages, 0);
    } else {
        ck_assert_msg(near.down == 1, "%s was let through", n2_type_name(type));
        ck_assert_int_eq(near.messages, 0);
        ck_assert_int_eq(near.completed, 0);
    }
    finish();
}

START_TEST(permitted_messages_when_up)
{
    check_reach(N2_ROLE_RELAYD, (enum n2_type)_i);
    check_reach(N2_ROLE_SOCKSD, (enum n2_type)_i);
}
END_TEST

static void check_first(enum n2_role role, enum n2_type type)
{
    struct n2_link_config config = standard(role);
    struct n2_message message = sample(type);
    start_raw(&config);
    int fd = message.fd_count > 0 ? some_descriptor() : -1;
    raw_say_with(&message, fd);
    if (fd >= 0) {
        close(fd);
    }
    test_turns(&test, 4);
    bool welcome = type == (role == N2_ROLE_SOCKSD ? N2_HELLO_ACK : N2_HELLO);
    ck_assert_msg(near.up == welcome && near.down == !welcome, "%s first: up %d, down %d (%s)",
                  n2_type_name(type), near.up, near.down, near.why);
    ck_assert_int_eq(near.messages, 0);
    finish();
}

START_TEST(permitted_messages_before_up)
{
    check_first(N2_ROLE_RELAYD, (enum n2_type)_i);
    check_first(N2_ROLE_SOCKSD, (enum n2_type)_i);
}
END_TEST

START_TEST(owner_refuses_a_message)
{
    start_raw_up(N2_ROLE_RELAYD);
    struct n2_message message = sample(N2_ATTACH_CLIENT);
    n2_link_refuse(near.link, &message, "no relay waits for a client");
    ck_assert_int_eq(near.down, 0); /* not inside the call */
    ck_assert(!n2_link_is_up(near.link));
    ck_assert_uint_eq(n2_link_stats(near.link).bad_messages, 1);
    expect_down(&near, "no relay waits");
    finish();
}
END_TEST

static const char *const garbage[] = {"\x00\x00\x00\x01\xff",     "\x00\x00\x00\x02\x08\x80",
                                      "\x00\x00\x00\x02\x08\x01", "\x00\x00\x00\x00\x00",
                                      "\xff\xff\xff\xff\x00",     "\x00\x01\x00\x00\x00"};
static const size_t garbage_length[] = {5, 6, 6, 5, 5, 5};

START_TEST(garbage_ends_the_link)
{
    start_raw_up(N2_ROLE_RELAYD);
    ck_assert_int_gt(send(raw, garbage[_i], garbage_length[_i], MSG_NOSIGNAL), 0);
    expect_down(&near, "");
    ck_assert_int_eq(near.messages, 0);
    finish();
}
END_TEST

START_TEST(garbage_before_hello_ends_the_link)
{
    struct n2_link_config config = standard(N2_ROLE_RELAYD);
    start_raw(&config);
    ck_assert_int_gt(send(raw, garbage[_i], garbage_length[_i], MSG_NOSIGNAL), 0);
    expect_down(&near, "");
    ck_assert_int_eq(near.up, 0);
    finish();
}
END_TEST

START_TEST(what_this_side_may_not_send)
{
    start_two();
    struct n2_message message = sample(N2_RELAY_EVENT); /* relayd's to send */
    ck_assert_int_eq(n2_link_send(near.link, &message, -1), -EINVAL);
    expect_down(&near, "relay-event");
    finish();
}
END_TEST

/* N2-FIELD-100 */
START_TEST(invalid_message_is_not_sent)
{
    start_two();
    struct n2_message message = sample(N2_CLOSE_RELAY);
    message.close_relay.relay = 0;
    ck_assert_int_eq(n2_link_send(near.link, &message, -1), -EINVAL);
    expect_down(&near, "not valid");
    test_turns(&test, 3);
    ck_assert_int_eq(far_end.messages, 0);
    finish();
}
END_TEST

/* --- liveness --- */

/* N2-PING-010 */
START_TEST(ping_is_answered)
{
    struct n2_message ping = sample(N2_PING), heard;
    start_raw_up(N2_ROLE_RELAYD);
    raw_say(&ping);
    test_turns(&test, 4);
    ck_assert(raw_hear(&heard));
    ck_assert_int_eq(heard.type, N2_PONG);
    ck_assert_uint_eq(heard.nonce, 99);
    finish();
}
END_TEST

/* N2-PING-010, N2-PING-020 */
START_TEST(mute_peer_is_asked_and_then_given_up)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    config.ping_interval_ms = 10;
    config.ping_deadline_ms = 60;
    struct n2_message heard;
    start_raw(&config);
    uint64_t begin = uv_now(&test.loop);
    raw_greet(N2_ROLE_SOCKSD);
    bool pinged = false;
    while (near.down == 0) {
        uv_run(&test.loop, UV_RUN_ONCE);
        ck_assert(!test.timed_out);
        while (raw_hear(&heard)) {
            pinged |= heard.type == N2_PING;
        }
    }
    ck_assert(pinged);
    ck_assert_uint_ge(uv_now(&test.loop) - begin, 60);
    expect_down(&near, "nothing heard");
    finish();
}
END_TEST

/* N2-PING-020 */
START_TEST(peer_that_answers_is_kept)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    config.ping_interval_ms = 5;
    config.ping_deadline_ms = 1000;
    struct n2_message heard;
    start_raw(&config);
    raw_greet(N2_ROLE_SOCKSD);
    uint64_t last = 0;
    for (int pongs = 0; pongs < 20;) {
        TEST_RUN_UNTIL(&test, raw_hear(&heard));
        ck_assert_int_eq(heard.type, N2_PING);
        ck_assert_uint_gt(heard.nonce, last);
        last = heard.nonce;
        struct n2_message pong = {.type = N2_PONG, .nonce = heard.nonce};
        raw_say(&pong);
        pongs++;
    }
    ck_assert_int_eq(near.down, 0);
    finish();
}
END_TEST

START_TEST(two_links_keep_each_other_alive)
{
    struct n2_link_config socksd = standard(N2_ROLE_SOCKSD), relayd = standard(N2_ROLE_RELAYD);
    socksd.ping_interval_ms = relayd.ping_interval_ms = 5;
    socksd.ping_deadline_ms = relayd.ping_deadline_ms = 2000;
    start_two_with(&socksd, &relayd);
    TEST_RUN_UNTIL(&test, n2_link_stats(near.link).messages_in > 20);
    ck_assert_int_eq(near.down + far_end.down, 0);
    ck_assert_int_eq(near.messages + far_end.messages, 0);
    finish();
}
END_TEST

START_TEST(own_pause_is_not_the_peers_fault)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    config.ping_interval_ms = 20;
    config.ping_deadline_ms = 50;
    struct n2_message event = sample(N2_RELAY_EVENT);
    start_raw(&config);
    raw_greet(N2_ROLE_SOCKSD);
    raw_say(&event); /* it waits in the socket while this process stands still */
    uint64_t begin = uv_hrtime();
    while (uv_hrtime() - begin < 120 * 1000000ull) {
        usleep(1000);
    }
    TEST_RUN_UNTIL(&test, near.messages == 1 || near.down == 1);
    ck_assert_msg(near.down == 0, "down: %s", near.why);
    finish();
}
END_TEST

/* --- descriptors --- */

START_TEST(descriptor_reaches_relayd)
{
    start_two();
    struct n2_message attach = sample(N2_ATTACH_CLIENT);
    for (int i = 0; i < 300; i++) {
        ck_assert_int_eq(n2_link_send(near.link, &attach, some_descriptor()), 0);
    }
    TEST_RUN_UNTIL(&test, far_end.messages == 300);
    ck_assert_int_eq(far_end.last.type, N2_ATTACH_CLIENT);
    finish();
}
END_TEST

START_TEST(declared_descriptor_is_missing)
{
    struct n2_message attach = sample(N2_ATTACH_CLIENT);
    start_raw_up(N2_ROLE_RELAYD);
    raw_say(&attach);
    expect_down(&near, "missing");
    ck_assert_int_eq(near.messages, 0);
    finish();
}
END_TEST

START_TEST(descriptor_is_not_declared)
{
    struct n2_message drain = sample(N2_DRAIN);
    start_raw_up(_i ? N2_ROLE_SOCKSD : N2_ROLE_RELAYD);
    int fd = some_descriptor();
    raw_say_with(&drain, fd);
    close(fd);
    expect_down(&near, "descriptor");
    finish();
}
END_TEST

START_TEST(descriptor_and_declaration_disagree_in_a_send)
{
    start_two();
    struct n2_message attach = sample(N2_ATTACH_CLIENT);
    ck_assert_int_eq(n2_link_send(near.link, &attach, -1), -EINVAL);
    expect_down(&near, "not valid");
    finish();
    start_two();
    struct n2_message drain = sample(N2_DRAIN);
    ck_assert_int_eq(n2_link_send(near.link, &drain, some_descriptor()), -EINVAL);
    expect_down(&near, "not valid");
    finish();
}
END_TEST

/* --- a peer that does not read --- */

/* N2-MARK-010 */
START_TEST(congestion_and_relief)
{
    start_raw_up(N2_ROLE_SOCKSD);
    struct n2_message message = sample(N2_POLICY_CHANGED), heard;
    while (!n2_link_is_congested(near.link)) {
        ck_assert_int_eq(n2_link_send(near.link, &message, -1), 0);
        if (n2_link_stats(near.link).messages_out % 1000 == 0) {
            test_turns(&test, 1);
        }
    }
    while (near.relieved == 0) {
        ck_assert(!test.timed_out);
        while (raw_hear(&heard)) {
        }
        test_turns(&test, 1);
    }
    ck_assert(!n2_link_is_congested(near.link));
    finish();
}
END_TEST

/* N2-MARK-020 */
START_TEST(full_queue_ends_the_link)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    config.max_queued = 300 * 1024;
    start_raw(&config);
    raw_greet(N2_ROLE_SOCKSD);
    struct n2_message message = sample(N2_POLICY_CHANGED);
    int result;
    do {
        result = n2_link_send(near.link, &message, -1);
    } while (result == 0);
    ck_assert_int_eq(result, -ENOBUFS);
    ck_assert_int_eq(near.down, 0);
    expect_down(&near, "does not read");
    finish();
}
END_TEST

#define BURST 3000

static void attach_with_early_octets(struct end *end)
{
    struct n2_message attach = sample(N2_ATTACH_CLIENT);
    attach.attach_client.early_length = N2_EARLY_DATA_MAX;
    ck_assert_int_eq(n2_link_send(end->link, &attach, some_descriptor()), 0);
}

/* Says the same many times, as a peer whose writes are joined would. */
static void raw_say_often(const struct n2_message *message, size_t times)
{
    static uint8_t octets[BURST * 128];
    uint8_t frame[FRAME_HEADER + N2_PAYLOAD_MAX];
    const size_t length = n2_encode(message, frame, sizeof(frame));
    ck_assert_uint_le(times * length, sizeof(octets));
    for (size_t i = 0; i < times; i++) {
        memcpy(octets + i * length, frame, length);
    }
    ck_assert_int_eq(send(raw, octets, times * length, MSG_NOSIGNAL), (ssize_t)(times * length));
}

/* N2-MARK-040 */
START_TEST(burst_is_answered_as_the_peer_reads)
{
    struct n2_message connected = sample(N2_RELAY_CONNECTED), heard;
    size_t attached = 0;

    start_raw_up(N2_ROLE_SOCKSD);
    near.act_in_message = true;
    near.act = attach_with_early_octets;
    raw_say_often(&connected, BURST);
    TEST_RUN_UNTIL(&test, n2_link_is_congested(near.link));
    test_turns(&test, 50);
    ck_assert_uint_le(n2_link_queued(near.link), 256 * 1024 + FRAME_HEADER + N2_PAYLOAD_MAX);
    ck_assert_int_lt(near.messages, BURST);
    while (attached < BURST) {
        ck_assert(!test.timed_out);
        while (raw_hear(&heard)) {
            attached += heard.type == N2_ATTACH_CLIENT;
        }
        test_turns(&test, 1);
        ck_assert_uint_le(n2_link_queued(near.link), 256 * 1024 + FRAME_HEADER + N2_PAYLOAD_MAX);
    }
    ck_assert_int_eq(near.messages, BURST);
    ck_assert_int_eq(near.down, 0);
    finish();
}
END_TEST

/* It goes although nobody reads what it has said. */
START_TEST(peer_goes_while_it_is_not_read)
{
    struct n2_message connected = sample(N2_RELAY_CONNECTED);

    start_raw_up(N2_ROLE_SOCKSD);
    near.act_in_message = true;
    near.act = attach_with_early_octets;
    raw_say_often(&connected, BURST);
    TEST_RUN_UNTIL(&test, n2_link_is_congested(near.link));
    test_turns(&test, 50);
    close(raw);
    raw = -1;
    TEST_RUN_UNTIL(&test, near.down == 1);
    finish();
}
END_TEST

/* --- n2_link_close() inside every callback --- */

START_TEST(closed_in_up)
{
    struct n2_link_config config = standard(N2_ROLE_RELAYD);
    struct n2_message messages[] = {sample(N2_HELLO), sample(N2_DRAIN)};
    start_raw(&config);
    near.act_in_up = true;
    near.act = close_it;
    raw_say(&messages[0]);
    raw_say(&messages[1]);
    TEST_RUN_UNTIL(&test, near.up == 1);
    test_turns(&test, 3);
    ck_assert_int_eq(near.messages + near.down, 0);
    finish();
}
END_TEST

START_TEST(closed_in_message)
{
    struct n2_message drain = sample(N2_DRAIN);
    start_raw_up(N2_ROLE_RELAYD);
    near.act_in_message = true;
    near.act = close_it;
    raw_say(&drain);
    raw_say(&drain);
    TEST_RUN_UNTIL(&test, near.messages == 1);
    test_turns(&test, 3);
    ck_assert_int_eq(near.messages, 1);
    ck_assert_int_eq(near.down, 0);
    finish();
}
END_TEST

START_TEST(closed_in_down)
{
    start_raw_up(N2_ROLE_RELAYD);
    near.act_in_down = true;
    near.act = close_it;
    close(raw);
    raw = -1;
    expect_down(&near, "closed");
    finish();
}
END_TEST

START_TEST(closed_in_relieved)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    config.high_mark = 100;
    config.low_mark = 50;
    start_raw(&config);
    raw_greet(N2_ROLE_SOCKSD);
    near.act_in_relieved = true;
    near.act = close_it;
    struct n2_message message = sample(N2_OPEN_RELAY);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(n2_link_request(near.link, &message, -1, 0, on_done, &near, NULL), 0);
    }
    TEST_RUN_UNTIL(&test, near.relieved == 1);
    finish();
    ck_assert_int_eq(near.completed, 0);
}
END_TEST

START_TEST(closed_at_once)
{
    struct n2_link_config config = standard(N2_ROLE_SOCKSD);
    start_raw(&config);
    finish();
    ck_assert_int_eq(near.up + near.down, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("n2_link");
    TCase *c = tcase_create("versions");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, both_sides_come_up);
    tcase_add_test(c, one_side_hears_of_the_others_close);
    tcase_add_test(c, higher_minor_is_welcome);
    tcase_add_loop_test(c, relayd_refuses_another_major, 0, 3);
    tcase_add_loop_test(c, socksd_refuses_another_major, 0, 3);
    tcase_add_loop_test(c, hello_has_a_deadline, 0, 2);
    tcase_add_test(c, nothing_is_sent_before_up);
    suite_add_tcase(s, c);
    c = tcase_create("permitted");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, permitted_messages_when_up, 1, N2_TYPE_END);
    tcase_add_loop_test(c, permitted_messages_before_up, 1, N2_TYPE_END);
    tcase_add_test(c, owner_refuses_a_message);
    tcase_add_loop_test(c, garbage_ends_the_link, 0, 6);
    tcase_add_loop_test(c, garbage_before_hello_ends_the_link, 0, 6);
    tcase_add_test(c, what_this_side_may_not_send);
    tcase_add_test(c, invalid_message_is_not_sent);
    suite_add_tcase(s, c);
    c = tcase_create("liveness");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, ping_is_answered);
    tcase_add_test(c, mute_peer_is_asked_and_then_given_up);
    tcase_add_test(c, peer_that_answers_is_kept);
    tcase_add_test(c, two_links_keep_each_other_alive);
    tcase_add_test(c, own_pause_is_not_the_peers_fault);
    suite_add_tcase(s, c);
    c = tcase_create("descriptors");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, descriptor_reaches_relayd);
    tcase_add_test(c, declared_descriptor_is_missing);
    tcase_add_loop_test(c, descriptor_is_not_declared, 0, 2);
    tcase_add_test(c, descriptor_and_declaration_disagree_in_a_send);
    suite_add_tcase(s, c);
    c = tcase_create("congestion");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, congestion_and_relief);
    tcase_add_test(c, full_queue_ends_the_link);
    tcase_add_test(c, burst_is_answered_as_the_peer_reads);
    tcase_add_test(c, peer_goes_while_it_is_not_read);
    suite_add_tcase(s, c);
    c = tcase_create("closing");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, closed_in_up);
    tcase_add_test(c, closed_in_message);
    tcase_add_test(c, closed_in_down);
    tcase_add_test(c, closed_in_relieved);
    tcase_add_test(c, closed_at_once);
    suite_add_tcase(s, c);
    return run_suite(s);
}
