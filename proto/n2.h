/*
 * N2: the messages between socksd and relayd (draft, section 2). Normative text: N2.md; wire
 * format: n2.proto.
 *
 * The generated types stay behind this codec. A decoded message is a plain value: every field was
 * checked (enumerations known, lengths exact, text UTF-8 without control characters, counts
 * bounded), nothing in it points anywhere, nothing has to be released.
 */
#ifndef SOCKST_PROTO_N2_H
#define SOCKST_PROTO_N2_H

#include "proto/arena.h"
#include "proto/endpoint.h"

#define N2_VERSION_MAJOR 1
#define N2_VERSION_MINOR 0

#define N2_CANDIDATES_MAX 16 /* destinations in one OpenRelay, addresses in one Authorized */
#define N2_EARLY_DATA_MAX 4096
#define N2_USER_MAX 255
#define N2_LABEL_MAX 63 /* rule names, instance names, builds */
#define N2_TEXT_MAX 255
#define N2_ARENA_SIZE (32 * 1024) /* enough for every valid message */

enum n2_type {
    N2_HELLO = 1,
    N2_HELLO_ACK,
    N2_OPEN_RELAY,
    N2_RELAY_OPENED,
    N2_RELAY_FAILED,
    N2_ATTACH_CLIENT,
    N2_RELAY_CONNECTED,
    N2_AUTHORIZE,
    N2_AUTHORIZED,
    N2_POLICY_CHANGED,
    N2_RELAY_STATS,
    N2_CLOSE_RELAY,
    N2_RELAY_CLOSED,
    N2_RELAY_EVENT,
    N2_PING,
    N2_PONG,
    N2_DRAIN,
    N2_CANCEL_ORDER,
    N2_TYPE_END, /* one above the last */
};

enum n2_kind {
    N2_KIND_TRANSPARENT = 1,
    N2_KIND_CONNECT,
    N2_KIND_BIND,
    N2_KIND_UDP_ASSOCIATE,
    N2_KIND_END
};

enum n2_plane { N2_PLANE_SOCKET = 1, N2_PLANE_BPF, N2_PLANE_END };

/* Why a relay could not be opened, in no SOCKS terms; socksd turns it into a REP. */
enum n2_error {
    N2_ERROR_GENERAL = 1, /* out of fds, ports, memory; a bad order */
    N2_ERROR_NOT_ALLOWED, /* relayd's deny floor */
    N2_ERROR_NETWORK_UNREACHABLE,
    N2_ERROR_HOST_UNREACHABLE,
    N2_ERROR_REFUSED,
    N2_ERROR_TIMED_OUT,
    N2_ERROR_UNSUPPORTED, /* kind, family or protocol that this relayd does not serve */
    N2_ERROR_DRAINING,
    N2_ERROR_END,
};

/* Why a relay ended. */
enum n2_reason {
    N2_REASON_FINISHED = 1,   /* both directions ended in order */
    N2_REASON_CONTROL_CLOSED, /* CloseRelay: the client's control connection ended */
    N2_REASON_CLIENT_RESET,
    N2_REASON_TARGET_RESET,
    N2_REASON_ACCEPT_TIMEOUT, /* the client never came to BND */
    N2_REASON_FIN_TIMEOUT,
    N2_REASON_IDLE_TIMEOUT,
    N2_REASON_LIMIT, /* byte limit */
    N2_REASON_ADMIN, /* relayctl close */
    N2_REASON_GUARD,
    N2_REASON_PEER_LOST, /* the N2 connection ended */
    N2_REASON_SHUTDOWN,
    N2_REASON_PLANE_LOST,
    N2_REASON_POLICY, /* no longer allowed by the rules */
    N2_REASON_ERROR,  /* of the relay's sockets; see the log */
    N2_REASON_END,
};

enum n2_event {
    N2_EVENT_TARGET_FIN = 1,
    N2_EVENT_TARGET_RST,
    N2_EVENT_TARGET_UNREACHABLE,
    N2_EVENT_WRONG_SOURCE_FLOOD,
    N2_EVENT_FIRST_PACKET,
    N2_EVENT_END,
};

enum n2_family_bit { N2_FAMILY_V4 = 1, N2_FAMILY_V6 = 2 };

struct n2_hello { /* Hello and HelloAck */
    uint32_t major, minor;
    char build[N2_LABEL_MAX + 1];
    char instance[N2_LABEL_MAX + 1]; /* HelloAck: relayd's --instance; Hello: empty */
    uint64_t boot_epoch;             /* differs at each start of the process */
    uint8_t ptcl;                    /* HelloAck; 0 in Hello */
    uint32_t planes;                 /* bit 1 << enum n2_plane */
    uint32_t families;               /* enum n2_family_bit */
    uint32_t capacity;               /* relays */
    bool draining;
};

struct n2_limits { /* 0: none */
    uint64_t idle_ms;
    uint64_t max_bytes;        /* payload of both directions together */
    uint64_t bytes_per_second; /* payload of each direction */
};

struct n2_counters { /* up: client to target */
    uint64_t up_packets, up_bytes;
    uint64_t down_packets, down_bytes;
    uint64_t drops; /* packets of strangers */
};

struct n2_open_relay {
    uint64_t association; /* socksd's id of the session */
    enum n2_kind kind;
    uint8_t ptcl;
    struct endpoint source; /* S; port 0 only with learn_source_port */
    bool learn_source_port;
    uint8_t destination_count; /* 1 … N2_CANDIDATES_MAX, in order of preference; 1 for TRANSPARENT;
                                  0 for UDP_ASSOCIATE */
    struct endpoint destinations[N2_CANDIDATES_MAX];
    struct ip_address bound_hint;  /* the control connection's local address */
    struct ip_address egress_hint; /* IP_NONE: relayd chooses */
    char user[N2_USER_MAX + 1];
    char rule[N2_LABEL_MAX + 1];
    struct n2_limits limits;
    uint32_t deadline_ms; /* answer within; 0: relayd's own time-outs alone */
};

struct n2_relay_opened {
    uint64_t association, relay;
    struct endpoint bound; /* as advertised */
    struct endpoint egress;
    enum n2_plane plane;
    char plane_reason[N2_LABEL_MAX + 1];
    struct endpoint destination; /* CONNECT: the candidate that was reached; else IP_NONE */
};

struct n2_relay_failed {
    uint64_t association;
    enum n2_error error;
    char text[N2_TEXT_MAX + 1];
};

struct n2_attach_client { /* brings one fd */
    uint64_t relay;
    uint16_t early_length;
    uint8_t early[N2_EARLY_DATA_MAX];
};

struct n2_relay_connected {
    uint64_t relay;
    struct endpoint peer;
};

struct n2_authorize {
    uint64_t relay;
    struct ip_address address; /* IP_NONE: by name */
    char name[N2_TEXT_MAX + 1];
    uint16_t port;
};

struct n2_authorized {
    uint64_t relay;
    bool allowed;
    uint8_t address_count;
    struct ip_address addresses[N2_CANDIDATES_MAX];
    uint32_t ttl_ms;
    uint64_t generation; /* of the policy */
};

struct n2_relay_stats {
    uint64_t relay;
    struct n2_counters counters;
};

struct n2_close_relay {
    uint64_t relay;
    enum n2_reason reason;
};

struct n2_relay_closed {
    uint64_t relay;
    uint64_t association;
    enum n2_reason reason;
    struct n2_counters counters;
    uint64_t duration_ms;
};

struct n2_relay_event {
    uint64_t relay;
    enum n2_event event;
    uint64_t value; /* WRONG_SOURCE_FLOOD: packets in the last second; else 0 */
};

struct n2_message {
    /* Not 0: OpenRelay, Authorize and their answers RelayOpened, RelayFailed, Authorized. 0:
     * everything else, Hello, HelloAck, Ping and Pong included. */
    uint64_t transaction;
    enum n2_type type;
    uint8_t fd_count; /* how many descriptors the frame declares: 1 for AttachClient, 0 for
                         everything else */
    union {
        struct n2_hello hello; /* N2_HELLO, N2_HELLO_ACK */
        struct n2_open_relay open_relay;
        struct n2_relay_opened relay_opened;
        struct n2_relay_failed relay_failed;
        struct n2_attach_client attach_client;
        struct n2_relay_connected relay_connected;
        struct n2_authorize authorize;
        struct n2_authorized authorized;
        uint64_t policy_generation; /* N2_POLICY_CHANGED */
        struct n2_relay_stats relay_stats;
        struct n2_close_relay close_relay;
        struct n2_relay_closed relay_closed;
        struct n2_relay_event relay_event;
        uint64_t nonce;     /* N2_PING, N2_PONG */
        uint64_t cancelled; /* N2_CANCEL_ORDER: the transaction of the OpenRelay */
    };
};

enum n2_result {
    N2_OK = 0,
    N2_E_SYNTAX, /* not protobuf, or more than the arena holds */
    N2_E_FIELD,  /* a field is missing or outside its range */
};

/* Octets of payload that a valid message may take; far below FRAME_PAYLOAD_MAX. */
#define N2_PAYLOAD_MAX (8 * 1024)

/*
 * Decodes the payload of one frame. `arena` is reset, used as scratch and of no meaning afterwards.
 * On an error *out is undefined and *problem (may be NULL) names the field ("open_relay.source").
 */
enum n2_result n2_decode(const uint8_t *payload, size_t length, struct arena *arena,
                         struct n2_message *out, const char **problem);

/* Encodes a whole frame (header and payload) into `out`. Returns its octets, or 0 if the message is
 * not valid or too large. */
size_t n2_encode(const struct n2_message *message, uint8_t *out, size_t size);

/*
 * May the text be part of a message: UTF-8 without control characters (N2-FIELD-040), at most `max`
 * octets? What comes from outside is asked before it is sent: a message that is not valid is not
 * encoded.
 */
bool n2_text_is_valid(const char *text, size_t max);

/* Fixed names for log and output ("open-relay", "transparent", "socket", "refused",
 * "accept-timeout", "target-fin"); "?" for a value outside the enumeration. */
const char *n2_type_name(enum n2_type type);
const char *n2_kind_name(enum n2_kind kind);
const char *n2_plane_name(enum n2_plane plane);
const char *n2_error_name(enum n2_error error);
const char *n2_reason_name(enum n2_reason reason);
const char *n2_event_name(enum n2_event event);

#endif
