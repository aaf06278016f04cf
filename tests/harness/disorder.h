/*
 * A bad link: 1 % of what a place receives is lost, 2 % is overtaken by what follows.
 */
#ifndef SOCKST_TESTS_HARNESS_DISORDER_H
#define SOCKST_TESTS_HARNESS_DISORDER_H

#include "tests/harness/lab.h"

/* From now on, at the ingress of the interface. Goes with the lab. */
void disorder_start(struct lab *lab, enum lab_place place, const char *interface);

#endif
