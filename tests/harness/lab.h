/*
 * The lab: four network namespaces joined by veth pairs, and everything a test started in them.
 *
 *     client ─────────── relay host ─────────── target
 *     10.77.1.2, .3      10.77.1.1  10.77.2.1   10.77.2.2, .3
 *     fd77:1::2, ::3     fd77:1::1  fd77:2::1   fd77:2::2, ::3
 *                        10.77.3.1
 *                        fd77:3::1
 *                            └───── stranger: 10.77.3.2, fd77:3::2
 *
 * The relay host does not forward, and client and target have no route to each other. The stranger
 * reaches the relay host's client-side address, that is BND.
 *
 * The namespaces have no names: they are held by descriptors of the test process, so they are gone
 * when it is, however it ends. Every process of the lab dies with the test process. When the
 * process ends without lab_free() (a failed test), the end of every log is printed to stderr.
 *
 * Needs root; tests call lab_require() at the start of main().
 *
 * Everything in the harness fails the running test when something of its own goes wrong, so
 * functions return no errors unless they say so.
 */
#ifndef SOCKST_TESTS_HARNESS_LAB_H
#define SOCKST_TESTS_HARNESS_LAB_H

#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "proto/endpoint.h"

struct lab;

enum lab_place { LAB_CLIENT, LAB_RELAY, LAB_TARGET, LAB_STRANGER, LAB_PLACES };

#define LAB_CLIENT_V4 "10.77.1.2"
#define LAB_CLIENT_V4_2 "10.77.1.3"
#define LAB_CLIENT_V6 "fd77:1::2"
#define LAB_CLIENT_V6_2 "fd77:1::3"
#define LAB_RELAY_V4 "10.77.1.1" /* as the client sees the relay host: N1 and BND */
#define LAB_RELAY_V6 "fd77:1::1"
#define LAB_EGRESS_V4 "10.77.2.1" /* as the target sees it */
#define LAB_EGRESS_V6 "fd77:2::1"
#define LAB_TARGET_V4 "10.77.2.2"
#define LAB_TARGET_V4_2 "10.77.2.3"
#define LAB_TARGET_V6 "fd77:2::2"
#define LAB_TARGET_V6_2 "fd77:2::3"
#define LAB_STRANGER_V4 "10.77.3.2"
#define LAB_STRANGER_V6 "fd77:3::2"

/* Names of the interfaces: on the relay host one for each neighbour, elsewhere the one. */
#define LAB_TO_CLIENT "client0"
#define LAB_TO_TARGET "target0"
#define LAB_TO_STRANGER "stranger0"
#define LAB_TO_RELAY "relay0"

/* Exits the program with 77 ("skipped", says why) where namespaces cannot be made. */
void lab_require(void);

/* Builds the lab. Directories that dead test processes left in /tmp are removed. */
struct lab *lab_new(void);
/* Kills what still runs, removes the directory, closes the namespaces. NULL is allowed. */
void lab_free(struct lab *lab);

/* A private directory of this lab, mode 0755: configuration, sockets, logs, files of the test. */
const char *lab_directory(const struct lab *lab);
/* DIRECTORY/name in a buffer that is valid for the next 8 calls. */
const char *lab_path(const struct lab *lab, const char *name);
void lab_write_file(const struct lab *lab, const char *name, const char *text);

/* The namespace's descriptor, for setns(); belongs to the lab. */
int lab_netns(const struct lab *lab, enum lab_place place);

/* A socket of that namespace for the calling process; close-on-exec, blocking. */
int lab_socket(const struct lab *lab, enum lab_place place, int domain, int type, int protocol);

/* Runs a shell command in the namespace; it must exit with 0. */
__attribute__((format(printf, 3, 4))) void lab_run(struct lab *lab, enum lab_place place,
                                                   const char *command, ...);

/* /proc/net/NAME of that namespace, for reading; the caller's. */
FILE *lab_open_proc(const struct lab *lab, enum lab_place place, const char *name);

/* "address:port" of one of the places above, or anything else that endpoint_parse() takes. */
struct endpoint at(const char *address, uint16_t port);
/* Same address, whatever the ports. */
bool same_address(struct endpoint a, struct endpoint b);
bool same_endpoint(struct endpoint a, struct endpoint b);
/* For messages; valid for the next 8 calls. */
const char *show(struct endpoint endpoint);

/* ---- used by the other parts of the harness
 * ------------------------------------------------------ */

/* fork() with the child in the namespace, killed with this process; 0 in the child. */
pid_t lab_fork(const struct lab *lab, enum lab_place place);

/* Called by lab_free(), last added first. */
typedef void (*lab_cleanup_cb)(void *user);
void lab_on_free(struct lab *lab, lab_cleanup_cb cleanup, void *user);
/* The cleanup is no longer needed. */
void lab_forget(struct lab *lab, lab_cleanup_cb cleanup, void *user);

#endif
