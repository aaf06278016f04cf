/*
 * The session from the inside: for session.c (socket and memory), session_fsm.c (states), the
 * commands and the access log.
 */
#ifndef SOCKST_SOCKSD_SESSION_FSM_H
#define SOCKST_SOCKSD_SESSION_FSM_H

#include "socksd/auth/auth.h"
#include "socksd/authorization.h"
#include "socksd/command/command.h"
#include "socksd/session.h"

enum session_state {
    SESSION_ST_NEW,
    SESSION_ST_METHODS,  /* waits for the method list */
    SESSION_ST_AUTH,     /* the chosen method's exchange */
    SESSION_ST_REQUEST,  /* waits for the request */
    SESSION_ST_JUDGING,  /* rules and names: the command's start() is at work */
    SESSION_ST_OPENING,  /* a relay is ordered */
    SESSION_ST_AWAITING, /* BIND: the first reply is sent, the relay waits for its peer */
    SESSION_ST_HANDING,  /* success is being replied, then the client's socket is handed over */
    SESSION_ST_RELAYING, /* success was replied */
    SESSION_ST_FLUSHING, /* the last octets and FIN are on their way; input is discarded */
    SESSION_ST_ENDING,   /* the control connection is closed, RelayClosed is awaited */
    SESSION_ST_DEAD,     /* handles are closing */
};

enum session_event {
    EV_START,
    EV_DATA,         /* more octets in the handshake buffer */
    EV_EOF,          /* FIN of the client */
    EV_RESET,        /* RST, or another error of the control connection */
    EV_WRITTEN,      /* nothing waits to be sent any more */
    EV_TIMEOUT,      /* the state's timer */
    EV_FLOOD,        /* more octets than anybody needs */
    EV_REFUSED,      /* by the command: session->reply */
    EV_ORDERED,      /* the command has judged, the relay shall be ordered */
    EV_RELAY_OPENED, /* session->bound */
    EV_RELAY_FAILED, /* session->reply */
    EV_CONNECTED,    /* the peer of a BIND has come: session->destination */
    EV_RELAY_CLOSED,
    EV_RELAY_LOST,
    EV_STOP, /* the daemon stops */
    EV_KILL, /* now */
};

/*
 * Everything that a session needs only until its relay is open. The buffer holds the longest
 * messages of all phases at once, so that a client may send them all in one segment; and where the
 * client's socket will be handed over, what it sends ahead of the reply, so that nothing of it is
 * lost.
 */
#define HANDSHAKE_BUFFER N2_EARLY_DATA_MAX
_Static_assert(HANDSHAKE_BUFFER >= N1_METHODS_MAX + N1_USERPASS_MAX + N1_REQUEST_MAX,
               "a client may send everything at once");

struct handshake {
    size_t length;
    uint8_t buffer[HANDSHAKE_BUFFER];
    const struct auth_method *method;
    struct n1_request request;
    struct resolver_query *query; /* under way, or NULL */
    uint8_t candidate_count;      /* CONNECT: where the relay shall try, in order */
    struct endpoint candidates[N2_CANDIDATES_MAX];
};

struct session {
    struct session_set *set;
    uint64_t id; /* association id on N2 */
    enum session_state state;
    uint8_t open_handles;
    uint8_t reply;
    uint8_t command; /* enum n1_command; 0 before the request */
    uint8_t ptcl;
    uint8_t plane;      /* enum n2_plane; 0 before the relay */
    uint8_t end_reason; /* enum n2_reason: why we asked for the end */
    bool recorded;      /* the access log has the relay */
    bool reading, finished_writing, listed_handshaking;
    bool half_closed;            /* the client's FIN was read, and is no reason to end */
    bool peer_came;              /* BIND: RelayConnected was seen */
    int handed_fd;               /* HANDING: the duplicate for relayd; otherwise -1 */
    uint8_t authorization_count; /* in the list */
    uint32_t discarded;          /* octets in the second that began at discard_window_ms */
    uint64_t discard_window_ms;
    uint64_t accepted_ms, opened_ms;
    struct endpoint peer, local;         /* of the control connection */
    struct endpoint source, destination; /* S and DST as judged; port 0 of S: to be learned. Of an
                                            open CONNECT and BIND the peer that it is */
    struct endpoint bound, egress;
    uint64_t relay;                  /* relayd's number of it */
    char instance[N2_LABEL_MAX + 1]; /* of the relayd that has it */
    const struct command *row;
    const char *why; /* of a refusal; valid while EV_REFUSED and EV_RELAY_FAILED are handled */
    const struct rule *rule;     /* that allowed it; borrowed from the policy */
    char *name;                  /* of DST as asked for, or NULL */
    struct handshake *handshake; /* until RELAYING */
    struct client *client;
    struct authorization *authorizations; /* look-ups that relayd waits for */
    struct relay_ticket ticket;
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_shutdown_t shutdown;
    struct session *prev, *next;
};

_Static_assert(sizeof(struct session) <= 1024, "a session that relays has to stay small");

/* The client's octets are data for the relay's peer, in time. */
static inline bool session_will_hand_over(const struct session *session)
{
    return session->row && session->row->life != COMMAND_HOLDS_N1;
}

static inline struct session *session_of_ticket(struct relay_ticket *ticket)
{
    return (struct session *)((char *)ticket - offsetof(struct session, ticket));
}

/* The one entry of everything that happens. The session may be DEAD when it returns; its memory
 * stays until the loop runs the close callbacks. */
void session_event(struct session *session, enum session_event event);

/* ---- for commands ---------------------------------------------------------------------------- */

/* Answers with the reply code. `why` is for the log. */
void session_refuse(struct session *session, uint8_t reply, const char *why);
/* source, destination and rule are set: order the relay. */
void session_order(struct session *session);

/* ---- session_fsm.c, for session_handshake.c -------------------------------------------------- */

/* The only place where the state changes: arms the timer, moves the list membership, releases what
 * the state does not need. */
void session_set_state(struct session *session, enum session_state state);
/* Answers with a failure; the control connection ends when the client has read it. */
void session_reply_failure(struct session *session, uint8_t code, const char *why);

/* ---- session_handshake.c, for session_fsm.c -------------------------------------------------- */

/* There are more octets, and the state is one from METHODS to REQUEST. */
void session_handshake(struct session *session);

/* ---- session.c, for session_fsm.c ------------------------------------------------------------ */

/* Sends octets after those that were sent before. Returns 0 when all are sent; 1 when some wait:
 * EV_WRITTEN or EV_RESET follows; or a negative error: the connection is broken, which is read as
 * EV_RESET too, if it is read. */
int session_write(struct session *session, const uint8_t *data, size_t length);
/* Makes the duplicate of the socket that relayd will get. Returns 0 or -errno. */
int session_duplicate(struct session *session);
void session_drop_duplicate(struct session *session); /* idempotent */
/* FIN after the last octet. */
void session_shutdown(struct session *session);
void session_close_tcp(struct session *session);
void session_set_timer(struct session *session, uint64_t timeout_ms); /* 0: none */
void session_update_reading(struct session *session);
void session_move(struct session *session, bool handshaking); /* into which list */
void session_free_handshake(struct session *session);
/* Closes and drops whatever is left; freed when the last handle has closed. Idempotent. */
void session_destroy(struct session *session);
extern const struct relay_ticket_ops session_ticket_ops; /* session_fsm.c */

#endif
