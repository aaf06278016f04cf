/*
 * How a decoder answers while a message arrives: at every truncation, from a block of exactly that
 * size, so that AddressSanitizer sees an octet read too many (N1-CONN-010).
 */
#ifndef SOCKST_TESTS_N1_ARRIVAL_H
#define SOCKST_TESTS_N1_ARRIVAL_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "proto/n1.h"

#define UNTOUCHED ((size_t)-1)

/*
 * `decides_at` octets are the fewest that get the answer `expected`; with N1_OK they are the
 * message. `data` may go on behind them, which must change nothing.
 */
#define assert_arrival(decode, type, data, length, decides_at, expected)                           \
    do {                                                                                           \
        for (size_t n_ = 0; n_ <= (length); n_++) {                                                \
            type out_;                                                                             \
            size_t used_ = UNTOUCHED;                                                              \
            uint8_t *block_ = calloc(n_, 1);                                                       \
            if (n_ != 0)                                                                           \
                memcpy(block_, (data), n_);                                                        \
            enum n1_result got_ = decode(block_, n_, &out_, &used_);                               \
            free(block_);                                                                          \
            enum n1_result want_ = n_ < (decides_at) ? N1_NEED_MORE : (expected);                  \
            ck_assert_msg(got_ == want_, "%s: %zu of %zu octets: %d, expected %d", #decode, n_,    \
                          (size_t)(length), (int)got_, (int)want_);                                \
            ck_assert_uint_eq(used_, want_ == N1_OK ? (decides_at) : UNTOUCHED);                   \
        }                                                                                          \
    } while (0)

/* Every size that is too small gets 0 and nothing is written behind it. */
#define assert_encodes(encode_call, data, length)                                                  \
    do {                                                                                           \
        for (size_t size_ = 0; size_ <= (length) + 1; size_++) {                                   \
            uint8_t *out_ = calloc(size_, 1);                                                      \
            size_t out_size_ = size_;                                                              \
            size_t written_ = (encode_call);                                                       \
            ck_assert_uint_eq(written_, size_ < (length) ? 0 : (length));                          \
            if (written_ != 0)                                                                     \
                ck_assert_mem_eq(out_, (data), (length));                                          \
            (void)out_size_;                                                                       \
            free(out_);                                                                            \
        }                                                                                          \
    } while (0)

/* One program, one suite. */
static inline int run_tests(TCase *tcase)
{
    Suite *suite = suite_create("n1");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
