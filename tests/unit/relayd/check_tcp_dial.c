/*
 * How the candidates of a CONNECT are dialled: in which order, when, who wins, and which error is
 * told. N2-CONNECT-020, N2-CONNECT-030, N2-CONNECT-040.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/system/fd_budget.h"
#include "relayd/plane/socket/stranger_filter.h"
#include "relayd/plane/socket/tcp_dial.h"
#include "tests/unit/relayd/classic_connection.h"

static struct plane_fixture fixture;

static void setup(void)
{
    plane_fixture_setup(&fixture);
}

static void teardown(void)
{
    plane_fixture_teardown(&fixture);
}

static void run(const char *command)
{
    network_privilege(true);
    ck_assert_msg(system(command) == 0, "failed: %s", command);
    network_privilege(false);
}

/* The listener is deaf until it is detached from its filter. */
static void deafen(int listener)
{
    network_privilege(true);
    ck_assert_int_eq(stranger_filter_drop_all(listener), 0);
    network_privilege(false);
}

/* The relay's candidates are exactly these. */
static void set_candidates(struct classic_connection *k, const struct endpoint *candidates,
                           unsigned count)
{
    k->c.relay.order.candidate_count = 0;
    for (unsigned i = 0; i < count; i++)
        classic_add_candidate(k, &candidates[i]);
    k->c.relay.relay.destination = candidates[0];
}

static struct endpoint name_of(int fd)
{
    return socket_name(fd);
}

/* Nobody listens there. The socket keeps the port. */
static int closed_port(enum party party, bool v6)
{
    return party_socket(party, v6, SOCK_STREAM, 0);
}

static uint64_t open_timed(struct classic_connection *k)
{
    plane_fixture_turn(&fixture); /* the loop's time is that of its last turn */
    const uint64_t from = monotonic_ms();

    tcp_connection_open(&k->c);
    return monotonic_ms() - from;
}

static void expect_reached(const struct classic_connection *k, const struct endpoint *candidate)
{
    const struct relay *relay = &k->c.relay.relay;
    const struct endpoint name = socket_name(k->c.target);

    ck_assert(endpoint_equal(&relay->destination, candidate));
    ck_assert(endpoint_equal(&name, candidate));
    ck_assert(endpoint_equal(&relay->bound, &relay->egress));
}

/* ---- order and time ----------------------------------------------------------------------------
 */

/* _i: how many silent ones come first. The last is reached, 250 ms later for each; each gets one
 * SYN. */
START_TEST(silent_candidates_are_not_waited_for)
{
    struct classic_connection k;
    struct endpoint candidates[4];
    int silent[3];
    const unsigned count = (unsigned)_i;

    classic_prepare_connect(&k, &fixture, false, false);
    for (unsigned i = 0; i < count; i++) {
        silent[i] = silent_listener(PARTY_STRANGER, i % 2 == 0);
        candidates[i] = name_of(silent[i]);
    }
    candidates[count] = name_of(k.c.listener);
    set_candidates(&k, candidates, count + 1);
    const int capture = capture_open();
    const unsigned fds = count_fds();
    const uint64_t took = open_timed(&k);
    ck_assert_uint_ge(took + 5, (uint64_t)count * TCP_DIAL_ATTEMPT_DELAY_MS);
    ck_assert_uint_lt(took, (uint64_t)count * TCP_DIAL_ATTEMPT_DELAY_MS + 2000);
    expect_reached(&k, &candidates[count]);
    /* The target's end and ours: the losers are closed. */
    ck_assert_uint_eq(count_fds(), fds + 2);
    close(capture);
    for (unsigned i = 0; i < count; i++)
        close(silent[i]);
    classic_dispose(&k);
}
END_TEST

/* The second starts after 250 ms, not before, and the one behind a winner never. */
START_TEST(attempts_in_order)
{
    struct classic_connection k;
    const int silent = silent_listener(PARTY_STRANGER, false);
    const int never = party_listener(PARTY_STRANGER, true, 0);
    struct endpoint candidates[3] = {name_of(silent), {.port = 0}, name_of(never)};

    classic_prepare_connect(&k, &fixture, false, false);
    candidates[1] = name_of(k.c.listener);
    set_candidates(&k, candidates, 3);
    const int to_first = capture_open(), to_second = capture_open(), to_third = capture_open();
    plane_fixture_turn(&fixture);
    const uint64_t from = monotonic_ms();
    fake_relay_open(&k.c.relay);
    ck_assert_uint_eq(capture_count_to(to_first, &candidates[0]), 1);
    ck_assert_uint_eq(capture_count_to(to_second, &candidates[1]), 0);
    WAIT_FOR(&fixture, k.c.relay.opened == 1);
    ck_assert_uint_ge(monotonic_ms() - from + 5, TCP_DIAL_ATTEMPT_DELAY_MS);
    turns_within(&fixture, 300);
    ck_assert_uint_gt(capture_count_to(to_second, &candidates[1]), 0);
    ck_assert_uint_eq(capture_count_to(to_third, &candidates[2]), 0);
    ck_assert(endpoint_equal(&k.c.relay.relay.destination, &candidates[1]));
    close(to_first);
    close(to_second);
    close(to_third);
    close(silent);
    close(never);
    classic_dispose(&k);
}
END_TEST

/* Those that refuse, or cannot be dialled at all, are passed over at once. */
START_TEST(failures_are_passed_over_at_once)
{
    struct classic_connection k;
    const int refusing[2] = {closed_port(PARTY_STRANGER, false), closed_port(PARTY_STRANGER, true)};
    struct endpoint candidates[4] = {name_of(refusing[0]), {.port = 80}, name_of(refusing[1])};

    fixture.config.egress.addresses.count = 0;
    ck_assert_int_eq(endpoint_parse("192.0.2.1:80", &candidates[1]), 0); /* no route */
    classic_prepare_connect(&k, &fixture, false, true);
    candidates[3] = name_of(k.c.listener);
    set_candidates(&k, candidates, 4);
    ck_assert_uint_lt(open_timed(&k), 2 * TCP_DIAL_ATTEMPT_DELAY_MS); /* three have failed */
    expect_reached(&k, &candidates[3]);
    close(refusing[0]);
    close(refusing[1]);
    classic_dispose(&k);
}
END_TEST

/* The first one answers late, when the second is under way: it wins. */
START_TEST(an_earlier_one_may_still_win)
{
    struct classic_connection k;
    const int silent = silent_listener(PARTY_STRANGER, false);

    classic_prepare_connect(&k, &fixture, false, false);
    deafen(k.c.listener);
    const struct endpoint candidates[2] = {name_of(k.c.listener), name_of(silent)};
    set_candidates(&k, candidates, 2);
    const unsigned fds = count_fds();
    fake_relay_open(&k.c.relay);
    turns_within(&fixture, 350);
    ck_assert_uint_eq(count_fds(), fds + 2);
    ck_assert_int_eq(stranger_filter_detach(k.c.listener), 0); /* the SYN comes again after 1 s */
    WAIT_FOR(&fixture, k.c.relay.opened == 1);
    ck_assert(endpoint_equal(&k.c.relay.relay.destination, &candidates[0]));
    ck_assert_uint_eq(count_fds(), fds + 1);
    close(silent);
    classic_dispose(&k);
}
END_TEST

/* All sixteen under way at once, the last one wins. */
START_TEST(as_many_candidates_as_there_may_be)
{
    struct classic_connection k;
    struct endpoint candidates[N2_CANDIDATES_MAX];
    const int silent = silent_listener(PARTY_STRANGER, false);

    classic_prepare_connect(&k, &fixture, false, false);
    for (unsigned i = 0; i < N2_CANDIDATES_MAX - 1; i++)
        candidates[i] = name_of(silent);
    candidates[N2_CANDIDATES_MAX - 1] = name_of(k.c.listener);
    set_candidates(&k, candidates, N2_CANDIDATES_MAX);
    const unsigned fds = count_fds();
    ck_assert_uint_ge(open_timed(&k) + 20, 15 * TCP_DIAL_ATTEMPT_DELAY_MS);
    expect_reached(&k, &candidates[N2_CANDIDATES_MAX - 1]);
    ck_assert_uint_eq(count_fds(), fds + 2);
    close(silent);
    classic_dispose(&k);
}
END_TEST

/* ---- which error -------------------------------------------------------------------------------
 */

/* By what it says, most first. */
enum failure {
    FAILURE_REFUSED,
    FAILURE_SILENT,
    FAILURE_HOST,
    FAILURE_NETWORK,
    FAILURE_PROHIBITED,
    FAILURE_OTHER,
    FAILURE_COUNT
};

static const enum n2_error failure_errors[FAILURE_COUNT] = {
    N2_ERROR_REFUSED,          N2_ERROR_TIMED_OUT,
    N2_ERROR_HOST_UNREACHABLE, N2_ERROR_NETWORK_UNREACHABLE,
    N2_ERROR_NOT_ALLOWED,      N2_ERROR_GENERAL};

static struct endpoint failing(enum failure failure, int *keep)
{
    static const char *const addresses[FAILURE_COUNT] = {
        [FAILURE_HOST] = "198.51.100.1:80",
        [FAILURE_NETWORK] = "192.0.2.1:80",
        [FAILURE_PROHIBITED] = "203.0.113.1:80",
        [FAILURE_OTHER] = "198.18.0.1:80",
    };
    struct endpoint out;

    *keep = -1;
    if (failure == FAILURE_REFUSED)
        *keep = closed_port(PARTY_STRANGER, false);
    else if (failure == FAILURE_SILENT)
        *keep = silent_listener(PARTY_STRANGER, false);
    else
        ck_assert_int_eq(endpoint_parse(addresses[failure], &out), 0);
    if (*keep >= 0)
        out = name_of(*keep);
    return out;
}

/* _i: every pair, in both orders. */
START_TEST(the_error_that_says_most)
{
    struct classic_connection k;
    const enum failure first = (enum failure)(_i / FAILURE_COUNT);
    const enum failure second = (enum failure)(_i % FAILURE_COUNT);
    const enum failure best = first < second ? first : second;
    struct endpoint candidates[2];
    char address[ENDPOINT_TEXT_MAX];
    int keep[2];

    run("ip route add unreachable 198.51.100.0/24 && ip route add prohibit 203.0.113.0/24 && "
        "ip route add blackhole 198.18.0.0/15");
    fixture.config.egress.addresses.count = 0;
    fixture.config.tcp.connect_timeout_ms = 400;
    classic_prepare_connect(&k, &fixture, false, false);
    candidates[0] = failing(first, &keep[0]);
    candidates[1] = failing(second, &keep[1]);
    set_candidates(&k, candidates, 2);
    const unsigned fds = count_fds();
    fake_relay_open(&k.c.relay);
    WAIT_FOR(&fixture, k.c.relay.closed == 1);
    ck_assert_uint_eq(k.c.relay.failed, 1);
    ck_assert_msg(k.c.relay.error == failure_errors[best], "expected %s, got %s (%s)",
                  n2_error_name(failure_errors[best]), n2_error_name(k.c.relay.error),
                  k.c.relay.text);
    endpoint_format(&candidates[first == best ? 0 : 1], address, sizeof(address));
    ck_assert_msg(strstr(k.c.relay.text, address) != NULL, "%s: %s", address, k.c.relay.text);
    ck_assert_uint_eq(count_fds(), fds);
    for (unsigned i = 0; i < 2; i++) {
        if (keep[i] >= 0)
            close(keep[i]);
    }
    classic_dispose(&k);
}
END_TEST

/* The time is that of all candidates together, and what has failed before tells more than silence
 * where it does. */
START_TEST(the_time_of_all_is_bounded)
{
    struct classic_connection k;
    const int silent = silent_listener(PARTY_STRANGER, false);
    struct endpoint candidates[8];

    fixture.config.tcp.connect_timeout_ms = 600;
    classic_prepare_connect(&k, &fixture, false, false);
    for (unsigned i = 0; i < 8; i++)
        candidates[i] = name_of(silent);
    set_candidates(&k, candidates, 8);
    plane_fixture_turn(&fixture);
    const uint64_t from = monotonic_ms();
    fake_relay_open(&k.c.relay);
    WAIT_FOR(&fixture, k.c.relay.closed == 1);
    ck_assert_int_eq(k.c.relay.error, N2_ERROR_TIMED_OUT);
    ck_assert_uint_ge(monotonic_ms() - from + 5, 600);
    ck_assert_uint_lt(monotonic_ms() - from, 1800); /* before all have been started */
    close(silent);
    classic_dispose(&k);
}
END_TEST

/* ---- the end, and resources --------------------------------------------------------------------
 */

/* Closed while several attempts are under way: nothing is left of them at once. */
START_TEST(closed_while_dialling)
{
    struct classic_connection k;
    const int silent = silent_listener(PARTY_STRANGER, false);
    struct endpoint candidates[4];

    classic_prepare_connect(&k, &fixture, false, false);
    for (unsigned i = 0; i < 4; i++)
        candidates[i] = name_of(silent);
    set_candidates(&k, candidates, 4);
    const unsigned fds = count_fds();
    fake_relay_open(&k.c.relay);
    turns_within(&fixture, 600);
    ck_assert_uint_eq(count_fds(), fds + 3);
    fake_relay_close(&k.c.relay, true);
    ck_assert_uint_eq(count_fds(), fds);
    WAIT_FOR(&fixture, k.c.relay.closed == 1);
    turns_within(&fixture, 300);
    ck_assert_uint_eq(k.c.relay.opened + k.c.relay.failed + k.c.relay.ended, 0);
    close(silent);
    classic_dispose(&k);
}
END_TEST

/* Without a descriptor for a further attempt the one under way goes on. */
START_TEST(a_further_attempt_without_a_descriptor)
{
    struct classic_connection k;

    classic_prepare_connect(&k, &fixture, false, false);
    deafen(k.c.listener);
    const struct endpoint candidates[2] = {name_of(k.c.listener), name_of(k.c.listener)};
    set_candidates(&k, candidates, 2);
    const int next = dup(0);
    close(next);
    limit_descriptors((unsigned)next + 1);
    fake_relay_open(&k.c.relay);
    turns_within(&fixture, 350);
    ck_assert_uint_eq(k.c.relay.failed, 0);
    limit_descriptors(1024);
    ck_assert_int_eq(stranger_filter_detach(k.c.listener), 0);
    WAIT_FOR(&fixture, k.c.relay.opened == 1);
    classic_dispose(&k);
}
END_TEST

/* Further attempts do not live on the reserve; they wait until there is room, or until those under
 * way have failed. */
START_TEST(further_attempts_leave_the_reserve_alone)
{
    struct classic_connection k;
    const int silent = silent_listener(PARTY_STRANGER, false);

    classic_prepare_connect(&k, &fixture, false, false);
    const struct endpoint candidates[2] = {name_of(silent), name_of(k.c.listener)};
    set_candidates(&k, candidates, 2);
    const int filler = dup(0), next = dup(0);
    close(next);
    const struct rlimit limit = {(rlim_t)next + FD_RESERVE, (rlim_t)next + FD_RESERVE};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_uint_eq(fd_budget_setup(), limit.rlim_cur);
    const unsigned fds = count_fds();
    if (_i == 1)
        fixture.config.tcp.connect_timeout_ms = 800;
    fake_relay_open(&k.c.relay);
    turns_within(&fixture, 600);
    ck_assert_uint_eq(count_fds(), fds + 1);
    ck_assert_uint_eq(k.c.relay.opened + k.c.relay.failed, 0);
    if (_i == 1) {
        WAIT_FOR(&fixture, k.c.relay.closed == 1);
        ck_assert_int_eq(k.c.relay.error, N2_ERROR_TIMED_OUT);
        close(filler);
    } else {
        close(filler);
        WAIT_FOR(&fixture, k.c.relay.opened == 1);
        ck_assert(endpoint_equal(&k.c.relay.relay.destination, &candidates[1]));
    }
    close(silent);
    classic_dispose(&k);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tcp_dial");
    TCase *tests = tcase_create("tcp_dial");
    SRunner *runner = srunner_create(suite);

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, silent_candidates_are_not_waited_for, 0, 4);
    tcase_add_test(tests, attempts_in_order);
    tcase_add_test(tests, failures_are_passed_over_at_once);
    tcase_add_test(tests, an_earlier_one_may_still_win);
    tcase_add_test(tests, as_many_candidates_as_there_may_be);
    tcase_add_loop_test(tests, the_error_that_says_most, 0, FAILURE_COUNT * FAILURE_COUNT);
    tcase_add_test(tests, the_time_of_all_is_bounded);
    tcase_add_test(tests, closed_while_dialling);
    tcase_add_test(tests, a_further_attempt_without_a_descriptor);
    tcase_add_loop_test(tests, further_attempts_leave_the_reserve_alone, 0, 2);
    suite_add_tcase(suite, tests);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
