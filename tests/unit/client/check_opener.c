/* An association that opens in the command's loop. */
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/client/command/opener.h"
#include "common/client/net.h"
#include "proto/ptcl.h"
#include "tests/unit/client/script.h"
#include "tests/unit/client/suite.h"

#define PATIENCE_MS 20000

struct result {
    struct loop loop;
    struct sockst_association *association;
    struct sockst_failure failure;
    bool done;
};

static void on_done(struct opener *opener, struct sockst_association *association,
                    const struct sockst_failure *failure)
{
    struct result *result = opener->user;
    result->done = true;
    result->association = association;
    result->failure = *failure;
    loop_stop(&result->loop);
}

/* Fills the queue of a listener: whoever comes then waits for an answer to his SYN, which is a RST
 * as soon as the listener has gone. Returns what fills it. */
static int fill_queue(int listener, const struct endpoint *local)
{
    int fd = net_bound_socket(PTCL_TCP, &(struct endpoint){.address = local->address});
    struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
    ck_assert_int_eq(listen(listener, 0), 0);
    ck_assert_int_eq(net_connect(fd, local), 0);
    ck_assert_int_eq(poll(&pollfd, 1, SCRIPT_TIMEOUT_MS), 1);
    return fd;
}

/* In a child: grants one request. */
static void serve(int listener, const struct endpoint *bound)
{
    struct pollfd pollfd = {.fd = listener, .events = POLLIN};
    if (poll(&pollfd, 1, PATIENCE_MS) != 1)
        _exit(1);
    int control = script_accept(listener);
    script_read_request(control);
    script_answer(control, 0, bound);
    _exit(script_read_end(control) ? 0 : 2);
}

/* The first address refuses, but not at once: the connection to the second one gets the descriptor
 * number of the first. */
START_TEST(an_address_that_refuses_late_gives_way_to_the_next)
{
    struct result result = {.done = false};
    struct endpoint proxies[2], bound;
    int first = script_listen(SOCK_STREAM, &proxies[0]), filler = fill_queue(first, &proxies[0]);
    int second = script_listen(SOCK_STREAM, &proxies[1]), relay = script_listen(SOCK_DGRAM, &bound);
    pid_t server = fork();
    if (server == 0) {
        close(first);
        serve(second, &bound);
    }
    close(second);
    ck_assert_int_eq(loop_init(&result.loop), 0);
    struct opener opener = {.done = on_done, .user = &result};
    struct sockst_options options = {.proxies = proxies, .proxy_count = 2, .ptcl = PTCL_UDP};
    ck_assert_int_eq(n1_host_from_name("a", 1, &options.destination), 0);
    ck_assert_int_eq(opener_start(&opener, &result.loop, &options, PATIENCE_MS), 0);
    /* The listener goes, its number stays in use: no other is free below the connection's. */
    ck_assert_int_eq(dup2(relay, first), first);
    loop_run(&result.loop);
    ck_assert(result.done);
    ck_assert_msg(result.association != NULL, "%s", result.failure.text);
    ck_assert(endpoint_equal(sockst_association_proxy(result.association), &proxies[1]));
    sockst_association_close(result.association);
    int status = -1;
    ck_assert_int_eq(waitpid(server, &status, 0), server);
    ck_assert_int_eq(status, 0);
    loop_free(&result.loop);
    close(filler);
    close(first);
    close(relay);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("opener");
    tcase_set_timeout(tcase, 40);
    tcase_add_test(tcase, an_address_that_refuses_late_gives_way_to_the_next);
    return run_tests(tcase);
}
