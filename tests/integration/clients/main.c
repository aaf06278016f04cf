/*
 * clients NAME: one client. Exits with 77 and says why when its program is not installed. Without a
 * name: prints the names.
 */
#include "tests/integration/clients/clients.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness/nameserver.h"
#include "tests/harness/wait.h"

#define RUN_MS (60 * 1000)
#define COMMAND_MAX 4096
#define SKIPPED 77

struct lab *clients_lab;
struct daemons clients_daemons;

static const struct client_test *const groups[] = {web_tests, stream_tests, wrapper_tests,
                                                   library_tests};

static void setup(void)
{
    static const char *const records[] = {
        NAME_TARGET ". A " LAB_TARGET_V4, NAME_TARGET ". AAAA " LAB_TARGET_V6,
        NAME_TARGET_V4 ". A " LAB_TARGET_V4, NAME_TARGET_V6 ". AAAA " LAB_TARGET_V6, NULL};
    clients_lab = lab_new();
    nameserver_start(clients_lab, records);
    clients_daemons =
        daemons_start(clients_lab, &(struct daemons_options){.socksd = {NAMESERVER_RESOLVER}});
}

static void teardown(void)
{
    daemons_stop(&clients_daemons);
    lab_free(clients_lab);
}

__attribute__((format(printf, 3, 0))) static struct process_spec
shell(const char *name, const char *input, const char *format, va_list arguments)
{
    static char command[COMMAND_MAX];
    const int length = vsnprintf(command, sizeof(command), format, arguments);
    ck_assert_int_lt(length, COMMAND_MAX);
    return (struct process_spec){.name = name, .argv = {"/bin/sh", "-c", command}, .input = input};
}

const char *client_run(const char *name, const char *input, const char *command, ...)
{
    int status;
    va_list arguments;
    va_start(arguments, command);
    const struct process_spec spec = shell(name, input, command, arguments);
    va_end(arguments);
    struct process *process = process_run(clients_lab, LAB_CLIENT, &spec,
                                          RUN_MS * (built_with_sanitizer() ? 4 : 1), &status);
    ck_assert_msg(status == 0, "%s exits with %d\noutput: %.2000s\nlog: %.2000s", spec.argv[2],
                  status, process_output(process), process_log(process));
    return process_output(process);
}

struct process *client_start(const char *name, const char *command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    const struct process_spec spec = shell(name, NULL, command, arguments);
    va_end(arguments);
    return process_start(clients_lab, LAB_CLIENT, &spec);
}

/* What a user's environment says of proxies is not the subject. */
static void forget_proxies(void)
{
    static const char *const names[] = {"http_proxy", "https_proxy", "all_proxy",
                                        "no_proxy",   "HTTP_PROXY",  "HTTPS_PROXY",
                                        "ALL_PROXY",  "NO_PROXY",    "SOCKST_PROXY"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
}

static bool is_installed(const char *what)
{
    static const char *const directories[] = {"/usr/bin", "/bin", "/usr/sbin", "/sbin"};
    char path[256];
    if (strchr(what, '/') != NULL)
        return access(what, R_OK) == 0;
    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", directories[i], what);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static const struct client_test *find(const char *name)
{
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        for (const struct client_test *test = groups[i]; test->name != NULL; test++) {
            if (name == NULL)
                puts(test->name);
            else if (strcmp(test->name, name) == 0)
                return test;
        }
    }
    return NULL;
}

static int run(const struct client_test *test)
{
    Suite *suite = suite_create("clients");
    TCase *tcase = tcase_create(test->name);
    tcase_set_timeout(tcase, 240);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, *test->test);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        find(NULL);
        return argc == 1 ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    const struct client_test *test = find(argv[1]);
    if (test == NULL) {
        fprintf(stderr, "clients: no test is called %s\n", argv[1]);
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < sizeof(test->needs) / sizeof(test->needs[0]) && test->needs[i] != NULL;
         i++) {
        if (!is_installed(test->needs[i])) {
            fprintf(stderr, "SKIPPED: %s: %s is not installed (deploy/deps test brings it)\n",
                    test->name, test->needs[i]);
            return SKIPPED;
        }
    }
    forget_proxies();
    lab_require();
    return run(test);
}
