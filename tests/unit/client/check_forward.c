/* sockst forward as a process of its own, between a local program and a scripted server. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/client/command/command.h"
#include "common/client/net.h"
#include "proto/ptcl.h"
#include "tests/unit/client/script.h"
#include "tests/unit/client/suite.h"

struct forward {
    pid_t pid;
    int server;            /* listener of the scripted proxy */
    struct endpoint local; /* where the forwarder listens */
};

/* The first line says where it listens. */
static void read_local(int fd, struct endpoint *local)
{
    char line[200] = "", address[100] = "";
    for (size_t length = 0; length + 1 < sizeof(line); length++) {
        script_read(fd, (uint8_t *)line + length, 1);
        if (line[length] == '\n')
            break;
    }
    ck_assert_msg(sscanf(line, "sockst: listening on %99s", address) == 1, "%s", line);
    ck_assert_int_eq(endpoint_parse(address, local), 0);
}

static struct forward begin(uint8_t ptcl, uint32_t max, uint32_t idle_ms)
{
    struct forward forward;
    struct endpoint proxy;
    int output[2];
    struct options options = {.command = COMMAND_FORWARD,
                              .ptcl = ptcl,
                              .max = max,
                              .idle_ms = idle_ms,
                              .connect_timeout_ms = SCRIPT_TIMEOUT_MS};
    forward.server = script_listen(SOCK_STREAM, &proxy);
    snprintf(options.proxy.host, sizeof(options.proxy.host), "127.0.0.1");
    options.proxy.port = proxy.port;
    ck_assert_int_eq(endpoint_parse("127.0.0.1:0", &options.local), 0);
    ck_assert_int_eq(n1_host_from_name("www.example.org", 443, &options.destination), 0);
    ck_assert_int_eq(pipe(output), 0);
    forward.pid = fork();
    if (forward.pid == 0) {
        dup2(output[1], STDERR_FILENO);
        close(output[1]);
        close(forward.server);
        _exit(command_forward(&options));
    }
    close(output[1]);
    read_local(output[0], &forward.local);
    /* The rest of what it says goes nowhere; SIGPIPE is ignored. */
    close(output[0]);
    return forward;
}

static void finish(struct forward *forward)
{
    int status = -1;
    kill(forward->pid, SIGTERM);
    ck_assert_int_eq(waitpid(forward->pid, &status, 0), forward->pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    close(forward->server);
}

static int connect_to(int type, const struct endpoint *to)
{
    struct sockaddr_storage address;
    socklen_t length = net_to_sockaddr(to, &address);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
    return fd;
}

static bool is_silent(int fd, int for_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    return poll(&pollfd, 1, for_ms) == 0;
}

/* The relay's side of one UDP association, connected to S. */
static int grant_udp(int control)
{
    struct endpoint bound;
    struct sockaddr_storage address;
    struct n1_request request = script_read_request(control);
    int relay = script_listen(SOCK_DGRAM, &bound);
    struct endpoint source = {request.source.address, request.source.port};
    ck_assert_uint_eq(request.ptcl, PTCL_UDP);
    socklen_t length = net_to_sockaddr(&source, &address);
    ck_assert_int_eq(connect(relay, (struct sockaddr *)&address, length), 0);
    script_answer(control, N1_REP_SUCCEEDED, &bound);
    return relay;
}

static void expect(int fd, const char *text)
{
    char got[100];
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    ck_assert_msg(poll(&pollfd, 1, SCRIPT_TIMEOUT_MS) == 1, "'%s' did not come", text);
    ssize_t length = recv(fd, got, sizeof(got) - 1, 0);
    ck_assert_int_ge(length, 0);
    got[length] = '\0';
    ck_assert_str_eq(got, text);
}

START_TEST(each_udp_peer_has_its_association)
{
    struct forward forward = begin(PTCL_UDP, 8, 60000);
    int programs[2], controls[2], relays[2];
    for (int i = 0; i < 2; i++) {
        programs[i] = connect_to(SOCK_DGRAM, &forward.local);
        /* Sent before the association stands: kept, in order. */
        ck_assert_int_eq(send(programs[i], "first", 5, 0), 5);
        ck_assert_int_eq(send(programs[i], "", 0, 0), 0);
        ck_assert_int_eq(send(programs[i], i == 0 ? "A" : "B", 1, 0), 1);
        controls[i] = script_accept(forward.server);
        relays[i] = grant_udp(controls[i]);
        expect(relays[i], "first");
        expect(relays[i], "");
        expect(relays[i], i == 0 ? "A" : "B");
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(send(relays[i], i == 0 ? "a" : "b", 1, 0), 1);
        expect(programs[i], i == 0 ? "a" : "b");
    }
    ck_assert(is_silent(forward.server, 50)); /* no further association was asked for */
    finish(&forward);
    for (int i = 0; i < 2; i++) {
        ck_assert(script_read_end(controls[i]));
        close(controls[i]);
        close(relays[i]);
        close(programs[i]);
    }
}
END_TEST

START_TEST(an_idle_or_ended_udp_association_is_made_anew)
{
    struct forward forward = begin(PTCL_UDP, 8, 200);
    int program = connect_to(SOCK_DGRAM, &forward.local);
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(send(program, "x", 1, 0), 1);
        int control = script_accept(forward.server);
        int relay = grant_udp(control);
        expect(relay, "x");
        if (round == 1) {
            /* The server's end: seen before the next datagram is sent, or that one is lost, as
             * datagrams are. */
            shutdown(control, SHUT_WR);
        }
        ck_assert(script_read_end(control)); /* idle, or because the server ended it */
        close(control);
        close(relay);
    }
    finish(&forward);
    close(program);
}
END_TEST

START_TEST(peers_above_the_maximum_and_refused_ones_are_dropped)
{
    struct forward forward = begin(PTCL_UDP, 1, 60000);
    int first = connect_to(SOCK_DGRAM, &forward.local),
        second = connect_to(SOCK_DGRAM, &forward.local);
    ck_assert_int_eq(send(first, "x", 1, 0), 1);
    int control = script_accept(forward.server);
    script_read_request(control);
    script_answer(control, N1_REP_NOT_ALLOWED, NULL);
    ck_assert(script_read_end(control));
    /* No flood of requests: neither for the peer that was refused just now, nor for one too many.
     */
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(send(first, "x", 1, 0), 1);
        ck_assert_int_eq(send(second, "y", 1, 0), 1);
    }
    ck_assert(is_silent(forward.server, 200));
    close(control);
    finish(&forward);
    close(first);
    close(second);
}
END_TEST

START_TEST(each_tcp_connection_has_its_association)
{
    struct forward forward = begin(PTCL_TCP, 1, 0);
    int programs[2];
    /* The second one waits in the kernel until the first has ended: max is 1. */
    for (int i = 0; i < 2; i++)
        programs[i] = connect_to(SOCK_STREAM, &forward.local);
    for (int i = 0; i < 2; i++) {
        struct endpoint bound;
        int control = script_accept(forward.server);
        ck_assert_uint_eq(script_read_request(control).ptcl, PTCL_TCP);
        ck_assert(is_silent(forward.server, 50));
        int relay = script_listen(SOCK_STREAM, &bound);
        script_answer(control, N1_REP_SUCCEEDED, &bound);
        int data = script_accept(relay);
        script_write(programs[i], "ping", 4);
        expect(data, "ping");
        script_write(data, "pong", 4);
        expect(programs[i], "pong");
        shutdown(programs[i], SHUT_WR);
        ck_assert(script_read_end(data));
        close(data);
        close(control);
        close(relay);
        ck_assert(script_read_end(programs[i]));
        close(programs[i]);
    }
    finish(&forward);
}
END_TEST

START_TEST(the_end_of_the_forwarder_resets_what_lives)
{
    struct forward forward = begin(PTCL_TCP, 8, 0);
    struct endpoint bound;
    int program = connect_to(SOCK_STREAM, &forward.local);
    int control = script_accept(forward.server), relay = script_listen(SOCK_STREAM, &bound);
    script_read_request(control);
    script_answer(control, N1_REP_SUCCEEDED, &bound);
    int data = script_accept(relay);
    script_write(program, "ping", 4);
    expect(data, "ping");
    finish(&forward);
    ck_assert(!script_read_end(data));
    ck_assert(!script_read_end(program));
    ck_assert(script_read_end(control));
    close(data);
    close(program);
    close(control);
    close(relay);
}
END_TEST

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    TCase *tcase = tcase_create("forward");
    tcase_set_timeout(tcase, 30);
    tcase_add_test(tcase, each_udp_peer_has_its_association);
    tcase_add_test(tcase, an_idle_or_ended_udp_association_is_made_anew);
    tcase_add_test(tcase, peers_above_the_maximum_and_refused_ones_are_dropped);
    tcase_add_test(tcase, each_tcp_connection_has_its_association);
    tcase_add_test(tcase, the_end_of_the_forwarder_resets_what_lives);
    return run_tests(tcase);
}
