/*
 * A real name server (unbound) on the relay host's loopback, which knows what the test tells it and
 * asks nobody.
 */
#ifndef SOCKST_TESTS_HARNESS_NAMESERVER_H
#define SOCKST_TESTS_HARNESS_NAMESERVER_H

#include "tests/harness/process.h"

/* As an override of socksd's configuration. */
#define NAMESERVER_RESOLVER "resolver: {servers: ['127.0.0.1:53'], timeout: 2s}"

/* Records as in a zone file ("www.lab.test. A 10.77.2.2"), NULL at the end. Every other name does
 * not exist. Ready when this returns; belongs to the lab. */
struct process *nameserver_start(struct lab *lab, const char *const *records);
/* Has it been asked for this name? (Without a final dot.) */
bool nameserver_was_asked(struct process *nameserver, const char *name);

#endif
