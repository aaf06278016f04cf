/*
 * N1 octet by octet: what every message is answered, however it arrives.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/ptcl.h"
#include "tests/harness/daemons.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/nameserver.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

#define RULES "rules: [{action: deny, to: .denied.test}, {action: allow}]"

static struct lab *lab;
static struct daemons daemons;
static struct process *nameserver;

static void setup(void)
{
    static const char *const records[] = {"target.test. A " LAB_TARGET_V4,
                                          "inside.test. A 127.0.0.1",
                                          "client.test. A " LAB_CLIENT_V4, NULL};
    lab = lab_new();
    nameserver = nameserver_start(lab, records);
    daemons = daemons_start(lab, &(struct daemons_options){.socksd = {RULES, NAMESERVER_RESOLVER}});
}

static void teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

/* ---- exchanges ---------------------------------------------------------------------------------
 */

/* As socket_send(), but the server may have closed. Waits until all was taken, so that the next
 * octets come in a segment of their own. */
static void send_part(int fd, const uint8_t *data, size_t length)
{
    int queued = 1;
    if (length == 0 || send(fd, data, length, MSG_NOSIGNAL) < 0) {
        return;
    }
    WAIT_UNTIL(ioctl(fd, SIOCOUTQ, &queued) != 0 || queued == 0 || wait_fd(fd, 0, 0), PATIENCE_MS);
}

/* To the end of the stream; *end tells how it ended. */
static size_t read_to_end(int fd, uint8_t *out, size_t size, ssize_t *end)
{
    size_t length = 0;
    do {
        ck_assert_uint_lt(length, size);
        *end = socket_receive(fd, &out[length], size - length, PATIENCE_MS);
        length += *end > 0 ? (size_t)*end : 0;
    } while (*end > 0);
    return length;
}

#define SLOWLY SIZE_MAX

/* Sends the octets in two parts (or one, or SLOWLY), reads everything that is answered, and the
 * end, which must come by itself. */
static void check_exchange(const char *name, const void *sent, size_t length, size_t split,
                           const void *expected, size_t expected_length)
{
    const uint8_t *octets = sent;
    uint8_t answer[1024];
    ssize_t end;
    const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    if (split == SLOWLY) {
        socket_send_slowly(fd, octets, length);
    } else {
        send_part(fd, octets, split);
        send_part(fd, octets + split, length - split);
    }
    const size_t got = read_to_end(fd, answer, sizeof(answer), &end);
    ck_assert_msg(got == expected_length && memcmp(answer, expected, got) == 0,
                  "%s, split at %zd: %zu octets, expected %zu; the last: %02x, expected %02x", name,
                  (ssize_t)split, got, expected_length, got > 3 ? answer[3] : 0,
                  expected_length > 3 ? ((const uint8_t *)expected)[3] : 0);
    /* A failure reply is followed by FIN. Where nothing was said to the request (or at all) a RST
     * may have answered its later octets. */
    ck_assert_msg(end == 0 || (end == -ECONNRESET && expected_length <= 2 && split != 0),
                  "%s: ended with %s", name, strerror((int)-end));
    close(fd);
}

static size_t failure(uint8_t code, uint8_t out[16])
{
    const uint8_t octets[] = {5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0};
    memcpy(out, octets, sizeof(octets));
    return sizeof(octets);
}

/* Every way to arrive gives the same answer. */
static void check_arrivals(const char *name, const void *sent, size_t length, const void *expected,
                           size_t expected_length)
{
    check_exchange(name, sent, length, SLOWLY, expected, expected_length);
    for (size_t split = 0; split < length; split++) {
        check_exchange(name, sent, length, split, expected, expected_length);
    }
}

/* ---- malformed messages ------------------------------------------------------------------------
 */

struct vector {
    const char *name, *sent;
    size_t length;
    const char *expected;
    size_t expected_length;
};

#define OCTETS(text_) (text_), sizeof(text_) - 1
#define GREETING "\x05\x01\x00"
#define DST "\x01\x0a\x4d\x02\x02\x00\x50"    /* 10.77.2.2:80 */
#define SOURCE "\x01\x00\x00\x00\x00\x12\x34" /* the peer's, port 4660 */
#define FOREIGN "\x01\x0a\x4d\x01\x03\x12\x34"
#define REQUEST(dst_, ptcl_, source_) GREETING "\x05\x04\x00" dst_ ptcl_ source_
#define FAILS(code_) OCTETS("\x05\x00\x05" code_ "\x00\x01\x00\x00\x00\x00\x00\x00")
#define TCP "\x06"

static const struct vector vectors[] = {
    /* method lists */
    {"SOCKS 4", OCTETS("\x04\x01\x00\x50\x0a\x4d\x02\x02\x00"), OCTETS("")},
    {"VER 0", OCTETS("\x00"), OCTETS("")},
    {"VER 6", OCTETS("\x06\x01\x00"), OCTETS("")},
    {"HTTP", OCTETS("GET / HTTP/1.1\r\n\r\n"), OCTETS("")},
    {"TLS", OCTETS("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), OCTETS("")},
    {"no methods", OCTETS("\x05\x00"), OCTETS("")},
    {"GSSAPI alone", OCTETS("\x05\x01\x01"), OCTETS("\x05\xff")},
    {"password alone", OCTETS("\x05\x01\x02"), OCTETS("\x05\xff")},
    {"private alone", OCTETS("\x05\x01\x80"), OCTETS("\x05\xff")},
    {"FF alone", OCTETS("\x05\x01\xff"), OCTETS("\x05\xff")},
    {"three, none known", OCTETS("\x05\x03\x01\x02\x80"), OCTETS("\x05\xff")},
    {"unacceptable, and a request", OCTETS("\x05\x01\x02\x05\x04\x00" DST TCP SOURCE),
     OCTETS("\x05\xff")},
    /* requests, by the order of judgement */
    {"request VER 4", OCTETS(GREETING "\x04\x04\x00" DST TCP SOURCE), OCTETS("\x05\x00")},
    {"request VER 1", OCTETS(GREETING "\x01\x04\x00" DST TCP SOURCE), OCTETS("\x05\x00")},
    {"CMD 9 with a wrong RSV", OCTETS(GREETING "\x05\x09\x01" DST), FAILS("\x07")},
    {"CONNECT: RSV 1", OCTETS(GREETING "\x05\x01\x01" DST), FAILS("\x01")},
    {"BIND: empty name", OCTETS(GREETING "\x05\x02\x00\x03\x00\x00\x50"), FAILS("\x01")},
    {"CONNECT: port 0", OCTETS(GREETING "\x05\x01\x00\x01\x0a\x4d\x02\x02\x00\x00"), FAILS("\x01")},
    {"CONNECT: no such name",
     OCTETS(GREETING "\x05\x01\x00\x03\x06"
                     "nobody"
                     "\x00\x50"),
     FAILS("\x04")},
    {"CONNECT: loopback", OCTETS(GREETING "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"),
     FAILS("\x02")},
    {"BIND: loopback", OCTETS(GREETING "\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50"), FAILS("\x02")},
    {"CONNECT: closed port", OCTETS(GREETING "\x05\x01\x00\x01\x0a\x4d\x02\x02\x00\x09"),
     FAILS("\x05")},
    {"CMD alone", OCTETS(GREETING "\x05\x00"), FAILS("\x07")},
    {"RSV 1", OCTETS(GREETING "\x05\x04\x01" DST TCP SOURCE), FAILS("\x01")},
    {"RSV alone", OCTETS(GREETING "\x05\x04\xff"), FAILS("\x01")},
    {"ATYP 0", OCTETS(GREETING "\x05\x04\x00\x00"), FAILS("\x08")},
    {"ATYP 2", OCTETS(GREETING "\x05\x04\x00\x02\x0a\x4d\x02\x02\x00\x50\x06" SOURCE),
     FAILS("\x08")},
    {"S.ATYP 0", OCTETS(REQUEST(DST, TCP, "\x00")), FAILS("\x08")},
    {"S.ATYP 5", OCTETS(REQUEST(DST, TCP, "\x05\x00\x00\x00\x00\x12\x34")), FAILS("\x08")},
    {"PTCL 0", OCTETS(REQUEST(DST, "\x00", SOURCE)), FAILS("\x09")},
    {"PTCL SCTP", OCTETS(REQUEST(DST, "\x84", SOURCE)), FAILS("\x09")},
    {"PTCL 255", OCTETS(REQUEST(DST, "\xff", SOURCE)), FAILS("\x09")},
    {"S.PORT 0", OCTETS(REQUEST(DST, TCP, "\x01\x00\x00\x00\x00\x00\x00")), FAILS("\x01")},
    {"S.PORT 0, UDP", OCTETS(REQUEST(DST, "\x11", "\x01\x00\x00\x00\x00\x00\x00")), FAILS("\x01")},
    {"S: empty name", OCTETS(REQUEST(DST, TCP, "\x03\x00\x12\x34")), FAILS("\x01")},
    {"S: name with NUL",
     OCTETS(REQUEST(DST, TCP,
                    "\x03\x03"
                    "a\x00z"
                    "\x12\x34")),
     FAILS("\x01")},
    {"S: no such name",
     OCTETS(REQUEST(DST, TCP,
                    "\x03\x06"
                    "nobody"
                    "\x12\x34")),
     FAILS("\x01")},
    {"S: foreign", OCTETS(REQUEST(DST, TCP, FOREIGN)), FAILS("\x02")},
    {"S: the name of another",
     OCTETS(REQUEST(DST, TCP,
                    "\x03\x0b"
                    "target.test"
                    "\x12\x34")),
     FAILS("\x02")},
    {"DST.PORT 0", OCTETS(REQUEST("\x01\x0a\x4d\x02\x02\x00\x00", TCP, SOURCE)), FAILS("\x01")},
    {"DST.PORT 0, UDP", OCTETS(REQUEST("\x01\x0a\x4d\x02\x02\x00\x00", "\x11", SOURCE)),
     FAILS("\x01")},
    {"DST: empty name", OCTETS(REQUEST("\x03\x00\x00\x50", TCP, SOURCE)), FAILS("\x01")},
    {"DST: NUL",
     OCTETS(REQUEST("\x03\x0d"
                    "target.test\x00"
                    "x"
                    "\x00\x50",
                    TCP, SOURCE)),
     FAILS("\x01")},
    {"DST: empty label",
     OCTETS(REQUEST("\x03\x04"
                    "a..b"
                    "\x00\x50",
                    TCP, SOURCE)),
     FAILS("\x01")},
    {"DST: space",
     OCTETS(REQUEST("\x03\x03"
                    "a b"
                    "\x00\x50",
                    TCP, SOURCE)),
     FAILS("\x01")},
    {"DST: octet above 7E",
     OCTETS(REQUEST("\x03\x03"
                    "a\xc3\xa4"
                    "\x00\x50",
                    TCP, SOURCE)),
     FAILS("\x01")},
    {"DST: bad name, PTCL not served", OCTETS(REQUEST("\x03\x00\x00\x50", "\x84", SOURCE)),
     FAILS("\x09")},
    {"DST: refused name",
     OCTETS(REQUEST("\x03\x0d"
                    "a.denied.test"
                    "\x00\x50",
                    TCP, SOURCE)),
     FAILS("\x02")},
    {"DST: no such name",
     OCTETS(REQUEST("\x03\x06"
                    "nobody"
                    "\x00\x50",
                    TCP, SOURCE)),
     FAILS("\x04")},
    {"DST: a name for loopback",
     OCTETS(REQUEST("\x03\x0b"
                    "inside.test"
                    "\x00\x50",
                    TCP, SOURCE)),
     FAILS("\x02")},
    {"DST: an address as a name",
     OCTETS(REQUEST("\x03\x09"
                    "127.0.0.1"
                    "\x00\x50",
                    TCP, SOURCE)),
     FAILS("\x02")},
    {"DST: loopback", OCTETS(REQUEST("\x01\x7f\x00\x00\x01\x00\x50", TCP, SOURCE)), FAILS("\x02")},
    {"DST: closed port", OCTETS(REQUEST("\x01\x0a\x4d\x02\x02\x00\x09", TCP, SOURCE)),
     FAILS("\x05")},
};
#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))

/* N1-CONN-010, N1-CONN-050, N1-METH-010, N1-METH-020, N1-METH-040, N1-REQ-020, N1-REQ-030,
 * N1-REQ-040, N1-REQ-050, N1-ORD-010, N1-ADDR-010, N1-NAME-020, N1-NAME-030, N1-PTCL-010,
 * N1-PTCL-030, N1-SRC-020, N1-SRC-030, N1-SRC-040, N1-DST-020, N1-REP-010, N1-REP-020, N1-REP-030
 */
START_TEST(every_malformed_message_gets_its_answer_however_it_arrives)
{
    for (size_t i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        check_arrivals(v->name, v->sent, v->length, v->expected, v->expected_length);
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "handshake_timeouts"), 0);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 0);
}
END_TEST

/* One octet of a request that is otherwise in order takes every value but those in `valid`. */
static void check_every_value(const char *name, size_t offset, const char *valid,
                              size_t valid_count, uint8_t code)
{
    uint8_t request[] = REQUEST(DST, TCP, SOURCE), expected[16];
    for (unsigned value = 0; value <= 255; value++) {
        if (memchr(valid, (int)value, valid_count) != NULL) {
            continue;
        }
        request[offset] = (uint8_t)value;
        check_exchange(name, request, sizeof(request) - 1, 0, expected, failure(code, expected));
    }
}

/* N1-REQ-030, N1-REQ-040, N1-REQ-050, N1-PTCL-010 */
START_TEST(every_other_value_of_an_octet_is_refused)
{
    check_every_value("CMD", 4, OCTETS("\x01\x02\x03\x04"), 0x07);
    check_every_value("RSV", 5, OCTETS("\x00"), 0x01);
    check_every_value("ATYP", 6, OCTETS("\x01\x03\x04"), 0x08);
    check_every_value("PTCL", 13, OCTETS("\x06\x11"), 0x09);
    check_every_value("S.ATYP", 14, OCTETS("\x01\x03\x04"), 0x08);
}
END_TEST

/* N1-METH-010: each of the 255 other versions */
START_TEST(every_other_version_is_closed_without_an_octet)
{
    for (unsigned version = 0; version <= 255; version++) {
        if (version != 5) {
            const uint8_t octet = (uint8_t)version;
            check_exchange("VER", &octet, 1, 0, "", 0);
        }
    }
    ck_assert_uint_eq(daemons_counter(&daemons, "socksd", "bad_versions"), 255);
}
END_TEST

/* ---- the order of judgement --------------------------------------------------------------------
 */

enum fault {
    FAULT_VER,
    FAULT_CMD,
    FAULT_RSV,
    FAULT_ATYP,
    FAULT_SOURCE_ATYP,
    FAULT_PTCL,
    FAULT_SOURCE_PORT,
    FAULT_SOURCE_FOREIGN,
    FAULT_DST_PORT,
    FAULT_RULE,
    FAULT_DNS,
    FAULT_FLOOR,
    FAULT_RELAY,
    FAULTS
};

static const int fault_codes[FAULTS] = {-1,   0x07, 0x01, 0x08, 0x08, 0x09, 0x01,
                                        0x02, 0x01, 0x02, 0x04, 0x02, 0x05};

/* The destination of a request with these faults: name or address, and port. */
static size_t faulty_destination(unsigned faults, uint8_t *out)
{
    const char *name = NULL;
    if (faults & 1u << FAULT_RULE) {
        name = "no.denied.test"; /* has no address either */
    } else if (faults & 1u << FAULT_DNS) {
        name = "nobody.test";
    }
    size_t length = 0;
    if (name != NULL) {
        out[length++] = N1_ATYP_DOMAIN;
        out[length++] = (uint8_t)strlen(name);
        memcpy(&out[length], name, strlen(name));
        length += strlen(name);
    } else {
        const bool floor = (faults & 1u << FAULT_FLOOR) != 0;
        out[length++] = N1_ATYP_V4;
        memcpy(&out[length], floor ? "\x7f\x00\x00\x01" : "\x0a\x4d\x02\x02", 4);
        length += 4;
    }
    out[length++] = 0;
    out[length++] = (faults & 1u << FAULT_DST_PORT) ? 0 : 9; /* nobody listens at 9 */
    return length;
}

static size_t faulty_request(unsigned faults, uint8_t *out)
{
    memcpy(out, "\x05\x01\x00\x05\x04\x00", 6);
    size_t length = 6 + faulty_destination(faults, &out[6]);
    out[3] = (faults & 1u << FAULT_VER) ? 4 : out[3];
    out[4] = (faults & 1u << FAULT_CMD) ? 9 : out[4];
    out[5] = (faults & 1u << FAULT_RSV) ? 7 : out[5];
    out[6] = (faults & 1u << FAULT_ATYP) ? 2 : out[6];
    out[length++] = (faults & 1u << FAULT_PTCL) ? 132 : PTCL_TCP;
    const bool foreign = (faults & 1u << FAULT_SOURCE_FOREIGN) != 0;
    memcpy(&out[length], foreign ? FOREIGN : SOURCE, 7);
    out[length] = (faults & 1u << FAULT_SOURCE_ATYP) ? 2 : out[length];
    if (faults & 1u << FAULT_SOURCE_PORT) {
        out[length + 5] = out[length + 6] = 0;
    }
    return length + 7;
}

/* Two that one destination cannot have at a time. */
static bool excludes(enum fault first, enum fault second)
{
    return (first == FAULT_DNS && second >= FAULT_FLOOR) ||
           (first == FAULT_RULE && second >= FAULT_FLOOR);
}

/* N1-ORD-010, N1-ORD-020 */
START_TEST(of_two_faults_the_first_answers)
{
    for (int first = 0; first < FAULTS; first++) {
        for (int second = first; second < FAULTS; second++) {
            uint8_t request[128], expected[16];
            char name[64];
            if (excludes((enum fault)first, (enum fault)second) && first != second) {
                continue;
            }
            const size_t length = faulty_request(1u << first | 1u << second, request);
            size_t expected_length = failure((uint8_t)fault_codes[first], expected);
            expected_length = fault_codes[first] < 0 ? 2 : expected_length;
            snprintf(name, sizeof(name), "faults %d and %d", first, second);
            check_exchange(name, request, length, 0, expected, expected_length);
            check_exchange(name, request, length, SLOWLY, expected, expected_length);
        }
    }
    ck_assert(!nameserver_was_asked(nameserver, "no.denied.test"));
    ck_assert(nameserver_was_asked(nameserver, "nobody.test"));
}
END_TEST

/* ---- what is in order --------------------------------------------------------------------------
 */

/* The reply 00 with a concrete BND, and the relay works. */
static void check_granted(int control, int data)
{
    struct endpoint bound;
    char text[4];
    ck_assert_int_eq(n1_read_reply(control, PATIENCE_MS, &bound), N1_REP_SUCCEEDED);
    ck_assert(same_address(bound, at(LAB_RELAY_V4, 0)));
    ck_assert_int_eq(socket_connect(data, bound, PATIENCE_MS), 0);
    socket_send(data, "ping", 4);
    socket_receive_all(data, text, 4, PATIENCE_MS);
    ck_assert_mem_eq(text, "ping", 4);
}

/* N1-CONN-010, N1-REQ-010, N1-METH-030: a name, the longest method list, in pieces and at once */
START_TEST(a_valid_request_is_granted_however_it_arrives)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    uint8_t octets[N1_METHODS_MAX + N1_REQUEST_MAX] = {5, 1, 0};
    size_t splits = 3;
    for (size_t split = 0; split < splits; split++) {
        struct endpoint source;
        uint8_t answer[2];
        const int data = socket_bound(lab, LAB_CLIENT, SOCK_STREAM, at(LAB_CLIENT_V4, 0), &source);
        const size_t length = 3 + n1_transparent_name_bytes(PTCL_TCP, source, "target.test.",
                                                            server_endpoint(echo).port, &octets[3]);
        const int control = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
        splits = length;
        if (split == 0) {
            ck_assert_uint_eq(socket_send_slowly(control, octets, length), length);
        } else {
            send_part(control, octets, split);
            send_part(control, octets + split, length - split);
        }
        socket_receive_all(control, answer, 2, PATIENCE_MS);
        ck_assert_mem_eq(answer, "\x05\x00", 2);
        check_granted(control, data);
        close(control);
        close(data);
    }
}
END_TEST

/* N1-METH-030, N1-CONN-020 */
START_TEST(the_longest_messages_are_understood)
{
    uint8_t methods[N1_METHODS_MAX] = {5, 255}, name[253];
    for (size_t i = 0; i < 255; i++) {
        methods[2 + i] = (uint8_t)(255 - i); /* NO AUTHENTICATION comes last */
    }
    uint8_t answer[2];
    int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    socket_send(fd, methods, sizeof(methods) - 1); /* … and last of all */
    ck_assert_int_eq(socket_receive(fd, answer, 2, 50), -ETIMEDOUT);
    methods[256] = 0;
    socket_send(fd, &methods[256], 1);
    socket_receive_all(fd, answer, 2, PATIENCE_MS);
    ck_assert_mem_eq(answer, "\x05\x00", 2);
    /* Two names of 253 octets, the longest that are names; nobody has these. */
    memset(name, 'n', sizeof(name));
    name[63] = name[127] = name[191] = '.';
    uint8_t request[N1_REQUEST_MAX] = {5, 4, 0, 3, 253}, *next = &request[5];
    memcpy(next, name, 253);
    memcpy(next + 253, "\x00\x50\x06\x03\xfd", 5);
    memcpy(next + 258, name, 253);
    memcpy(next + 511, "\x12\x34", 2);
    socket_send_slowly(fd, request, 5 + 513);
    ck_assert_int_eq(n1_read_reply(fd, PATIENCE_MS, NULL), N1_REP_GENERAL_FAILURE);
    close(fd);
}
END_TEST

/* ---- what comes behind -------------------------------------------------------------------------
 */

/* N1-CONN-050, N1-CONN-040 */
START_TEST(what_follows_a_refused_request_does_not_destroy_the_reply)
{
    uint8_t octets[4096 + 64], expected[16];
    memset(octets, 0xa5, sizeof(octets));
    for (size_t i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        if (v->expected_length > 2) {
            /* Only a complete one leaves no doubt where the garbage begins: replies 01 to 09 are
             * the same whatever follows. */
            memcpy(octets, v->sent, v->length);
            check_exchange(v->name, octets, v->length + 4096, 0, v->expected, v->expected_length);
            check_exchange(v->name, octets, v->length + 4096, v->length, v->expected,
                           v->expected_length);
            memset(octets, 0xa5, sizeof(octets));
        }
    }
    const size_t length = failure(0x05, expected);
    memcpy(octets, vectors[VECTORS - 1].sent, vectors[VECTORS - 1].length);
    for (int i = 0; i < 100; i++) {
        check_exchange("again", octets, vectors[VECTORS - 1].length + 4096, 0, expected, length);
    }
}
END_TEST

/* N1-CONN-050: who never closes is gone after 2 s */
START_TEST(a_refused_client_that_stays_is_closed_after_two_seconds)
{
    const int fd = n1_connect(lab, LAB_CLIENT, at(LAB_RELAY_V4, 1080));
    uint8_t answer[16];
    ssize_t end;
    const int64_t start = now_ms();
    socket_send(fd, OCTETS(GREETING "\x05\x09"));
    ck_assert_uint_eq(read_to_end(fd, answer, sizeof(answer), &end), 12);
    ck_assert_int_eq(end, 0);
    WAIT_UNTIL(daemons_counter(&daemons, "socksd", "sessions_active") == 0, PATIENCE_MS);
    const int64_t took = now_ms() - start;
    ck_assert_msg(took >= 1900 && took < 5000, "after %d ms", (int)took);
    close(fd);
}
END_TEST

/* N1-CONN-040, N1-DST-030 */
START_TEST(octets_behind_a_granted_request_change_nothing)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    struct association association = association_tcp(lab, server_endpoint(echo));
    uint8_t garbage[1024], request[N1_REQUEST_MAX], byte;
    memset(garbage, 5, sizeof(garbage));
    socket_send(association.control, garbage, sizeof(garbage));
    const size_t length =
        n1_transparent_bytes(PTCL_TCP, association.source, at(LAB_TARGET_V4_2, 80), request);
    socket_send(association.control, request, length);
    socket_send(association.data, "x", 1);
    socket_receive_all(association.data, &byte, 1, PATIENCE_MS);
    ck_assert_int_eq(socket_receive(association.control, &byte, 1, 100), -ETIMEDOUT);
    ck_assert_uint_eq(daemons_relay_count(&daemons), 1);
    close(association.control);
    association.control = -1;
    WAIT_UNTIL(daemons_relay_count(&daemons) == 0, PATIENCE_MS);
    association_close(&association);
}
END_TEST

/* ---- PTCLs that come and go --------------------------------------------------------------------
 */

/* N1-PTCL-010, N1-PTCL-020 */
START_TEST(configured_but_down_is_01_and_not_configured_09)
{
    struct server *echo = server_echo(lab, SOCK_STREAM);
    uint8_t expected[16];
    const struct association_spec spec = {.ptcl = PTCL_TCP, .destination = server_endpoint(echo)};
    process_kill(daemons.relayd_tcp);
    process_free(daemons.relayd_tcp);
    daemons.relayd_tcp = NULL;
    WAIT_UNTIL(process_log_has(daemons.socksd, "n2-lost", "tcp", NULL), PATIENCE_MS);
    check_arrivals("TCP down", OCTETS(REQUEST(DST, "\x06", SOURCE)), expected,
                   failure(0x01, expected));
    check_arrivals("SCTP", OCTETS(REQUEST(DST, "\x84", SOURCE)), expected, failure(0x09, expected));
    daemons_start_relayd(&daemons, "tcp");
    daemons_wait_connected(&daemons);
    struct association association = association_open(lab, &spec);
    association_close(&association);
}
END_TEST

int main(void)
{
    lab_require();
    Suite *suite = suite_create("N1 conformance");
    TCase *tcase = tcase_create("octets");
    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, every_malformed_message_gets_its_answer_however_it_arrives);
    tcase_add_test(tcase, every_other_value_of_an_octet_is_refused);
    tcase_add_test(tcase, every_other_version_is_closed_without_an_octet);
    tcase_add_test(tcase, of_two_faults_the_first_answers);
    tcase_add_test(tcase, a_valid_request_is_granted_however_it_arrives);
    tcase_add_test(tcase, the_longest_messages_are_understood);
    tcase_add_test(tcase, what_follows_a_refused_request_does_not_destroy_the_reply);
    tcase_add_test(tcase, a_refused_client_that_stays_is_closed_after_two_seconds);
    tcase_add_test(tcase, octets_behind_a_granted_request_change_nothing);
    tcase_add_test(tcase, configured_but_down_is_01_and_not_configured_09);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
