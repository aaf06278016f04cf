#include "common/ipc/transactions.h"

#include <errno.h>
#include <stdlib.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(entry) ((entry)->lost = true)
#include <uthash.h>

#define HEAP_FIRST 16
#define NO_DEADLINE UINT64_MAX

struct entry {
    struct transaction transaction;
    uint64_t deadline; /* of the loop's clock */
    size_t place;      /* in the heap */
    bool lost;         /* the hash had no memory for it */
    UT_hash_handle hh;
};

struct transactions {
    uv_timer_t timer;
    uint64_t armed_for; /* the deadline that the timer waits for; NO_DEADLINE: it does not run */
    bool closed;
    uint64_t last_id;
    uint32_t max;
    transactions_expired_cb expired;
    void *user;
    struct entry *by_id;
    struct entry **heap; /* earliest deadline first */
    size_t count, capacity;
};

/* --- the heap --- */

static void place(struct transactions *t, size_t at, struct entry *entry)
{
    t->heap[at] = entry;
    entry->place = at;
}

static void sift_up(struct transactions *t, size_t at, struct entry *entry)
{
    while (at > 0 && entry->deadline < t->heap[(at - 1) / 2]->deadline) {
        place(t, at, t->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(t, at, entry);
}

static void sift_down(struct transactions *t, size_t at, struct entry *entry)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= t->count) {
            break;
        }
        if (child + 1 < t->count && t->heap[child + 1]->deadline < t->heap[child]->deadline) {
            child++;
        }
        if (entry->deadline <= t->heap[child]->deadline) {
            break;
        }
        place(t, at, t->heap[child]);
        at = child;
    }
    place(t, at, entry);
}

static int heap_reserve(struct transactions *t)
{
    if (t->count < t->capacity) {
        return 0;
    }
    size_t capacity = t->capacity == 0 ? HEAP_FIRST : 2 * t->capacity;
    struct entry **heap = realloc(t->heap, capacity * sizeof(struct entry *));
    if (heap == NULL) {
        return -ENOMEM;
    }
    t->heap = heap;
    t->capacity = capacity;
    return 0;
}

static void heap_remove(struct transactions *t, const struct entry *entry)
{
    struct entry *last = t->heap[--t->count];
    if (last == entry) {
        return;
    }
    if (entry->place > 0 && last->deadline < t->heap[(entry->place - 1) / 2]->deadline) {
        sift_up(t, entry->place, last);
    } else {
        sift_down(t, entry->place, last);
    }
}

/* --- deadlines --- */

static void on_timer(uv_timer_t *timer);

/*
 * Arms the timer for an earlier deadline only. After the removal of the earliest one it fires once
 * for nothing: cheaper than moving it for each answer.
 */
static void arm(struct transactions *t)
{
    uint64_t deadline = t->count > 0 ? t->heap[0]->deadline : NO_DEADLINE;
    if (deadline >= t->armed_for) {
        return;
    }
    uint64_t now = uv_now(t->timer.loop);
    t->armed_for = deadline;
    uv_timer_start(&t->timer, on_timer, deadline > now ? deadline - now : 0, 0);
}

static void remove_entry(struct transactions *t, struct entry *entry, struct transaction *out)
{
    heap_remove(t, entry);
    HASH_DEL(t->by_id, entry);
    if (out != NULL) {
        *out = entry->transaction;
    }
    free(entry);
}

static void on_timer(uv_timer_t *timer)
{
    struct transactions *t = timer->data;
    uint64_t now = uv_now(timer->loop);
    t->armed_for = NO_DEADLINE;
    while (!t->closed && t->count > 0 && t->heap[0]->deadline <= now) {
        struct transaction transaction;
        remove_entry(t, t->heap[0], &transaction);
        t->expired(&transaction, t->user);
    }
    if (!t->closed) {
        arm(t);
    }
}

/* --- the table --- */

int transactions_open(struct transactions **out, uv_loop_t *loop, uint32_t max,
                      transactions_expired_cb expired, void *user)
{
    struct transactions *t = calloc(1, sizeof(*t));
    *out = t;
    if (t == NULL) {
        return -ENOMEM;
    }
    t->max = max;
    t->expired = expired;
    t->user = user;
    t->armed_for = NO_DEADLINE;
    t->timer.data = t;
    uv_timer_init(loop, &t->timer);
    return 0;
}

int transactions_add(struct transactions *t, struct transaction *transaction, uint32_t deadline_ms)
{
    if (t->count >= t->max) {
        return -EAGAIN;
    }
    struct entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL || heap_reserve(t) < 0) {
        free(entry);
        return -ENOMEM;
    }
    transaction->id = t->last_id + 1;
    entry->transaction = *transaction;
    entry->deadline = deadline_ms == 0 ? NO_DEADLINE : uv_now(t->timer.loop) + deadline_ms;
    HASH_ADD(hh, t->by_id, transaction.id, sizeof(uint64_t), entry);
    if (entry->lost) {
        free(entry);
        return -ENOMEM;
    }
    t->last_id++;
    sift_up(t, t->count++, entry);
    arm(t);
    return 0;
}

static struct entry *find(const struct transactions *t, uint64_t id)
{
    struct entry *entry;
    HASH_FIND(hh, t->by_id, &id, sizeof(id), entry);
    return entry;
}

const struct transaction *transactions_find(const struct transactions *t, uint64_t id)
{
    const struct entry *entry = find(t, id);
    return entry == NULL ? NULL : &entry->transaction;
}

bool transactions_remove(struct transactions *t, uint64_t id, struct transaction *out)
{
    struct entry *entry = find(t, id);
    if (entry != NULL) {
        remove_entry(t, entry, out);
    }
    return entry != NULL;
}

bool transactions_pop(struct transactions *t, struct transaction *out)
{
    if (t->count == 0) {
        return false;
    }
    remove_entry(t, t->heap[0], out);
    return true;
}

size_t transactions_count(const struct transactions *t)
{
    return t->count;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void transactions_close(struct transactions *t)
{
    if (t->closed) {
        return;
    }
    t->closed = true;
    while (transactions_pop(t, NULL)) {
    }
    free(t->heap);
    t->heap = NULL;
    uv_close((uv_handle_t *)&t->timer, on_closed);
}
