/*
 * What the kernel's part of the BPF plane and relayd share: the layout of the tables and the
 * numbers in them. Included by both, so: fixed-width types and nothing else.
 *
 *   flows      a packet's addresses and ports → the relay's slot; two rows for each relay
 *   slots      all that is known of a relay; relayd writes what it is, the program what it saw
 *   hops       where packets of a relay leave, and with which link-layer addresses
 *   endpoints  the addresses and ports that relays own on this host → a row of `strangers`
 *   peers      the epoch of each N2 peer: all relays of an older epoch are dead
 *
 * `slots`, `hops`, `strangers` and the program's globals are mapped into relayd, which reads and
 * writes them without a system call.
 *
 * Addresses are sixteen octets in network byte order; IPv4 ones are mapped (::ffff:a.b.c.d). Ports
 * are in network byte order, everything else is in the host's.
 */
#ifndef SOCKST_RELAYD_BPF_ABI_H
#define SOCKST_RELAYD_BPF_ABI_H

#include <linux/types.h>

/* The two ends of a relay. Direction "from" an end: packets that it sent. */
enum bpf_end { BPF_CLIENT = 0, BPF_TARGET = 1, BPF_ENDS = 2 };

/* ---- flows: hash, key struct bpf_flow_key, value struct bpf_flow ---------------------------- */

/* As the packet carries it. From the client: S → BND; from the target: DST → egress. */
struct bpf_flow_key {
    __u32 source[4];
    __u32 destination[4];
    __be16 source_port, destination_port;
};

/* Written and read as one 64-bit word. A deleted row may be used again at once, also while the
 * program looks at it: hence the generation, and the comparison with the slot's own endpoints. */
struct bpf_flow {
    __u32 slot; /* index, and in the highest bit the end that sends: BPF_FLOW_FROM_TARGET */
    __u32 generation;
};
#define BPF_FLOW_FROM_TARGET 0x80000000u

/* ---- slots: array, mapped -------------------------------------------------------------------- */

enum bpf_slot_state {
    BPF_SLOT_FREE = 0,      /* and closed: packets are dropped */
    BPF_SLOT_OPEN = 1,      /* packets are carried */
    BPF_SLOT_TOMBSTONE = 2, /* carried no more; TCP segments are answered with RST, by relayd */
};

/* Flags of a direction, `seen`: set by the program (atomic OR), never cleared while OPEN.
 * FIN_ACKED: the other end has acknowledged this direction's FIN. UNREACHABLE: ICMP "unreachable"
 * about this direction's packets was carried ("too big" is part of normal life, and sets nothing).
 */
#define BPF_SEEN_PACKET 0x01u      /* any packet was carried */
#define BPF_SEEN_SYN 0x02u         /* TCP; from the target: SYN and ACK */
#define BPF_SEEN_FIN 0x04u         /* TCP */
#define BPF_SEEN_RST 0x08u         /* TCP, carried, and such that the receiver believes it */
#define BPF_SEEN_FIN_ACKED 0x10u   /* TCP */
#define BPF_SEEN_UNREACHABLE 0x20u /* see above */
#define BPF_SEEN_LIMIT 0x40u       /* max_bytes is used up: packets are dropped */
#define BPF_SEEN_ESTABLISHED 0x80u /* TCP: an ACK after the SYN; of the client: the third step */

/* One end of the relay: the peer (S or DST) and our endpoint towards it (BND or egress). */
struct bpf_side {
    __u32 peer[4];
    __u32 local[4];
    __be16 peer_port, local_port;
    __u32 interface; /* the peer's packets are taken from this one alone */
    __u16 hop;       /* packets to the peer leave there: row of `hops` */
    __u16 reserved;
    __u32 reserved2;
};

/* What one end has sent. One cache line, written by the processor that carries the direction. */
struct bpf_direction {
    __u64 packets; /* carried; of a GSO packet its segments */
    __u64 bytes;   /* payload octets */
    __u64 last_ns; /* bpf_ktime_get_coarse_ns() of the last one (CLOCK_MONOTONIC_COARSE); 0: none */
    /* Checksum differences, ones-complement sums in network order as bpf_csum_diff() gives them,
     * computed by relayd: */
    __u32 address_sum; /* L4, IPv6 and IPv4: of the addresses, for the pseudo header */
    __u32 port_sum;    /* L4: of the ports */
    __u32 header_sum;  /* IPv4 header: of the addresses (the program adds the TTL's) */
    __u32 seen;        /* BPF_SEEN_… */
    /* What follows is the program's; 0 at the start. */
    __u64 paid_ns; /* limits.bytes_per_second: what was sent is paid until then (CLOCK_MONOTONIC) */
    __u32 other_fin;   /* TCP: the other end's FIN waits for this one's acknowledgment */
    __u32 awaited;     /* TCP: the acknowledgment that the other end's SYN or FIN waits for, in host
                          byte order */
    __u32 answered_ms; /* answers to this end are paid until then */
    __be32 acknowledgment; /* TCP: the last one of this end, as in the packet */
};

/* The clock of `paid_ns` is CLOCK_MONOTONIC and this: it has run for longer than the longest burst
 * takes, also right after the host's start. */
#define BPF_RATE_CLOCK_START (1ull << 62)
#define BPF_BURST_NS 1000000000ull
#define BPF_BURST_OCTETS 65536ull

struct bpf_slot {
    __u32 generation; /* of the relay in it; changes with each */
    __u32 state;      /* enum bpf_slot_state */
    __u32 peer;       /* row of `peers` */
    __u32 epoch;      /* must equal peers[peer] */
    struct bpf_side side[BPF_ENDS];
    __u64 max_bytes;        /* of both directions together; 0: no limit */
    __u64 bytes_per_second; /* of each direction, payload; 0: no limit. A burst may have
                               BPF_BURST_NS of it, and BPF_BURST_OCTETS in any case */
    struct bpf_direction from[BPF_ENDS];
};

/* ---- hops: array, mapped; row 0 is never used ------------------------------------------------ */

#define BPF_HOPS_MAX 65536u

enum bpf_hop_state {
    BPF_HOP_DOWN = 0,   /* no way: packets are dropped and counted (BPF_COUNT_NO_WAY) */
    BPF_HOP_ASK = 1,    /* the link-layer address is not known: the kernel finds it out
                           (bpf_redirect_neigh), relayd hears of it and writes it here */
    BPF_HOP_DIRECT = 2, /* the program writes the addresses below */
    BPF_HOP_BARE = 3,   /* a device without link-layer header (tun, wg, wwan) */
};

struct bpf_hop {
    __u32 interface;
    __u32 state; /* enum bpf_hop_state */
    __u32 mtu;   /* of IP packets */
    /* struct bpf_redir_neigh: */
    __u32 family;     /* AF_INET or AF_INET6, of `gateway` */
    __u32 gateway[4]; /* the next hop, or the peer itself where it is on the link; IPv4 in the first
                         word (not mapped) */
    /* As in the link-layer header. The program reads the first eight octets as one word: written as
     * one word, a change is never seen by halves. */
    __u8 destination_mac[6];
    __u8 source_mac[6];
    __u32 reserved;
    /* A packet goes through the kernel's neighbour table once in BPF_HOP_REFRESH_NS, so that the
     * kernel keeps the entry alive and finds out when the neighbour has gone. The program's. */
    __u64 refreshed_ns;
    __u64 reserved2;
};
#define BPF_HOP_REFRESH_NS 1000000000ull

/* ---- endpoints: hash, key struct bpf_endpoint_key, value __u32 row of `strangers` ------------ */

struct bpf_endpoint_key {
    __u32 address[4];
    __be16 port;
    __u16 reserved; /* 0 */
};

/* strangers: array, mapped. Packets to the endpoint that belong to no relay: dropped. */
struct bpf_strangers {
    __u64 packets;
    __u64 told_ns; /* the program's: when relayd was last told */
};
#define BPF_STRANGERS_TELL_NS 200000000ull

/* ---- peers ----------------------------------------------------------------------------------- */

#define BPF_PEERS_MAX 256u

/* ---- what the program tells: ring buffers ---------------------------------------------------- */

/* `events` (hints: the flags in the slot are the truth). When one did not fit, the global
 * `events_lost` grows, and relayd looks at every slot. */
struct bpf_event {
    __u32 slot;
    __u32 generation;
    __u32 end;  /* enum bpf_end, whose `seen` has changed */
    __u32 seen; /* as it was after the change */
};

/* `strangers_ring`: an endpoint had a stranger, at most once in BPF_STRANGERS_TELL_NS. When one did
 * not fit, the global `strangers_lost` grows. */
struct bpf_stranger_event {
    __u32 row; /* of `strangers` */
};

/* `answers`: packets that relayd has to answer, because the program cannot (a checksum still to be
 * computed by hardware, a super-packet). Rate-limited by the program: BPF_ANSWERS_PER_SECOND. */
enum bpf_answer_kind {
    BPF_ANSWER_TIME_EXCEEDED = 1, /* to the sender, ICMP 11/0, ICMPv6 3/0 */
    BPF_ANSWER_TOO_BIG = 2,       /* to the sender, ICMP 3/4, ICMPv6 2/0, with `mtu` */
    BPF_ANSWER_RESET = 3,         /* of a tombstone: RST to the sender */
};
#define BPF_ANSWER_HEAD 128u
struct bpf_answer {
    __u32 kind;
    __u32 interface; /* where it came in */
    __u32 mtu;
    __u32 length;  /* octets of `head` that are the packet's, from the IP header on */
    __u32 payload; /* TCP payload octets of the whole packet (for RST's acknowledgment) */
    __u8 head[BPF_ANSWER_HEAD];
};
/* To all, and to one end of a relay; bursts of a tenth of a second are allowed. */
#define BPF_ANSWERS_PER_SECOND 1000u
#define BPF_ANSWERS_PER_SECOND_OF_END 100u

/* Sizes of the rings, powers of two; a record takes 8 octets more than its struct. */
#define BPF_EVENTS_OCTETS (1u << 20)
#define BPF_STRANGERS_OCTETS (1u << 16)
#define BPF_ANSWERS_OCTETS (1u << 18)

/* ---- counters: per-CPU array of __u64, by enum bpf_count ------------------------------------- */

enum bpf_count {
    BPF_COUNT_SPOOFED = 0,     /* S's or DST's addresses on another interface than its own */
    BPF_COUNT_STALE,           /* a row whose slot has gone on, or whose peer is lost */
    BPF_COUNT_CLOSED,          /* of a relay that has been closed */
    BPF_COUNT_STRANGERS,       /* in all */
    BPF_COUNT_MALFORMED,       /* headers cut short, lengths that contradict each other */
    BPF_COUNT_TCP_FLAGS,       /* no flags, SYN with FIN or RST, FIN without ACK … */
    BPF_COUNT_TCP_STATE,       /* a segment before the client's SYN, a SYN of the target alone */
    BPF_COUNT_TTL,             /* TTL or hop limit used up */
    BPF_COUNT_TOO_BIG,         /* above the MTU of the way out */
    BPF_COUNT_NO_WAY,          /* the way out is down */
    BPF_COUNT_RATE,            /* above bytes_per_second */
    BPF_COUNT_LIMIT,           /* above max_bytes */
    BPF_COUNT_FRAGMENTS,       /* UDP: handed to relayd. TCP: dropped (BPF_COUNT_TCP_LEFT) */
    BPF_COUNT_OPTIONS,         /* UDP with IP options or extension headers: handed to relayd */
    BPF_COUNT_TCP_LEFT,        /* TCP with fragments, options, extension headers: dropped */
    BPF_COUNT_SOURCE_ROUTE,    /* with a source route or routing header: dropped */
    BPF_COUNT_ICMP,            /* errors carried to the other end */
    BPF_COUNT_ICMP_UNKNOWN,    /* errors about flows that are none of ours: dropped */
    BPF_COUNT_ICMP_MALFORMED,  /* errors that quote too little, or nonsense: dropped */
    BPF_COUNT_TOMBSTONE,       /* segments of relays that were ended */
    BPF_COUNT_ANSWERS_LIMITED, /* answers that the rate limit kept back */
    BPF_COUNT_FAILED,          /* a helper of the kernel failed; dropped */
    BPF_COUNT_END,
};

/* ---- progs: PROG_ARRAY of the stubs (clsact), filled by relayd ------------------------------- */

enum bpf_entry {
    BPF_ENTRY_LINK = 0, /* program `relay`, called by `stub`: with a link-layer header */
    BPF_ENTRY_BARE = 1, /* `relay_bare`, `stub_bare`: without */
    BPF_ENTRIES,
};

/* ---- the program's globals, `globals` in .data, mapped -------------------------------------- */

struct bpf_globals {
    __u32 peers[BPF_PEERS_MAX]; /* epochs */
    __u64 events_lost, strangers_lost, answers_lost;
    __u64 answer_tokens_ns; /* the program's */
};

/* Constants of the loaded program, `settings` in .rodata, set before it is loaded. */
struct bpf_settings {
    __u32 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
    /* Packets that are left to relayd's sockets carry this mark; the sockets' filters take no
     * others. Random, not 0. */
    __u32 mark;
    __u32 csum_ipv6_flag; /* BPF_F_IPV6 where the kernel has it, else 0 */
};

#endif
