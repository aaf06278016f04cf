#include "relayd/plane/bpf/way_tree.h"

#include <string.h>

#include "common/keyed_hash.h"

static int compare_addresses(const struct ip_address *a, const struct ip_address *b)
{
    int order;

    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    order = memcmp(a->bytes, b->bytes, sizeof(a->bytes));
    if (order != 0)
        return order;
    return a->scope_id < b->scope_id ? -1 : a->scope_id > b->scope_id;
}

struct way_key way_key_of(const struct way *way)
{
    struct way_key key = {.peer = way->peer};

    if (!way->chosen)
        key.asked = way->local;
    return key;
}

static int compare(const struct way_key *key, const struct way *way)
{
    static const struct ip_address none;
    const int order = compare_addresses(&key->peer, &way->peer);

    if (order != 0)
        return order;
    return compare_addresses(&key->asked, way->chosen ? &none : &way->local);
}

/* Parents have the higher one. */
static uint32_t priority(const struct way *way)
{
    const uintptr_t place = (uintptr_t)way;

    return (uint32_t)keyed_hash(&place, sizeof(place));
}

struct way *way_tree_find(const struct way_tree *tree, const struct way_key *key)
{
    struct way *way = tree->root;

    while (way != NULL) {
        const int order = compare(key, way);

        if (order == 0)
            return way;
        way = order < 0 ? way->left : way->right;
    }
    return NULL;
}

static struct way *first(const struct way_tree *tree, const struct way_key *key, bool equal)
{
    struct way *way = tree->root, *found = NULL;

    while (way != NULL) {
        const int order = compare(key, way);

        if (order < 0 || (order == 0 && equal)) {
            found = way;
            way = way->left;
        } else {
            way = way->right;
        }
    }
    return found;
}

struct way *way_tree_from(const struct way_tree *tree, const struct way_key *key)
{
    return first(tree, key, true);
}

struct way *way_tree_after(const struct way_tree *tree, const struct way_key *key)
{
    return first(tree, key, false);
}

void way_tree_insert(struct way_tree *tree, struct way *way)
{
    const struct way_key key = way_key_of(way);
    struct way **link = &tree->root, *node, **left, **right;

    way->priority = priority(way);
    while (*link != NULL && (*link)->priority >= way->priority)
        link = compare(&key, *link) < 0 ? &(*link)->left : &(*link)->right;
    /* What was there is divided into what comes before and what comes behind. */
    node = *link;
    *link = way;
    left = &way->left;
    right = &way->right;
    while (node != NULL) {
        if (compare(&key, node) < 0) {
            *right = node;
            right = &node->left;
            node = node->left;
        } else {
            *left = node;
            left = &node->right;
            node = node->right;
        }
    }
    *left = *right = NULL;
    tree->count++;
}

void way_tree_remove(struct way_tree *tree, struct way *way)
{
    const struct way_key key = way_key_of(way);
    struct way **link = &tree->root, *left = way->left, *right = way->right;

    while (*link != way)
        link = compare(&key, *link) < 0 ? &(*link)->left : &(*link)->right;
    /* Both sides become one in its place. */
    while (left != NULL && right != NULL) {
        if (left->priority >= right->priority) {
            *link = left;
            link = &left->right;
            left = left->right;
        } else {
            *link = right;
            link = &right->left;
            right = right->left;
        }
    }
    *link = left != NULL ? left : right;
    tree->count--;
}
