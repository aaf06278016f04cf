/*
 * The ports that relays own on this host: BND and egress. Each one in use is held by a socket of
 * ours, so that nothing else here can have it, and has a row of the program's tables, by which the
 * program knows strangers' packets. The sockets take nothing and answer nothing, but for the UDP
 * datagrams that the program leaves to relayd (slow_path.h).
 *
 * A relay gets ports of its own as long as there are descriptors and free ports; then one that is
 * in use, at random. Relays that share a port are told apart by their peers, so whoever chooses
 * tries again when the pair of peer and port exists.
 *
 * Strangers at a port are shown by a relay while it is the port's only user.
 */
#ifndef SOCKST_RELAYD_BPF_HELD_PORTS_H
#define SOCKST_RELAYD_BPF_HELD_PORTS_H

#include "proto/admin.h"
#include "relayd/plane/bpf/flow_list.h"
#include "relayd/plane/bpf/program.h"
#include "relayd/plane/bpf/slow_path.h"
#include "relayd/plane/endpoints.h"
#include "relayd/transport/transport.h"

#define HELD_NONE UINT32_MAX

/* Where `egress.ports` are not configured: what `bind.ports` is by default. Few services live there
 * whose later start a held port could prevent, and as many relays can have one destination. */
#define HELD_EGRESS_FIRST 20000
#define HELD_EGRESS_LAST 59999

/* After a port could not be had for an address, so long none is tried again. */
#define HELD_RETRY_MS 1000

struct held_ports;

struct held_ports_config {
    uv_loop_t *loop;
    const struct relayd_config *config;
    struct endpoints *endpoints;           /* whose pools of BND ports are used */
    const struct transport *transport;     /* TCP or UDP */
    const struct bpf_tables *tables;       /* `endpoint_count` ports at most */
    const struct slow_path_ops *slow_path; /* UDP */
    void *user;                            /* for it */
    struct flow *flows;                    /* their `drops` are written here */
};

/* How many ports may be held, as far as descriptors go; `alone`: no other plane needs some. */
uint32_t held_ports_max(bool alone);

/* Everything in `config` is borrowed, which is not. Returns 0 or -errno. */
int held_ports_open(struct held_ports **out, const struct held_ports_config *config);

/*
 * A port for BND (BPF_CLIENT) or egress (BPF_TARGET) on `address`, one that nobody has if possible;
 * the caller uses it at once. Returns 0 with *out, or -errno: -EADDRNOTAVAIL (no port
 * can be bound and none is open), or what bind() and its like said.
 */
int held_ports_choose(struct held_ports *ports, enum bpf_end end, const struct ip_address *address,
                      uint32_t now_ms, uint32_t *out);

/*
 * Another port of the same group that is open, after `port` turned out not to do; the same where
 * there is one alone. In small groups each comes once before the first comes again, in others it is
 * random.
 */
uint32_t held_ports_other(struct held_ports *ports, uint32_t port);

/* One more user; each flow uses a port once. */
void held_ports_use(struct held_ports *ports, uint32_t port, uint32_t flow);
/* One less; the last one closes the port. */
void held_ports_leave(struct held_ports *ports, uint32_t port, uint32_t flow);

struct endpoint held_ports_endpoint(const struct held_ports *ports, uint32_t port);
int held_ports_fd(const struct held_ports *ports, uint32_t port);

/* Strangers' packets at BND since the flow is its only user; 0 when it is not. */
uint64_t held_ports_strangers(struct held_ports *ports, uint32_t port, uint32_t flow);
/* The flow that alone uses the BND of this row of `strangers`; FLOW_NONE: there is none. */
uint32_t held_ports_only_user(const struct held_ports *ports, uint32_t row);

void held_ports_status(const struct held_ports *ports, struct admin_status *out);

/* Also with users. Memory goes with the last close callback. NULL is allowed. */
void held_ports_close(struct held_ports *ports);

#endif
