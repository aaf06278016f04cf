/*
 * When memory runs out: the n-th request of our own code is refused, for every n. The two functions
 * that grow lists and copy texts are replaced for this program.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>

#include "common/net/route_dump.h"
#include "tests/unit/common/sample_schema.h"

static unsigned requests, refused_request;

static bool refuse(void)
{
    return ++requests == refused_request;
}

void *reallocarray(void *block, size_t count, size_t size)
{
    if (refuse()) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, count * size);
}

char *strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = refuse() ? NULL : malloc(size);

    if (!copy) {
        errno = ENOMEM;
        return NULL;
    }
    return memcpy(copy, text, size);
}

static const char text[] =
    "name: b\nsection: {words: [a, b, c], automatic: [192.0.2.1], delays: [1s, 2s]}\n"
    "listen:\n  - {address: \"::\", tls: {certificate: /a, key: /b}}\n"
    "rules:\n  - {action: red, users: [x, y, z], nested: [{name: y}, {}]}\n  - {action: blue}\n"
    "pairs: {10.0.0.5: 203.0.113.9, 10.0.0.6: 203.0.113.10}\n";

START_TEST(a_configuration_without_memory)
{
    static const struct sample zero;
    struct config_error error;
    struct sample config;
    unsigned needed = 0;
    int r = -ENOMEM;

    while (r == -ENOMEM) {
        refused_request = ++needed;
        requests = 0;
        r = config_load_text(sample_schema, &config, sizeof(config), "t", text, strlen(text),
                             &error);
        if (r == -ENOMEM) {
            ck_assert_ptr_nonnull(strstr(error.text, "out of memory"));
            ck_assert_mem_eq(&config, &zero, sizeof(config));
        }
    }
    ck_assert_msg(r == 0, "%s", error.text);
    ck_assert_uint_gt(needed, 20);
    config_free(sample_schema, &config);
}
END_TEST

START_TEST(routes_without_memory)
{
    struct route_snapshot snapshot;
    int r = -ENOMEM;

    for (refused_request = 1; r == -ENOMEM; refused_request++) {
        requests = 0;
        r = route_snapshot_read(&snapshot);
        if (r == -ENOMEM) {
            ck_assert_ptr_null(snapshot.addresses);
            ck_assert_ptr_null(snapshot.routes.items);
        }
    }
    ck_assert_int_eq(r, 0);
    /* A host without any address asks for nothing. */
    ck_assert(refused_request > 2 || snapshot.routes.count == 0);
    route_snapshot_clear(&snapshot);
    route_snapshot_clear(&snapshot);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory");
    TCase *tcase = tcase_create("memory");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, a_configuration_without_memory);
    tcase_add_test(tcase, routes_without_memory);
    suite_add_tcase(suite, tcase);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
