/*
 * What joins standard input and output to a connection: nc, ncat, and ssh behind them.
 */
#include "tests/integration/clients/clients.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/sockets.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

/* Both end by half-close: the echo comes back after the end of the input. */
static void check_echo(const char *command)
{
    static const char *const hosts[] = {LAB_TARGET_V4, NAME_TARGET_V4};
    const uint16_t port = server_endpoint(server_echo(clients_lab, SOCK_STREAM)).port;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        const char *output = client_run(hosts[i], "hello\n", "%s %s %u", command, hosts[i], port);
        ck_assert_str_eq(output, "hello\n");
    }
}

/* An upload larger than any buffer, ended by the client, and its hash. */
static void check_upload(const char *command)
{
    const char *sum = make_large_file("upload", 100);
    struct server *echo = server_echo(clients_lab, SOCK_STREAM);
    const char *output =
        client_run("upload", NULL, "%s %s %u <%s | sha256sum", command, LAB_TARGET_V4,
                   server_endpoint(echo).port, lab_path(clients_lab, "www/upload"));
    ck_assert_msg(strncmp(output, sum, 64) == 0, "expected %s, got %s", sum, output);
}

START_TEST(netcat_openbsd)
{
    check_echo("nc.openbsd -N -X 5 -x " PROXY);
    check_upload("nc.openbsd -N -X 5 -x " PROXY);
}
END_TEST

START_TEST(ncat)
{
    check_echo("ncat --proxy-type socks5 --proxy-dns remote --proxy " PROXY);
    check_upload("ncat --proxy-type socks5 --proxy " PROXY);
}
END_TEST

/* A command, and 32 MiB through it and back. */
static void check_ssh(const char *proxy_command)
{
    const char *options = serve_ssh();
    const char *sum = make_large_file("piped", 32);
    char ssh[2048];
    snprintf(ssh, sizeof(ssh), "ssh %s -o ProxyCommand='%s %%h %%p' root@" LAB_TARGET_V4, options,
             proxy_command);
    ck_assert_str_eq(client_run("command", NULL, "%s 'echo from the target'", ssh),
                     "from the target\n");
    const char *output =
        client_run("pipe", NULL, "%s cat <%s | sha256sum", ssh, lab_path(clients_lab, "www/piped"));
    ck_assert_msg(strncmp(output, sum, 64) == 0, "expected %s, got %s", sum, output);
}

START_TEST(ssh_through_nc)
{
    check_ssh("nc.openbsd -X 5 -x " PROXY);
}
END_TEST

START_TEST(ssh_through_ncat)
{
    check_ssh("ncat --proxy-type socks5 --proxy " PROXY);
}
END_TEST

/* Our own, as another server's client would use it. */
START_TEST(sockst_classic)
{
    char command[512];
    snprintf(command, sizeof(command), "%s --proxy socks5t://" PROXY " --classic connect",
             program_sockst());
    check_echo(command);
    check_upload(command);
    const uint16_t port = server_endpoint(server_echo(clients_lab, SOCK_DGRAM)).port;
    snprintf(command, sizeof(command),
             "%s --proxy socks5t://" PROXY " --classic --lines --count 2 udp", program_sockst());
    static const char *const hosts[] = {LAB_TARGET_V4, NAME_TARGET_V4};
    for (size_t i = 0; i < 2; i++) {
        const char *output = client_run(i == 0 ? "udp" : "udp-name", "one\ntwo\n", "%s %s %u",
                                        command, hosts[i], port);
        ck_assert_str_eq(output, "one\ntwo\n");
    }
}
END_TEST

/* Where a forwarder listens, from its first line. */
static struct endpoint forwarded(struct process *forwarder)
{
    char text[ENDPOINT_TEXT_MAX];
    struct endpoint local;
    WAIT_UNTIL(process_log_has(forwarder, "listening on ", NULL), PATIENCE_MS);
    ck_assert_int_eq(
        sscanf(strstr(process_log(forwarder), "listening on "), "listening on %79s", text), 1);
    ck_assert_int_eq(endpoint_parse(text, &local), 0);
    return local;
}

START_TEST(sockst_forward)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM};
    for (size_t i = 0; i < 2; i++) {
        const char *ptcl = types[i] == SOCK_STREAM ? "tcp" : "udp";
        struct process *forwarder = client_start(
            ptcl,
            "exec %s --proxy socks5t://" PROXY " --classic forward %s 127.0.0.1:0 " LAB_TARGET_V4
            ":%u",
            program_sockst(), ptcl, server_endpoint(server_echo(clients_lab, types[i])).port);
        const struct endpoint local = forwarded(forwarder);
        for (int j = 0; j < 3; j++) { /* each has a connection or association of its own */
            char text[5];
            const int fd =
                socket_bound(clients_lab, LAB_CLIENT, types[i], at("127.0.0.1", 0), NULL);
            ck_assert_int_eq(socket_connect(fd, local, PATIENCE_MS), 0);
            socket_send(fd, "hello", 5);
            socket_receive_all(fd, text, 5, PATIENCE_MS);
            ck_assert_mem_eq(text, "hello", 5);
            close(fd);
        }
        process_stop(forwarder);
    }
}
END_TEST

START_TEST(sockst_bind)
{
    char reply[5];
    struct process *process =
        client_start("bind", "echo hello | %s --proxy socks5t://" PROXY " bind " LAB_TARGET_V4,
                     program_sockst());
    const struct endpoint bound = forwarded(process);
    const int fd = socket_bound(clients_lab, LAB_TARGET, SOCK_STREAM, at(LAB_TARGET_V4, 0), NULL);
    ck_assert_int_eq(socket_connect(fd, bound, PATIENCE_MS), 0);
    socket_send(fd, "world", 5);
    shutdown(fd, SHUT_WR);
    socket_receive_all(fd, reply, 5, PATIENCE_MS);
    ck_assert_mem_eq(reply, "hello", 5);
    ck_assert_int_eq(process_wait(process, PATIENCE_MS), 0);
    ck_assert_str_eq(process_output(process), "world");
    close(fd);
}
END_TEST

START_TEST(sockst_probe)
{
    const char *output =
        client_run("probe", NULL, "%s --proxy socks5t://" PROXY " probe", program_sockst());
    ck_assert_msg(strstr(output, "connect, forward tcp: transparent\n") != NULL, "%s", output);
    ck_assert_msg(strstr(output, "udp, forward udp: transparent\n") != NULL, "%s", output);
    ck_assert_msg(strstr(output, "bind: classic\n") != NULL, "%s", output);
    output = client_run("probe-json", NULL,
                        "%s --proxy socks5t://" PROXY
                        " --json probe | jq -c '[.commands[] | .supported], .use'",
                        program_sockst());
    ck_assert_str_eq(output,
                     "[true,true,true,true]\n"
                     "{\"tcp\":\"transparent\",\"udp\":\"transparent\",\"bind\":\"classic\"}\n");
}
END_TEST

const struct client_test stream_tests[] = {
    {"netcat-openbsd", {"nc.openbsd", "unbound"}, &netcat_openbsd},
    {"ncat", {"ncat", "unbound"}, &ncat},
    {"ssh-nc", {"ssh", "ssh-keygen", "sshd", "nc.openbsd"}, &ssh_through_nc},
    {"ssh-ncat", {"ssh", "ssh-keygen", "sshd", "ncat"}, &ssh_through_ncat},
    {"sockst-classic", {"unbound"}, &sockst_classic},
    {"sockst-forward", {NULL}, &sockst_forward},
    {"sockst-bind", {NULL}, &sockst_bind},
    {"sockst-probe", {"jq"}, &sockst_probe},
    {0},
};
