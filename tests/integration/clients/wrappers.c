/*
 * What makes other programs use a SOCKS server, by LD_PRELOAD: proxychains4, socksify (Dante),
 * torsocks.
 */
#include "tests/integration/clients/clients.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/harness/traffic.h"

#define CURL "curl -sS --fail --max-time 60 "

static void assert_served(const char *output)
{
    ck_assert_msg(strstr(output, "served") != NULL, "got: %.500s", output);
}

static void serve(void)
{
    make_page();
    serve_http();
    serve_python_http(8000);
}

START_TEST(proxychains)
{
    serve();
    lab_write_file(clients_lab, "proxychains.conf",
                   "strict_chain\nproxy_dns\n[ProxyList]\nsocks5 " PROXY_HOST " " PROXY_PORT "\n");
    char config[256];
    snprintf(config, sizeof(config), "%s", lab_path(clients_lab, "proxychains.conf"));
    assert_served(
        client_run("v4", NULL, "proxychains4 -q -f %s " CURL "http://" LAB_TARGET_V4 "/", config));
    assert_served(client_run(
        "python", NULL, "proxychains4 -q -f %s " CURL "http://" LAB_TARGET_V4 ":8000/", config));
    assert_served(
        client_run("name", NULL, "proxychains4 -q -f %s " CURL "http://" NAME_TARGET "/", config));
    const uint16_t port = server_endpoint(server_echo(clients_lab, SOCK_STREAM)).port;
    ck_assert_str_eq(client_run("nc", "hello\n",
                                "proxychains4 -q -f %s nc.openbsd -N " LAB_TARGET_V4 " %u", config,
                                port),
                     "hello\n");
}
END_TEST

#define ROUTE(to)                                                                                  \
    "route {\nfrom: 0.0.0.0/0 to: " to " via: " PROXY_HOST " port = " PROXY_PORT                   \
    "\nproxyprotocol: socks_v5\ncommand: bind connect udpassociate\n}\n"

/* Names are looked up by the server ("fake"). */
static const char *socksify(void)
{
    static char config[256];
    lab_write_file(clients_lab, "dante.conf",
                   "logoutput: stderr\nresolveprotocol: fake\n" ROUTE("0.0.0.0/0") ROUTE("."));
    snprintf(config, sizeof(config), "%s", lab_path(clients_lab, "dante.conf"));
    return config;
}

START_TEST(dante_client)
{
    const char *config = socksify();
    serve();
    assert_served(
        client_run("v4", NULL, "SOCKS_CONF=%s socksify " CURL "http://" LAB_TARGET_V4 "/", config));
    assert_served(client_run(
        "python", NULL, "SOCKS_CONF=%s socksify " CURL "http://" LAB_TARGET_V4 ":8000/", config));
    assert_served(client_run("name", NULL,
                             "SOCKS_CONF=%s socksify " CURL "-4 http://" NAME_TARGET "/", config));
    /* UDP ASSOCIATE. */
    const uint16_t port = server_endpoint(server_echo(clients_lab, SOCK_DGRAM)).port;
    ck_assert_str_eq(
        client_run("udp", "hello\n",
                   "SOCKS_CONF=%s timeout 20 socksify nc.openbsd -u -W 1 " LAB_TARGET_V4 " %u",
                   config, port),
        "hello\n");
}
END_TEST

/* FTP in active mode: the server connects to where the client has it connected to, by BIND. */
START_TEST(dante_ftp)
{
    const char *config = socksify();
    make_page();
    serve_ftp();
    assert_served(client_run("ftp", "user anonymous x\nget index.html -\nquit\n",
                             "SOCKS_CONF=%s socksify tnftp -A -n -v " LAB_TARGET_V4, config));
}
END_TEST

START_TEST(torsocks)
{
    serve();
    assert_served(client_run("v4", NULL,
                             "torsocks -a " PROXY_HOST " -P " PROXY_PORT " " CURL
                             "http://" LAB_TARGET_V4 "/"));
    assert_served(client_run("python", NULL,
                             "torsocks -a " PROXY_HOST " -P " PROXY_PORT " " CURL
                             "http://" LAB_TARGET_V4 ":8000/"));
}
END_TEST

const struct client_test wrapper_tests[] = {
    {"proxychains4", {"proxychains4", "curl", "nc.openbsd", "nginx", "unbound"}, &proxychains},
    {"socksify", {"socksify", "curl", "nc.openbsd", "nginx", "unbound"}, &dante_client},
    {"socksify-ftp", {"socksify", "tnftp", "python3"}, &dante_ftp},
    {"torsocks", {"torsocks", "curl", "nginx"}, &torsocks},
    {0},
};
