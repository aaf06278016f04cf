/*
 * How often this program, its libraries included, has asked the heap for memory so far.
 */
#ifndef SOCKST_TESTS_UNIT_PROTO_MALLOC_COUNT_H
#define SOCKST_TESTS_UNIT_PROTO_MALLOC_COUNT_H

#include <stddef.h>

size_t malloc_count(void);

#endif
