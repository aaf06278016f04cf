/*
 * The ways in the order of (peer, local), found one by one and by the prefixes of peers: a treap,
 * whose shape depends on a keyed hash and so on nothing that a peer chooses. Nothing is allocated,
 * and no operation takes long: a hash table would have to be copied when it grows.
 */
#ifndef SOCKST_RELAYD_BPF_WAY_TREE_H
#define SOCKST_RELAYD_BPF_WAY_TREE_H

#include "relayd/plane/bpf/ways.h"

/* Zeroed: empty. */
struct way_tree {
    struct way *root;
    uint32_t count;
};

/* What a way is found by; also a place between two ways. */
struct way_key {
    struct ip_address peer;
    struct ip_address asked; /* for `local`; IP_NONE: the kernel chooses */
};

struct way_key way_key_of(const struct way *way);

/* NULL: there is none. */
struct way *way_tree_find(const struct way_tree *tree, const struct way_key *key);
/* The first way that is not before the key, or that is behind it. NULL: there is none. */
struct way *way_tree_from(const struct way_tree *tree, const struct way_key *key);
struct way *way_tree_after(const struct way_tree *tree, const struct way_key *key);

/* There must be none of the same key. */
void way_tree_insert(struct way_tree *tree, struct way *way);
void way_tree_remove(struct way_tree *tree, struct way *way);

#endif
