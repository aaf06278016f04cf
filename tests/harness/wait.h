/*
 * Time in tests: conditions with a deadline, never fixed sleeps.
 */
#ifndef SOCKST_TESTS_HARNESS_WAIT_H
#define SOCKST_TESTS_HARNESS_WAIT_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

/* How long a test waits for what must happen, when the time itself is not the subject. */
#define PATIENCE_MS 10000

/* CLOCK_MONOTONIC. */
int64_t now_ms(void);
int64_t now_us(void);

/* Polls at most once a millisecond; fails the test when the condition is still false at the end. */
#define WAIT_UNTIL(condition, timeout_ms)                                                          \
    do {                                                                                           \
        const int64_t wait_end_ = now_ms() + (timeout_ms);                                         \
        while (!(condition)) {                                                                     \
            ck_assert_msg(now_ms() < wait_end_, "not within %d ms: %s", (int)(timeout_ms),         \
                          #condition);                                                             \
            wait_tick();                                                                           \
        }                                                                                          \
    } while (0)

/* For negative claims: polls for the whole time and fails as soon as the condition turns false. */
#define ALWAYS_FOR(condition, duration_ms)                                                         \
    do {                                                                                           \
        const int64_t wait_end_ = now_ms() + (duration_ms);                                        \
        while (now_ms() < wait_end_) {                                                             \
            ck_assert_msg(condition, "does not hold for %d ms: %s", (int)(duration_ms),            \
                          #condition);                                                             \
            wait_tick();                                                                           \
        }                                                                                          \
    } while (0)

/* Waits for poll() events on one descriptor; false when the time is over. A negative timeout is 0.
 */
bool wait_fd(int fd, short events, int64_t timeout_ms);

/* The pause between two looks at a condition. */
void wait_tick(void);

/* Built with AddressSanitizer? Then limits on time and memory mean little. */
bool built_with_sanitizer(void);

#endif
