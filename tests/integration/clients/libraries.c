/*
 * Libraries of other languages, each with a script of a few lines beside this file.
 */
#include "tests/integration/clients/clients.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/sockets.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wait.h"

static uint16_t echo_port(int type)
{
    return server_endpoint(server_echo(clients_lab, type)).port;
}

/* The script compares what comes back and says "done". */
static void check_script(const char *name, const char *command, int type)
{
    const char *output = client_run(
        name, NULL, "%s " PROXY_HOST " " PROXY_PORT " " LAB_TARGET_V4 " " NAME_TARGET_V4 " %u",
        command, echo_port(type));
    ck_assert_msg(strstr(output, "done\n") != NULL, "%s", output);
}

/* The script prints where the server listens; the target connects there, says "world" and hears
 * "hello".
 */
static void check_bind(const char *command)
{
    char text[ENDPOINT_TEXT_MAX], heard[5];
    struct endpoint bound, local;
    struct process *process =
        client_start("bind", "%s " PROXY_HOST " " PROXY_PORT " " LAB_TARGET_V4, command);
    WAIT_UNTIL(strchr(process_output(process), '\n') != NULL || !process_is_alive(process),
               PATIENCE_MS);
    ck_assert_msg(sscanf(process_output(process), "bound %79s", text) == 1, "%s%s",
                  process_output(process), process_log(process));
    ck_assert_int_eq(endpoint_parse(text, &bound), 0);
    const int fd = socket_bound(clients_lab, LAB_TARGET, SOCK_STREAM, at(LAB_TARGET_V4, 0), &local);
    ck_assert_int_eq(socket_connect(fd, bound, PATIENCE_MS), 0);
    socket_send(fd, "world", 5);
    socket_receive_all(fd, heard, 5, PATIENCE_MS);
    ck_assert_mem_eq(heard, "hello", 5);
    close(fd);
    ck_assert_msg(process_wait(process, PATIENCE_MS) == 0, "%s", process_log(process));
    char peer[ENDPOINT_TEXT_MAX + 16];
    snprintf(peer, sizeof(peer), "peer %s\n", show(local));
    ck_assert_msg(strstr(process_output(process), peer) != NULL, "expected %s in %s", peer,
                  process_output(process));
    ck_assert_msg(strstr(process_output(process), "done\n") != NULL, "%s", process_output(process));
}

START_TEST(python_tcp)
{
    check_script("python", "/usr/bin/python3 " SCRIPTS "/client.py tcp", SOCK_STREAM);
}
END_TEST

START_TEST(python_udp)
{
    check_script("python", "/usr/bin/python3 " SCRIPTS "/client.py udp", SOCK_DGRAM);
}
END_TEST

START_TEST(perl_connect)
{
    check_script("perl", "/usr/bin/perl " SCRIPTS "/client.pl connect", SOCK_STREAM);
}
END_TEST

START_TEST(perl_bind)
{
    check_bind("/usr/bin/perl " SCRIPTS "/client.pl bind");
}
END_TEST

#define NODE "NODE_PATH=/usr/share/nodejs node " SCRIPTS "/client.js "

START_TEST(node_connect)
{
    check_script("node", NODE "connect", SOCK_STREAM);
}
END_TEST

START_TEST(node_bind)
{
    check_bind(NODE "bind");
}
END_TEST

START_TEST(node_associate)
{
    check_script("node", NODE "associate", SOCK_DGRAM);
}
END_TEST

#define PYSOCKS "/usr/lib/python3/dist-packages/socks.py"
#define PERL_SOCKS "/usr/share/perl5/IO/Socket/Socks.pm"
#define NODE_SOCKS "/usr/share/nodejs/socks/package.json"

const struct client_test library_tests[] = {
    {"python-tcp", {"python3", PYSOCKS, "unbound"}, &python_tcp},
    {"python-udp", {"python3", PYSOCKS, "unbound"}, &python_udp},
    {"perl-connect", {"perl", PERL_SOCKS, "unbound"}, &perl_connect},
    {"perl-bind", {"perl", PERL_SOCKS}, &perl_bind},
    {"node-connect", {"node", NODE_SOCKS, "unbound"}, &node_connect},
    {"node-bind", {"node", NODE_SOCKS}, &node_bind},
    {"node-associate", {"node", NODE_SOCKS, "unbound"}, &node_associate},
    {0},
};
