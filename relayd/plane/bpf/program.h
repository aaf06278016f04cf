/*
 * The kernel's part of the BPF plane, as relayd holds it: the loaded program, its tables mapped
 * into this process, and the interfaces it is attached to.
 *
 * Life: load, attach (both with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON), then every capability is
 * dropped. From then on everything works on the descriptors that are held: maps are changed, rings
 * are read, and an interface that comes back is attached again (TCX alone).
 *
 * The program goes with the process, however that ends. TCX: the links are not pinned. clsact: what
 * the interface holds is a stub that tail-calls the first entry of a table of programs whose only
 * descriptor is ours; the kernel empties that table when the descriptor goes. The next start (and
 * `relayd --detach`) removes a stub that was left behind.
 */
#ifndef SOCKST_RELAYD_BPF_PROGRAM_H
#define SOCKST_RELAYD_BPF_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "relayd/bpf/abi.h"

enum attach_mode { ATTACH_AUTO, ATTACH_TCX, ATTACH_CLSACT };

struct program_config {
    uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
    enum attach_mode mode;
    uint32_t slots;       /* at least 2 */
    uint32_t endpoints;   /* rows of `strangers` and of `endpoints` */
    const char *instance; /* names the stub of clsact; borrowed during the call */
};

/* The tables; borrowed from the program, valid as long as it. */
struct bpf_tables {
    struct bpf_slot *slots;
    struct bpf_hop *hops; /* BPF_HOPS_MAX rows */
    struct bpf_strangers *strangers;
    volatile struct bpf_globals *globals;
    uint32_t slot_count, endpoint_count;
    int flows_fd, endpoints_fd; /* for bpf_map_update_elem() and its like */
    uint32_t mark;
};

struct program; /* not bpf_program: that is what libbpf calls its own */

/*
 * Loads it. Returns 0; or -errno with *why (static text for `plane_reason` and the log: no
 * permission, a kernel that is too old, …). Memory for the tables is taken now and whole.
 */
int program_load(struct program **out, const struct program_config *config, const char **why);
const struct bpf_tables *program_tables(const struct program *program);

/* TCX or clsact: what is in use (ATTACH_AUTO before the first attachment). */
enum attach_mode program_mode(const struct program *program);

/*
 * Attaches to the ingress of an interface; `bare`: it has no link-layer header (tun, wg, wwan).
 * Idempotent. Returns 0 or -errno (-EPERM: clsact, after the capabilities have gone).
 */
int program_attach(struct program *program, uint32_t interface, bool bare);
/* Idempotent; also for an interface that has gone. */
void program_detach(struct program *program, uint32_t interface);
bool program_is_attached(const struct program *program, uint32_t interface);

/* Hints, called from the loop. After `lost` every slot (or every row of strangers) has to be looked
 * at. The records are borrowed during the call. */
struct program_ops {
    void (*event)(void *user, const struct bpf_event *event);
    void (*events_lost)(void *user);
    void (*stranger)(void *user, const struct bpf_stranger_event *event);
    void (*strangers_lost)(void *user);
    void (*answer)(void *user, const struct bpf_answer *answer);
};
/* Reads the rings from now on. Returns 0 or -errno. */
int program_listen(struct program *program, uv_loop_t *loop, const struct program_ops *ops,
                   void *user);

/* Sums of all processors, by enum bpf_count. */
void program_counters(const struct program *program, uint64_t out[BPF_COUNT_END]);

/* Detaches everything; memory goes with the last close callback. NULL is allowed. */
void program_free(struct program *program);

/* Removes what an instance left at interfaces (clsact) when it was killed. Returns the number of
 * stubs removed, or -errno. */
int program_remove_stubs(const char *instance);

#endif
