/*
 * Sessions with real sockets on loopback, a fake relayd behind a real N2 connection and a fake name
 * server, on one loop.
 *
 *     fixture_init(&f);  … change f.config, f.rules, f.fake …;  fixture_start(&f);  … ;
 * fixture_stop(&f);
 */
#ifndef SOCKST_TESTS_UNIT_SOCKSD_SESSION_FIXTURE_H
#define SOCKST_TESTS_UNIT_SOCKSD_SESSION_FIXTURE_H

#include <check.h>

#include "socksd/session_fsm.h"
#include "tests/harness/fake_relayd.h"
#include "tests/unit/socksd/fake_dns.h"

#define FIXTURE_RULES 8
#define FIXTURE_PATIENCE_MS 10000

struct fixture {
    uv_loop_t loop;
    uv_timer_t patience;
    uint64_t patience_ms; /* loop time */
    bool out_of_patience;
    char directory[64], paths[2][96];
    struct fake_relayd fake[2]; /* [1] is started if fakes is 2 */
    unsigned fakes;
    struct fake_dns dns;
    const struct fake_dns_record *records;
    struct socksd_config config;
    struct rule_config rules[FIXTURE_RULES];
    unsigned gone;
    struct counters counters;
    struct policy *policy;
    struct deny_floor floor;
    struct resolver *resolver;
    struct relay_pool *pool;
    struct n2_link_config link;
    struct session_set set;
    int listener;
    const char *listen_address;
};

void fixture_init(struct fixture *f);
void fixture_start(struct fixture *f);
/* Kills what is left; the loop must then be empty. */
void fixture_stop(struct fixture *f);

/* Runs the loop until `condition` holds; fails after FIXTURE_PATIENCE_MS. */
#define WAIT_FOR(f, condition)                                                                     \
    do {                                                                                           \
        fixture_patience_start(f);                                                                 \
        while (!(condition)) {                                                                     \
            ck_assert_msg(!(f)->out_of_patience, "waited in vain for %s", #condition);             \
            uv_run(&(f)->loop, UV_RUN_ONCE);                                                       \
        }                                                                                          \
        fixture_patience_stop(f);                                                                  \
    } while (0)
void fixture_patience_start(struct fixture *f);
void fixture_patience_stop(struct fixture *f);
/* Lets everything happen that is ready to happen. */
void fixture_settle(struct fixture *f);

/* A list of one or more literals for rule_config and socksd_config. */
#define LIST(type, ...)                                                                            \
    {                                                                                              \
        .items = (type[]){__VA_ARGS__}, .count = sizeof((type[]){__VA_ARGS__}) / sizeof(type)      \
    }

/* A client of the sessions: a socket, not blocking. */
int client_connect(struct fixture *f);
/* … which the sessions take for one at `peer`. */
int client_connect_as(struct fixture *f, const struct endpoint *peer);
/* … to which nothing can be sent before it has read `octets`. */
int client_connect_full(struct fixture *f, size_t *octets);
/* Reads so many octets, whatever they are. */
void client_drain(struct fixture *f, int fd, size_t octets);
struct endpoint client_endpoint(int fd);
void client_send(int fd, const void *data, size_t length);
/* Reads exactly `length` octets (waiting for them) and compares. */
void client_expect(struct fixture *f, int fd, const void *data, size_t length);
/* Waits for the end of the connection and for nothing before it. */
void client_expect_end(struct fixture *f, int fd);
/* Nothing has come, and the connection is open. */
void client_expect_silence(struct fixture *f, int fd);
/* Method list and its answer. */
void client_greet(struct fixture *f, int fd);
/* Encodes a TRANSPARENT request: DST and S as "address:port" or "name:port". */
size_t request_encode(uint8_t *out, size_t size, uint8_t ptcl, const char *destination,
                      const char *source);
/* Greets, asks, and expects this reply code and, unless it is 0, the end. */
void client_ask(struct fixture *f, int fd, uint8_t ptcl, const char *destination,
                const char *source, uint8_t reply);
/* The same for RFC 1928's own commands. */
size_t classic_encode(uint8_t *out, size_t size, uint8_t command, const char *destination);
/* Connects, greets, and sends one. */
int client_classic(struct fixture *f, uint8_t command, const char *destination);
/* Reads one reply, and nothing more. `bound` NULL: zeros. */
void client_expect_reply(struct fixture *f, int fd, uint8_t code, const char *bound);
/* S as the client's own address with port 40000. */
#define OWN_SOURCE "0.0.0.0:40000"
#define TARGET "192.0.2.80:80"
/* BND of the fake relayd. */
#define BOUND "127.0.0.1:20000"

#define COUNT(f, which) counter_value(&(f)->counters, (which))

#endif
