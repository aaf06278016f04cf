/*
 * What fetches pages: curl and a browser.
 */
#include "tests/integration/clients/clients.h"

#include <string.h>

#define CURL "curl -sS --fail --max-time 200 --noproxy '' "

static void assert_served(const char *output)
{
    ck_assert_msg(strstr(output, "served") != NULL, "got: %.500s", output);
}

/* The client looks names up itself and sends an address. */
START_TEST(curl_with_addresses)
{
    make_page();
    serve_http();
    assert_served(client_run("v4", NULL, CURL "--socks5 " PROXY " http://" LAB_TARGET_V4 "/"));
    assert_served(client_run("v6", NULL, CURL "--socks5 " PROXY " 'http://[" LAB_TARGET_V6 "]/'"));
    assert_served(client_run("resolved", NULL,
                             CURL "--socks5 " PROXY " --resolve " NAME_TARGET ":80:" LAB_TARGET_V4
                                  " http://" NAME_TARGET "/"));
    /* N1 over IPv6. */
    assert_served(client_run("n1-v6", NULL,
                             CURL "--socks5 '[" LAB_RELAY_V6 "]:" PROXY_PORT
                                  "' http://" LAB_TARGET_V4 "/"));
}
END_TEST

/* socksd looks names up. */
START_TEST(curl_with_names)
{
    static const char *const names[] = {NAME_TARGET, NAME_TARGET_V4, NAME_TARGET_V6};
    make_page();
    serve_http();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_served(
            client_run(names[i], NULL, CURL "--socks5-hostname " PROXY " http://%s/", names[i]));
    /* What the server says of a failure is what curl says: 97 is CURLE_PROXY. */
    const char *output = client_run("missing", NULL,
                                    CURL "--socks5-hostname " PROXY
                                         " -w '%%{proxy_error}' http://nobody.lab.test/ 2>/dev/null"
                                         " || echo \" status $?\"");
    ck_assert_msg(strstr(output, "status 97") != NULL, "%s", output);
}
END_TEST

/* Several requests over one connection, and posts: data in both directions. */
START_TEST(curl_keeps_a_connection)
{
    make_page();
    serve_http();
    const char *output =
        client_run("twice", NULL,
                   CURL "--http1.1 --socks5 " PROXY " -w '%%{num_connects} ' http://" LAB_TARGET_V4
                        "/ http://" LAB_TARGET_V4 "/index.html");
    const char *first = strstr(output, "</html>\n1 ");
    ck_assert_msg(first != NULL && strstr(first, "</html>\n0 ") != NULL, "%s", output);
}
END_TEST

static void download(const char *option)
{
    const char *sum = make_large_file("large", 1024);
    serve_http();
    const char *output = client_run(
        "download", NULL, CURL "--http1.1 %s " PROXY " http://" LAB_TARGET_V4 "/large | sha256sum",
        option);
    ck_assert_msg(strncmp(output, sum, 64) == 0, "expected %s, got %s", sum, output);
}

START_TEST(curl_downloads_a_gibibyte)
{
    download("--socks5");
}
END_TEST

/* A page whose script, from a second request, changes what the page says. */
START_TEST(chromium_loads_a_page)
{
    make_page();
    serve_http();
    lab_write_file(
        clients_lab, "www/page.html",
        "<html><body><p id='p'>before</p><script src='app.js'></script></body></html>\n");
    lab_write_file(clients_lab, "www/app.js",
                   "document.getElementById('p').textContent = 'after' + 'wards';\n");
    const char *output =
        client_run("chromium", NULL,
                   "HOME=%s exec chromium-headless-shell --no-sandbox --disable-gpu --no-first-run"
                   " --disable-background-networking --disable-component-update"
                   " --user-data-dir=%s/chromium --proxy-server=socks5://" PROXY
                   " --virtual-time-budget=10000 --dump-dom http://" NAME_TARGET "/page.html",
                   lab_directory(clients_lab), lab_directory(clients_lab));
    ck_assert_msg(strstr(output, "afterwards") != NULL, "%.2000s", output);
}
END_TEST

const struct client_test web_tests[] = {
    {"curl-socks5", {"curl", "nginx"}, &curl_with_addresses},
    {"curl-socks5-hostname", {"curl", "nginx", "unbound"}, &curl_with_names},
    {"curl-http11", {"curl", "nginx"}, &curl_keeps_a_connection},
    {"curl-download", {"curl", "nginx"}, &curl_downloads_a_gibibyte},
    {"chromium", {"chromium-headless-shell", "nginx", "unbound"}, &chromium_loads_a_page},
    {0},
};
