/*
 * Hash tables whose keys are chosen by a peer: uthash with SipHash-2-4 under a key that is random
 * for each process, and without its exit() when memory runs out. Include this instead of
 * <uthash.h>.
 *
 * After HASH_ADD… the element is in the table only if hh.tbl is not NULL (the macro sets it to NULL
 * when out of memory).
 */
#ifndef SOCKST_COMMON_KEYED_HASH_H
#define SOCKST_COMMON_KEYED_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) ((element)->hh.tbl = NULL)
#define HASH_FUNCTION(key_, length_, hash_)                                                        \
    ((hash_) = (unsigned)keyed_hash((key_), (size_t)(length_)))
#include <uthash.h>

/* SipHash-2-4 of `length` octets under the key of 16 octets. Pure; for the test vectors. */
uint64_t siphash_2_4(const uint8_t key[16], const void *data, size_t length);

/* Draws the process's key. Returns 0 or -errno. Must come before the first table is used. */
int keyed_hash_setup(void);

/* Under the process's key. */
uint64_t keyed_hash(const void *data, size_t length);

#endif
