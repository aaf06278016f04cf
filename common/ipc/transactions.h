/*
 * Requests that wait for their answers: id → who waits, with a deadline each. Ids are chosen here,
 * never 0 and never used twice, so that a late answer cannot meet another request.
 *
 * Adding, finding and removing cost O(log n). One timer serves all deadlines.
 */
#ifndef SOCKST_COMMON_IPC_TRANSACTIONS_H
#define SOCKST_COMMON_IPC_TRANSACTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct transactions;

struct transaction {
    uint64_t id;
    unsigned type;      /* of the request; of meaning to the owner only */
    void (*done)(void); /* the owner's, in any type */
    void *user;
};

/* A deadline has passed; the transaction is removed already. Anything may be called inside, also
 * transactions_close(). */
typedef void (*transactions_expired_cb)(const struct transaction *transaction, void *user);

/* At most `max` at a time. Returns 0 or -ENOMEM. */
int transactions_open(struct transactions **out, uv_loop_t *loop, uint32_t max,
                      transactions_expired_cb expired, void *user);

/*
 * Adds one with a new id, which is stored in transaction->id. deadline_ms is counted from the
 * loop's now; 0: none. Returns 0, -EAGAIN when `max` are waiting, or -ENOMEM.
 */
int transactions_add(struct transactions *transactions, struct transaction *transaction,
                     uint32_t deadline_ms);

/* Looks one up without removing it; NULL when it is not known. Valid until the next call. */
const struct transaction *transactions_find(const struct transactions *transactions, uint64_t id);

/* Removes it and, if `out` is not NULL, says what it was. Returns false when it is not known. */
bool transactions_remove(struct transactions *transactions, uint64_t id, struct transaction *out);

/* Removes the one whose deadline is next. Returns false when none is left. */
bool transactions_pop(struct transactions *transactions, struct transaction *out);

size_t transactions_count(const struct transactions *transactions);

/* Drops every transaction without a call; memory goes with the timer's close callback. */
void transactions_close(struct transactions *transactions);

#endif
