/*
 * The main program of a suite that runs the kernel's program: skipped, with the reason, where it
 * cannot be loaded.
 */
#ifndef SOCKST_TESTS_BPF_SUITE_H
#define SOCKST_TESTS_BPF_SUITE_H

#include <check.h>

/* A case whose tests find the program loaded for the protocol. */
TCase *bench_case(const char *name, int protocol);

/* What main() returns: 0, 1, or 77 for "skipped". */
int bench_main(Suite *(*suite)(void));

#endif
