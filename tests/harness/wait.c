#include "tests/harness/wait.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t now_ms(void)
{
    return now_us() / 1000;
}

void wait_tick(void)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    nanosleep(&tick, NULL);
}

bool wait_fd(int fd, short events, int64_t timeout_ms)
{
    const int64_t end = now_ms() + timeout_ms;
    for (;;) {
        struct pollfd poll_fd = {.fd = fd, .events = events};
        const int64_t left = end - now_ms();
        const int ready = poll(&poll_fd, 1, left > 0 ? (int)left : 0);
        if (ready > 0) {
            return true;
        }
        if (ready == 0) {
            return false;
        }
        ck_assert_int_eq(errno, EINTR);
    }
}

bool built_with_sanitizer(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return true;
#endif
#endif
    return false;
}
