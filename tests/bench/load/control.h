/*
 * The control connection (N1) of a TRANSPARENT association, as a client has it.
 */
#ifndef SOCKST_TESTS_BENCH_CONTROL_H
#define SOCKST_TESTS_BENCH_CONTROL_H

#include "tests/bench/load/load.h"

/* Opens one from options->client through options->server to options->at; its BND is *bound. The
 * relay lives until the descriptor is closed. */
int control_open(const struct load_options *options, const struct endpoint *source,
                 struct endpoint *bound);
/* In two steps, so that many can be under way: the request is sent, and its answer is waited for.
 */
int control_ask(const struct load_options *options, const struct endpoint *source);
void control_answer(int fd, struct endpoint *bound);

/*
 * Where stream i is sent to: options->to; or, with a server, the BND of an association that is
 * opened for it and lives as long as this process.
 */
struct endpoint control_path(const struct load_options *options, unsigned i);

/* S of association i: from options->from on, the next port, and after the last port the next
 * address. */
struct endpoint control_source(const struct load_options *options, unsigned i);

#endif
