/*
 * Programs that others wrote, as clients of socksd: each in the client's place of the lab, which
 * has no route to the target; the servers are real programs in the target's place. Who gets an
 * answer got it through the relays.
 */
#ifndef SOCKST_TESTS_CLIENTS_CLIENTS_H
#define SOCKST_TESTS_CLIENTS_CLIENTS_H

#include <check.h>

#include "tests/harness/daemons.h"
#include "tests/harness/lab.h"
#include "tests/harness/process.h"

/* The proxy as the client sees it. */
#define PROXY_HOST LAB_RELAY_V4
#define PROXY_PORT "1080"
#define PROXY PROXY_HOST ":" PROXY_PORT

/* Names that the relay host's name server knows; the client's place has none. */
#define NAME_TARGET "www.lab.test" /* both families */
#define NAME_TARGET_V4 "v4.lab.test"
#define NAME_TARGET_V6 "v6.lab.test"

extern struct lab *clients_lab;
extern struct daemons clients_daemons;

/* Runs a shell command in the client's place, with this standard input (NULL: empty). It must exit
 * with 0; returns what it wrote to standard output. `name` is that of its log, unique in the test.
 */
__attribute__((format(printf, 3, 4))) const char *client_run(const char *name, const char *input,
                                                             const char *command, ...);
/* The same, not waited for. */
__attribute__((format(printf, 2, 3))) struct process *client_start(const char *name,
                                                                   const char *command, ...);

/* ---- servers at the target
 * ------------------------------------------------------------------------ */

/* nginx on port 80 of both families, for the directory "www" of the lab. */
void serve_http(void);
/* python3 -m http.server on this port, for the same directory. */
void serve_python_http(uint16_t port);
/* A page "index.html" that says "served". */
void make_page(void);
/* A file of `mebibytes`, of which 64 are random; returns its SHA-256 in hexadecimal (static). */
const char *make_large_file(const char *name, unsigned mebibytes);
/* sshd on port 22 for root with a key of its own. `ssh_options` (static) are what ssh needs to
 * know. */
const char *serve_ssh(void);
/* ftp_server.py on port 21, for the directory "www". */
void serve_ftp(void);

/* ---- the tests, by file
 * --------------------------------------------------------------------------- */

struct client_test {
    const char *name;
    const char *needs[5]; /* programs or, with a slash, files; all have to be there */
    const TTest *const *test;
};

/* Each list ends with an element without a name. */
extern const struct client_test web_tests[], stream_tests[], wrapper_tests[], library_tests[];

#endif
