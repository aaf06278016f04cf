/*
 * The BPF plane: the kernel carries the packets of TRANSPARENT relays, TCP and UDP. What relayd
 * does for a relay is to choose its addresses, to write its slot and its two rows, and to watch its
 * life by what the program has noted; it never sees a packet but those that the program leaves
 * alone.
 *
 * Everything that needs a capability happens inside bpf_plane_new(): the caller drops them all when
 * that has returned.
 */
#ifndef SOCKST_RELAYD_BPF_PLANE_H
#define SOCKST_RELAYD_BPF_PLANE_H

#include "relayd/plane/bpf/program.h"
#include "relayd/plane/endpoints.h"
#include "relayd/plane/plane.h"

/* Everything is borrowed and has to outlive the plane. */
struct bpf_plane_config {
    const struct relayd_config *config;
    struct endpoints *endpoints;
    const struct transport *transport; /* TCP or UDP */
    enum attach_mode mode;
    const char *instance;
    uint32_t relays; /* at a time; at least 1 */
    bool alone;      /* no other plane needs descriptors */
};

/*
 * Loads and attaches the program, opens what answers for it, and follows interfaces and routes on
 * `loop`. The tables are taken whole, now. Returns 0; or -errno with *why (static text, for the log
 * and `plane_reason`: no permission, an old kernel, no interface to attach to, …) and nothing is
 * left but close callbacks in the loop.
 */
int bpf_plane_new(struct plane **out, uv_loop_t *loop, const struct bpf_plane_config *config,
                  const char **why);

#endif
