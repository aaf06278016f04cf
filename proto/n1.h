/*
 * N1: the bytes between a SOCKS client and a SOCKS server. RFC 1928, RFC 1929 and
 * draft-lucioni-a-socks-transparent-proxy-method-00. Requirements and their ids: N1.md.
 *
 * Pure functions over caller-owned bytes: no I/O, no allocation, no state between calls. Decoders
 * are incremental in the plainest way: called again with the same bytes and more of them until the
 * answer is not N1_NEED_MORE. Every message is bounded by a constant below, so a caller with a
 * buffer of that size never deadlocks. Encoders return the octets written, or 0 when the message is
 * not valid or `size` is too small.
 */
#ifndef SOCKST_PROTO_N1_H
#define SOCKST_PROTO_N1_H

#include "proto/endpoint.h"

#define N1_VERSION 0x05
#define N1_USERPASS_VERSION 0x01

#define N1_NAME_MAX 255
#define N1_METHODS_MAX (2 + 255)
#define N1_USERPASS_MAX (3 + 255 + 255)
#define N1_ADDRESS_MAX (1 + 1 + N1_NAME_MAX + 2) /* ATYP, length, name, port */
#define N1_REQUEST_MAX (3 + N1_ADDRESS_MAX + 1 + N1_ADDRESS_MAX)
#define N1_REPLY_MAX (3 + N1_ADDRESS_MAX)
#define N1_UDP_HEADER_MAX (3 + N1_ADDRESS_MAX)

enum n1_method {
    N1_METHOD_NONE = 0x00,
    N1_METHOD_GSSAPI = 0x01,
    N1_METHOD_USERPASS = 0x02,
    N1_METHOD_UNACCEPTABLE = 0xff,
};

enum n1_command {
    N1_CMD_CONNECT = 0x01,
    N1_CMD_BIND = 0x02,
    N1_CMD_UDP_ASSOCIATE = 0x03,
    N1_CMD_TRANSPARENT = 0x04, /* draft, section 3.1 */
};

enum n1_atyp {
    N1_ATYP_V4 = 0x01,
    N1_ATYP_DOMAIN = 0x03,
    N1_ATYP_V6 = 0x04,
};

enum n1_reply_code {
    N1_REP_SUCCEEDED = 0x00,
    N1_REP_GENERAL_FAILURE = 0x01,
    N1_REP_NOT_ALLOWED = 0x02,
    N1_REP_NETWORK_UNREACHABLE = 0x03,
    N1_REP_HOST_UNREACHABLE = 0x04,
    N1_REP_REFUSED = 0x05,
    N1_REP_TTL_EXPIRED = 0x06,
    N1_REP_COMMAND_NOT_SUPPORTED = 0x07,
    N1_REP_ATYP_NOT_SUPPORTED = 0x08,
    N1_REP_PTCL_NOT_SUPPORTED = 0x09, /* draft, section 3.2 */
};

enum n1_result {
    N1_OK = 0,
    N1_NEED_MORE,     /* valid so far; call again with more octets */
    N1_E_VERSION,     /* VER is wrong: close without a reply */
    N1_E_METHODS,     /* method list is empty: close without a reply */
    N1_E_COMMAND,     /* → 07 */
    N1_E_RSV,         /* → 01 */
    N1_E_ATYP,        /* → 08, of DST */
    N1_E_SOURCE_ATYP, /* → 08, of S */
    N1_E_MALFORMED, /* server side: empty user name; client side: a reply that no server may send */
};

/* A host as a request names it: an address, or a domain name that is not yet looked up. */
struct n1_host {
    uint8_t atyp;               /* enum n1_atyp; 0 when absent */
    struct ip_address address;  /* for N1_ATYP_V4 and N1_ATYP_V6 */
    uint8_t name_length;        /* for N1_ATYP_DOMAIN */
    char name[N1_NAME_MAX + 1]; /* as received, terminated; may hold NUL: see n1_name_is_valid() */
    uint16_t port;
};

struct n1_methods {
    uint8_t count;
    uint8_t methods[255];
};

struct n1_userpass {
    uint8_t user_length, password_length;
    char user[256], password[256]; /* terminated, and may hold NUL */
};

struct n1_request {
    uint8_t command;            /* enum n1_command */
    struct n1_host destination; /* DST */
    uint8_t ptcl;               /* TRANSPARENT only, otherwise 0 */
    struct n1_host source;      /* S; TRANSPARENT only */
};

struct n1_reply {
    uint8_t code; /* enum n1_reply_code, or one that is unassigned (client side) */
    struct n1_host bound;
};

struct n1_udp_header {
    uint8_t fragment; /* FRAG: 0 standalone, bits 0-6 position, bit 7 end of sequence */
    struct n1_host destination;
};

/* ---- both sides
 * ---------------------------------------------------------------------------------- */

/*
 * May this be looked up? Labels of 1-63 printable ASCII octets without white space, 253 in all, one
 * final dot allowed. NUL, control characters, octets above 0x7e and empty labels are refused
 * (N1.md, N1-NAME-*): such a name is never used as a C string.
 */
bool n1_name_is_valid(const char *name, size_t length);

/* Fills a host from an address and port. */
struct n1_host n1_host_from_endpoint(const struct endpoint *endpoint);

/* Fills a host from a name. Returns 0, or -EINVAL when it is not valid or longer than N1_NAME_MAX.
 */
int n1_host_from_name(const char *name, uint16_t port, struct n1_host *out);

/* ---- server: decode what a client sends, encode what it is answered
 * --------------------------------- */

/* RFC 1928 section 3. N1_E_VERSION, N1_E_METHODS. *consumed is set only with N1_OK (so everywhere
 * below). */
enum n1_result n1_methods_decode(const uint8_t *data, size_t length, struct n1_methods *out,
                                 size_t *consumed);
size_t n1_method_encode(uint8_t method, uint8_t *out, size_t size);

/* RFC 1929 section 2. N1_E_VERSION, N1_E_MALFORMED (empty UNAME; an empty PASSWD exists in practice
 * and is taken). */
enum n1_result n1_userpass_decode(const uint8_t *data, size_t length, struct n1_userpass *out,
                                  size_t *consumed);
size_t n1_userpass_status_encode(uint8_t status, uint8_t *out, size_t size);

/*
 * RFC 1928 section 4, draft section 3.1. Judges in the order VER, CMD, RSV, ATYP, S.ATYP, each as
 * soon as its octet is there, so that a request gets the same answer a byte at a time and in one
 * segment. On an error out->command is set if CMD was read.
 */
enum n1_result n1_request_decode(const uint8_t *data, size_t length, struct n1_request *out,
                                 size_t *consumed);

/* RFC 1928 section 6. A failure carries 0.0.0.0:0. `bound` may be NULL then. */
size_t n1_reply_encode(uint8_t code, const struct endpoint *bound, uint8_t *out, size_t size);

/* The reply code for a result of n1_request_decode(); -1: close without a reply. */
int n1_result_reply(enum n1_result result);

/* ---- client: the other direction
 * ----------------------------------------------------------------- */

size_t n1_methods_encode(const struct n1_methods *methods, uint8_t *out, size_t size);
enum n1_result n1_method_decode(const uint8_t *data, size_t length, uint8_t *method,
                                size_t *consumed);
size_t n1_userpass_encode(const struct n1_userpass *userpass, uint8_t *out, size_t size);
enum n1_result n1_userpass_status_decode(const uint8_t *data, size_t length, uint8_t *status,
                                         size_t *consumed);
size_t n1_request_encode(const struct n1_request *request, uint8_t *out, size_t size);
/* N1_E_VERSION, N1_E_RSV, N1_E_ATYP. */
enum n1_result n1_reply_decode(const uint8_t *data, size_t length, struct n1_reply *out,
                               size_t *consumed);

/* ---- UDP ASSOCIATE's header, both sides (RFC 1928 section 7)
 * ------------------------------------------ */

/* A datagram is whole: N1_NEED_MORE means truncated. N1_E_RSV, N1_E_ATYP. *consumed: where the
 * payload begins. */
enum n1_result n1_udp_header_decode(const uint8_t *data, size_t length, struct n1_udp_header *out,
                                    size_t *consumed);
size_t n1_udp_header_encode(const struct n1_udp_header *header, uint8_t *out, size_t size);

/* The octets before ATYP. */
#define N1_UDP_HEADER_PREFIX 3
/* The same judgement as n1_udp_header_decode()'s, without a copy: the octets from
 * N1_UDP_HEADER_PREFIX to *consumed name the destination. */
enum n1_result n1_udp_header_measure(const uint8_t *data, size_t length, uint8_t *fragment,
                                     size_t *consumed);

/* "connect", "bind", "udp-associate", "transparent", or NULL: the names of configuration and
 * output. */
const char *n1_command_name(uint8_t command);
/* RFC 1928's words for a reply code ("Connection refused"); never NULL. */
const char *n1_reply_text(uint8_t code);

#endif
