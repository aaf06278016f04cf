/*
 * UTF-8 from strangers, one character at a time: what the log, the tables and the configuration
 * need to print it or to refuse it.
 */
#ifndef SOCKST_COMMON_LOG_UTF8_H
#define SOCKST_COMMON_LOG_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The character at `text`, of at most `left` octets (not 0). Returns how many octets it takes and
 * stores its code point; 0 when the octets are no shortest-form UTF-8 of a Unicode scalar value.
 */
size_t utf8_next(const char *text, size_t left, uint32_t *code);

/*
 * Would the character act on a terminal, or disguise what follows it? Controls (C0, DEL, C1), line
 * and paragraph separators, and the marks that change the direction of writing.
 */
bool utf8_is_unsafe(uint32_t code);

#endif
