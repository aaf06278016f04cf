/*
 * What relays cost without a plane: the N2 server and the table of a relay daemon over a plane that
 * carries nothing and answers at once. For n2_load, on the socket given:
 *
 *     bench_relays SOCKET [RELAYS [LOG-LEVEL]]
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/keyed_hash.h"
#include "common/log/log.h"
#include "common/log/log_loop.h"
#include "proto/ptcl.h"
#include "relayd/n2/server.h"

static uv_loop_t loop;

static void null_open(struct plane *plane, struct relay *relay)
{
    (void)plane;
    relay->bound = relay->egress = relay->destination;
    relay_opened(relay);
}

static void null_close(struct plane *plane, struct relay *relay, bool abort)
{
    const struct n2_counters none = {0};

    (void)plane;
    (void)abort;
    relay_plane_closed(relay, &none);
}

static void null_counters(const struct plane *plane, const struct relay *relay,
                          struct n2_counters *out, uint64_t *idle_ms)
{
    (void)plane;
    (void)relay;
    *out = (struct n2_counters){0};
    *idle_ms = 0;
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)signal;
    (void)number;
    uv_stop(&loop);
}

static int serve(struct relay_context *context, const char *path)
{
    const struct config_list nobody = {0};
    struct n2_server_config config = {.fd = -1, .path = path, .allow_users = &nobody};
    struct n2_server *server;

    n2_link_config_init(&config.link, N2_ROLE_RELAYD);
    config.hello = (struct n2_hello){.major = N2_VERSION_MAJOR,
                                     .minor = N2_VERSION_MINOR,
                                     .boot_epoch = 1,
                                     .ptcl = PTCL_UDP,
                                     .planes = planes_bits(context->planes),
                                     .families = N2_FAMILY_V4,
                                     .capacity = relay_table_max(context->table),
                                     .build = "bench",
                                     .instance = "udp"};
    int result = n2_server_open(&server, context, &config);
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(-result));
        return 1;
    }
    log_loop_start(&loop);
    uv_run(&loop, UV_RUN_DEFAULT);
    log_loop_stop();
    n2_server_close(server);
    return 0;
}

static int setup(struct relay_context *context, uint32_t relays)
{
    static const char text[] = "bind: {addresses: [192.0.2.1]}";
    static struct relayd_config config;
    static struct endpoints *endpoints;
    struct config_error error;

    if (config_load_text(relayd_schema, &config, sizeof(config), "bench", text, strlen(text),
                         &error) < 0 ||
        endpoints_new(&endpoints, &config, NULL, 0) < 0 || keyed_hash_setup() < 0 ||
        relay_table_new(&context->table, relays) < 0) {
        fprintf(stderr, "cannot be set up\n");
        return 1;
    }
    context->endpoints = endpoints;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct plane_ops ops = {
        .id = N2_PLANE_SOCKET, .open = null_open, .close = null_close, .counters = null_counters};
    static struct relayd_metrics metrics;
    static const struct deny_floor floor;
    struct plane plane = {.ops = &ops};
    struct planes planes = {0};
    struct relay_context context = {.loop = &loop,
                                    .transport = transport_by_ptcl(PTCL_UDP),
                                    .floor = &floor,
                                    .planes = &planes,
                                    .metrics = &metrics};
    uv_signal_t term;

    if (argc < 2) {
        fprintf(stderr, "bench_relays SOCKET [RELAYS [LOG-LEVEL]]\n");
        return 2;
    }
    log_setup("bench", argc > 3 ? (enum log_level)atoi(argv[3]) : LOG_LEVEL_NOTICE,
              LOG_FORMAT_TEXT);
    uv_loop_init(&loop);
    uv_signal_init(&loop, &term);
    uv_signal_start(&term, on_signal, SIGTERM);
    relayd_metrics_init(&metrics);
    planes_add(&planes, &plane);
    if (setup(&context, argc > 2 ? (uint32_t)atol(argv[2]) : RELAY_TABLE_MAX) != 0) {
        return 1;
    }
    return serve(&context, argv[1]);
}
