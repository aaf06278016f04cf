/*
 * The tree of ways against a plain array. PLANE-WAY-050.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "common/keyed_hash.h"
#include "relayd/plane/bpf/way_tree.h"

#define WAYS 3000

static struct way_tree tree;
static struct way *ways;

static void setup(void)
{
    ck_assert_int_eq(keyed_hash_setup(), 0);
    ways = calloc(WAYS, sizeof(*ways));
    ck_assert_ptr_nonnull(ways);
    tree = (struct way_tree){0};
}

static void teardown(void)
{
    free(ways);
}

static struct ip_address address(unsigned number)
{
    const uint8_t v4[4] = {10, 0, (uint8_t)(number >> 8), (uint8_t)number};
    uint8_t v6[16] = {0xfd, [14] = (uint8_t)(number >> 8), [15] = (uint8_t)number};

    return number % 2 == 0 ? ip_address_v4(v4) : ip_address_v6(v6);
}

/* Every third one is for a local address, every fifth one on a link. */
static void make(unsigned number)
{
    struct way *way = &ways[number];

    way->peer = address(number / 3);
    way->chosen = number % 3 != 0;
    if (number % 3 == 2)
        way->peer.scope_id = 7;
    way->local = address(number / 3 % 2);
}

static unsigned height(const struct way *way)
{
    unsigned left, right;

    if (way == NULL)
        return 0;
    left = height(way->left);
    right = height(way->right);
    return 1 + (left > right ? left : right);
}

static int order(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The numbers from 0 to WAYS - 1 in an order of no meaning. */
static void shuffle(unsigned *numbers)
{
    for (unsigned i = 0; i < WAYS; i++)
        numbers[i] = i;
    srandom(4711);
    for (unsigned i = WAYS - 1; i > 0; i--) {
        const unsigned other = (unsigned)random() % (i + 1), kept = numbers[i];

        numbers[i] = numbers[other];
        numbers[other] = kept;
    }
}

START_TEST(ways_are_found_as_long_as_they_are_there)
{
    unsigned numbers[WAYS];

    shuffle(numbers);
    for (unsigned i = 0; i < WAYS; i++) {
        struct way_key key;

        make(numbers[i]);
        key = way_key_of(&ways[numbers[i]]);
        ck_assert_ptr_null(way_tree_find(&tree, &key));
        way_tree_insert(&tree, &ways[numbers[i]]);
        ck_assert_ptr_eq(way_tree_find(&tree, &key), &ways[numbers[i]]);
    }
    ck_assert_uint_eq(tree.count, WAYS);
    shuffle(numbers);
    for (unsigned i = 0; i < WAYS; i++) {
        const struct way_key key = way_key_of(&ways[numbers[i]]);

        ck_assert_ptr_eq(way_tree_find(&tree, &key), &ways[numbers[i]]);
        way_tree_remove(&tree, &ways[numbers[i]]);
        ck_assert_ptr_null(way_tree_find(&tree, &key));
    }
    ck_assert_uint_eq(tree.count, 0);
    ck_assert_ptr_null(tree.root);
}
END_TEST

START_TEST(the_order_of_insertion_does_not_matter)
{
    /* A list would be WAYS high; twice the height of a balanced tree is 24. */
    for (unsigned i = 0; i < WAYS; i++) {
        make(i);
        way_tree_insert(&tree, &ways[i]);
    }
    ck_assert_uint_le(height(tree.root), 48);
}
END_TEST

START_TEST(walked_once_in_ascending_order)
{
    unsigned numbers[WAYS], seen = 0;
    struct way_key key = {0};
    struct way *way;

    shuffle(numbers);
    for (unsigned i = 0; i < WAYS; i++) {
        make(numbers[i]);
        way_tree_insert(&tree, &ways[numbers[i]]);
    }
    for (way = way_tree_from(&tree, &key); way != NULL; way = way_tree_after(&tree, &key)) {
        const struct way_key next = way_key_of(way);

        if (seen++ > 0 && key.peer.family == next.peer.family)
            ck_assert_int_le(memcmp(key.peer.bytes, next.peer.bytes, 16), 0);
        ck_assert_uint_le(key.peer.family, next.peer.family);
        ck_assert_ptr_eq(way_tree_from(&tree, &next), way);
        key = next;
    }
    ck_assert_uint_eq(seen, WAYS);
}
END_TEST

START_TEST(the_ways_of_a_prefix_are_neighbours)
{
    const struct way_key start = {.peer = address(2 * 256)}; /* 10.0.2.0 */
    int found[WAYS], count = 0;

    for (unsigned i = 0; i < WAYS; i++) {
        make(i);
        way_tree_insert(&tree, &ways[i]);
    }
    for (struct way *way = way_tree_from(&tree, &start);
         way != NULL && way->peer.family == IP_V4 && way->peer.bytes[2] == 2;) {
        const struct way_key key = way_key_of(way);

        found[count++] = (int)(way - ways);
        way = way_tree_after(&tree, &key);
    }
    /* Even numbers from 512 to 767, three ways each. */
    ck_assert_int_eq(count, 128 * 3);
    qsort(found, (size_t)count, sizeof(found[0]), order);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(found[i], (512 + i / 3 * 2) * 3 + i % 3);
}
END_TEST

/* A pass goes on behind a way that has gone meanwhile. */
START_TEST(a_place_outlives_its_way)
{
    struct way_key key;

    for (unsigned i = 0; i < 30; i++) {
        make(i);
        way_tree_insert(&tree, &ways[i]);
    }
    key = way_key_of(&ways[6]);
    struct way *next = way_tree_after(&tree, &key);
    way_tree_remove(&tree, &ways[6]);
    ck_assert_ptr_eq(way_tree_after(&tree, &key), next);
    ck_assert_ptr_eq(way_tree_from(&tree, &key), next);
    ck_assert_ptr_null(way_tree_find(&tree, &key));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("way_tree");
    TCase *tcase = tcase_create("way_tree");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, ways_are_found_as_long_as_they_are_there);
    tcase_add_test(tcase, the_order_of_insertion_does_not_matter);
    tcase_add_test(tcase, walked_once_in_ascending_order);
    tcase_add_test(tcase, the_ways_of_a_prefix_are_neighbours);
    tcase_add_test(tcase, a_place_outlives_its_way);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
