/*
 * Interfaces of the lab: what their hardware would do, and who they are.
 */
#ifndef SOCKST_TESTS_HARNESS_LINKS_H
#define SOCKST_TESTS_HARNESS_LINKS_H

#include <stdint.h>

#include "tests/harness/lab.h"

#define LINK_MAC 6

/* From now on the kernel computes the checksums of what the interface sends, and cuts segments: all
 * that the other end of the link receives is what would be on a real one. */
void link_offloads_off(struct lab *lab, enum lab_place place, const char *interface);

void link_mac(const struct lab *lab, enum lab_place place, const char *interface,
              uint8_t out[LINK_MAC]);
unsigned link_index(const struct lab *lab, enum lab_place place, const char *interface);

#endif
