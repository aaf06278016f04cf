/*
 * socksd and its relay daemons on the relay host, and their tables as relayctl shows them.
 */
#ifndef SOCKST_TESTS_HARNESS_DAEMONS_H
#define SOCKST_TESTS_HARNESS_DAEMONS_H

#include <jansson.h>

#include "tests/harness/lab.h"
#include "tests/harness/process.h"

#define DAEMONS_OVERRIDES_MAX 16

struct daemons {
    struct lab *lab;
    struct process *socksd, *relayd_tcp, *relayd_udp; /* NULL: not running */
    char n2[128], admin[128];                         /* directories of the sockets */
    const char *attach;                               /* --attach of relayd; NULL: without */
};

/*
 * The configuration is a list of top-level keys with harmless defaults: socksd listens on [::]:1080
 * and allows everything, relayd binds the host's own addresses and uses sockets ("plane: bpf" is
 * for the tests of that plane). An override is one top-level key with its value, as text ("limits:
 * {sessions: 5}"); it replaces the default of that key. NULL ends the list.
 */
struct daemons_options {
    const char *socksd[DAEMONS_OVERRIDES_MAX];
    const char *relayd[DAEMONS_OVERRIDES_MAX];
    bool no_tcp, no_udp, no_socksd; /* do not start this one */
    const char *attach;             /* --attach of relayd; NULL: without */
};

/* Starts all three and waits until a request can be served. options may be NULL. The value is the
 * caller's; the processes are the lab's. */
struct daemons daemons_start(struct lab *lab, const struct daemons_options *options);
/* SIGTERM to those that run, socksd first; each must exit with 0. */
void daemons_stop(struct daemons *daemons);

/* The parts of daemons_start(), for tests that start and kill them one by one. The configuration
 * files must have been written. */
void daemons_write_config(struct daemons *daemons, struct lab *lab,
                          const struct daemons_options *options);
void daemons_start_socksd(struct daemons *daemons);
void daemons_start_relayd(struct daemons *daemons, const char *ptcl);
/* Waits until socksd has a working N2 connection to every relayd that runs. */
void daemons_wait_connected(struct daemons *daemons);

/* ---- what relayctl shows
 * ------------------------------------------------------------------------- */

/* `relayctl --json --dir ADMIN arguments…` (at most 8, NULL at the end); exits with 0. The caller
 * calls json_decref(). */
json_t *daemons_relayctl(struct daemons *daemons, const char *argument, ...)
    __attribute__((sentinel));
/* Its exit status, for calls that may fail. Output and log are in *out if not NULL. */
int daemons_relayctl_status(struct daemons *daemons, struct process **out, const char *argument,
                            ...) __attribute__((sentinel));
/* A counter of `relayctl --json status`, of the daemon "socksd" or the instance "tcp". A daemon
 * that does not answer, or knows no such counter: UINT64_MAX. */
uint64_t daemons_counter(struct daemons *daemons, const char *instance, const char *counter);
/* Relays in all tables. */
size_t daemons_relay_count(struct daemons *daemons);
/* The relay with this BND as an object (caller calls json_decref()), or NULL. */
json_t *daemons_relay_at(struct daemons *daemons, struct endpoint bound);
/* A member of a relay; the test fails when it is not there or of another type. */
uint64_t relay_number(const json_t *relay, const char *key);
const char *relay_text(const json_t *relay, const char *key);
/* One number of the relay with this BND, looked up now ("drops"). */
uint64_t daemons_relay_number(struct daemons *daemons, struct endpoint bound, const char *key);

#endif
