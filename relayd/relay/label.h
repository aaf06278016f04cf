/*
 * Texts that many relays share (users, names of rules), kept once and counted.
 *
 * A label lives as long as someone holds it. A sorted tree, not a hash: the texts come from a peer,
 * and nobody can make a balanced tree slow.
 */
#ifndef SOCKST_RELAYD_LABEL_H
#define SOCKST_RELAYD_LABEL_H

#include <stddef.h>

struct label;

struct label_table {
    void *root; /* of tsearch(3) */
    size_t count;
};

/* The label of `text` (copied), to be given back by label_put(); NULL when out of memory. */
struct label *label_get(struct label_table *table, const char *text);

/* Gives it back. NULL is allowed. */
void label_put(struct label_table *table, struct label *label);

/* Its text, valid while the label is held; "" for NULL. */
const char *label_text(const struct label *label);

#endif
