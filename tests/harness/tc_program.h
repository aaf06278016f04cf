/*
 * Somebody else's tc program at the ingress of an interface: counts UDP packets (IPv4) to the ports
 * that it was told of, and lets them go on to the next program or drops them. Attached by TCX.
 */
#ifndef SOCKST_TESTS_HARNESS_TC_PROGRAM_H
#define SOCKST_TESTS_HARNESS_TC_PROGRAM_H

#include <stdbool.h>

#include "tests/harness/lab.h"

struct tc_program;

/* After all programs that are attached there already. False: the kernel has no TCX. */
bool tc_program_attach(struct lab *lab, enum lab_place place, const char *interface,
                       struct tc_program **out);
/* From now on packets to this port are counted, and dropped if `drop`. */
void tc_program_watch(struct tc_program *program, uint16_t port, bool drop);
uint64_t tc_program_count(struct tc_program *program, uint16_t port);
void tc_program_free(struct tc_program *program);

/* The same as a filter of clsact with the preference; it goes with the interface. */
void tc_program_filter(struct lab *lab, enum lab_place place, const char *interface,
                       uint32_t preference, struct tc_program **out);

#endif
