#include "relayd/plane/bpf/rows.h"

#include <bpf/bpf.h>
#include <errno.h>

#include "relayd/plane/bpf/slot.h"

void rows_init(struct rows *rows, int fd)
{
    rows->fd = fd;
    rows->pending = 0;
    rows->added = 0;
    rows->deleted = 0;
}

/* Returns 0 or -errno. */
static int add_one(const struct rows *rows, const struct bpf_slot *slot, uint32_t index,
                   enum bpf_end end)
{
    const struct bpf_flow_key key = slot_key(slot, end);
    const struct bpf_flow value = slot_value(slot, index, end);

    return bpf_map_update_elem(rows->fd, &key, &value, BPF_NOEXIST) < 0 ? -errno : 0;
}

enum rows_result rows_add(struct rows *rows, const struct bpf_slot *slot, uint32_t index)
{
    /* The target's row first: it is the one that others may have. */
    int error = add_one(rows, slot, index, BPF_TARGET);

    if (error < 0)
        return error == -EEXIST ? ROWS_TARGET_TAKEN : ROWS_FULL;
    error = add_one(rows, slot, index, BPF_CLIENT);
    if (error < 0) {
        const struct bpf_flow_key key = slot_key(slot, BPF_TARGET);
        (void)bpf_map_delete_elem(rows->fd, &key);
        return error == -EEXIST ? ROWS_CLIENT_TAKEN : ROWS_FULL;
    }
    rows->added += BPF_ENDS;
    return ROWS_OK;
}

bool rows_remove(struct rows *rows, const struct bpf_slot *slot)
{
    if (rows->pending == ROWS_BATCH)
        return false;
    struct bpf_flow_key *keys = &rows->keys[(size_t)rows->pending * BPF_ENDS];
    keys[BPF_CLIENT] = slot_key(slot, BPF_CLIENT);
    keys[BPF_TARGET] = slot_key(slot, BPF_TARGET);
    rows->pending++;
    return true;
}

void rows_flush(struct rows *rows)
{
    const uint32_t count = rows->pending * BPF_ENDS;
    uint32_t done = 0;

    while (count > BPF_ENDS && done < count) {
        uint32_t some = count - done;
        if (bpf_map_delete_batch(rows->fd, &rows->keys[done], &some, NULL) == 0) {
            done = count;
        } else if (errno != ENOENT) {
            break;
        } else {
            done += some + 1; /* a row that is not there stops the kernel; none should be missing */
        }
    }
    for (; done < count; done++)
        (void)bpf_map_delete_elem(rows->fd, &rows->keys[done]);
    rows->deleted += count;
    rows->pending = 0;
}

bool rows_find(const struct rows *rows, const struct bpf_flow_key *key, struct bpf_flow *out)
{
    return bpf_map_lookup_elem(rows->fd, key, out) == 0;
}
