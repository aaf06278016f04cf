/*
 * How many N2 transactions a second two daemons can exchange: this process asks OpenRelay over a
 * socket pair, a child answers RelayOpened, and a given number of requests is kept in flight.
 *
 *     n2_round_trips [IN_FLIGHT [SECONDS]]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "common/ipc/n2_link.h"

static uv_loop_t loop;
static uint64_t answered, refused, stop_at;

static struct endpoint some_endpoint(void)
{
    const uint8_t address[4] = {192, 0, 2, 1};
    return (struct endpoint){ip_address_v4(address), 20000};
}

static void on_answer(struct n2_link *link, const struct n2_message *answer, void *user);

static void ask(struct n2_link *link)
{
    struct n2_message message = {.type = N2_OPEN_RELAY};
    message.open_relay = (struct n2_open_relay){.association = answered + 1,
                                                .kind = N2_KIND_TRANSPARENT,
                                                .ptcl = 6,
                                                .source = some_endpoint(),
                                                .destination_count = 1,
                                                .destinations = {some_endpoint()}};
    strcpy(message.open_relay.user, "alice");
    strcpy(message.open_relay.rule, "everything");
    if (n2_link_request(link, &message, -1, 10000, on_answer, NULL, NULL) < 0) {
        refused++;
    }
}

static void on_answer(struct n2_link *link, const struct n2_message *answer, void *user)
{
    (void)user;
    if (answer == NULL) {
        refused++;
        return;
    }
    answered++;
    if (uv_hrtime() < stop_at) {
        ask(link);
    } else {
        uv_stop(&loop);
    }
}

static void on_up(struct n2_link *link, const struct n2_hello *peer, void *user)
{
    (void)peer;
    const unsigned *in_flight = user;
    for (unsigned i = 0; in_flight != NULL && i < *in_flight; i++) {
        ask(link);
    }
}

static void on_message(struct n2_link *link, const struct n2_message *message, int fd, bool stray,
                       void *user)
{
    (void)fd;
    (void)stray;
    (void)user;
    struct n2_message opened = {.type = N2_RELAY_OPENED, .transaction = message->transaction};
    opened.relay_opened = (struct n2_relay_opened){.association = message->open_relay.association,
                                                   .relay = message->open_relay.association,
                                                   .bound = some_endpoint(),
                                                   .egress = some_endpoint(),
                                                   .plane = N2_PLANE_SOCKET};
    (void)n2_link_send(link, &opened, -1);
}

static void on_down(struct n2_link *link, const char *text, void *user)
{
    (void)link;
    if (user != NULL) {
        fprintf(stderr, "down: %s\n", text);
        exit(1);
    }
}

static const struct n2_link_ops ops = {.up = on_up, .message = on_message, .down = on_down};

static struct n2_link *open_link(enum n2_role role, int fd, void *user)
{
    struct n2_link_config config;
    struct n2_link *link;
    n2_link_config_init(&config, role);
    config.hello.ptcl = 6;
    uv_loop_init(&loop);
    if (n2_link_open(&link, &loop, fd, &config, &ops, user) < 0) {
        fprintf(stderr, "n2_link_open failed\n");
        exit(1);
    }
    return link;
}

int main(int argc, char **argv)
{
    unsigned in_flight = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 256;
    unsigned seconds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        perror("socketpair");
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        close(pair[0]);
        open_link(N2_ROLE_RELAYD, pair[1], NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        _exit(0);
    }
    close(pair[1]);
    struct n2_link *link = open_link(N2_ROLE_SOCKSD, pair[0], &in_flight);
    uint64_t begin = uv_hrtime();
    stop_at = begin + seconds * 1000000000ull;
    uv_run(&loop, UV_RUN_DEFAULT);
    double took = (double)(uv_hrtime() - begin) / 1e9;
    printf("%u in flight: %.0f round trips/s (%llu in %.2f s, %llu refused)\n", in_flight,
           (double)answered / took, (unsigned long long)answered, took,
           (unsigned long long)refused);
    n2_link_close(link);
    uv_run(&loop, UV_RUN_DEFAULT);
    waitpid(child, NULL, 0);
    return uv_loop_close(&loop) == 0 && refused == 0 ? 0 : 1;
}
