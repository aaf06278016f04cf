#include "tests/integration/clients/clients.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/harness/sockets.h"
#include "tests/harness/wait.h"

/* Waits until somebody listens there: a program that does not say when it is ready. */
static void wait_listening(struct process *process, const char *address, uint16_t port)
{
    const int64_t end = now_ms() + PATIENCE_MS;
    for (;;) {
        const struct endpoint to = at(address, port);
        const int fd = lab_socket(clients_lab, LAB_TARGET,
                                  to.address.family == IP_V4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
        const int result = socket_connect(fd, to, PATIENCE_MS);
        close(fd);
        if (result == 0)
            return;
        ck_assert_msg(process_is_alive(process), "the server is gone: %s", process_log(process));
        ck_assert_msg(now_ms() < end, "nobody listens on %s", show(to));
        wait_tick();
    }
}

static const char *web_root(void)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s", lab_path(clients_lab, "www"));
    mkdir(path, 0755);
    return path;
}

void make_page(void)
{
    web_root();
    lab_write_file(clients_lab, "www/index.html", "<html><body>served</body></html>\n");
}

const char *make_large_file(const char *name, unsigned mebibytes)
{
    static char sum[65];
    struct process *process;
    int status;
    char command[1024];
    /* Random where a lost, repeated or moved piece would show; the rest are holes. */
    snprintf(
        command, sizeof(command),
        "set -e; cd %s; truncate -s %uM %s; i=0; while [ $i -lt 64 ]; do"
        " dd if=/dev/urandom of=%s bs=1M count=1 seek=$((i * %u / 64)) conv=notrunc 2>/dev/null;"
        " i=$((i + 1)); done; sha256sum <%s",
        web_root(), mebibytes, name, name, mebibytes, name);
    const struct process_spec spec = {.name = "make-file", .argv = {"/bin/sh", "-c", command}};
    process = process_run(clients_lab, LAB_TARGET, &spec, 6 * PATIENCE_MS, &status);
    ck_assert_msg(status == 0, "%s", process_log(process));
    snprintf(sum, sizeof(sum), "%.64s", process_output(process));
    ck_assert_uint_eq(strlen(sum), 64);
    return sum;
}

void serve_http(void)
{
    char config[2048];
    const char *directory = lab_directory(clients_lab);
    snprintf(config, sizeof(config),
             "daemon off; user root; worker_processes 1; pid %s/nginx.pid; error_log stderr;\n"
             "events {}\n"
             "http { access_log off; sendfile on; default_type text/html;\n"
             "  client_body_temp_path %s/nginx; proxy_temp_path %s/nginx;\n"
             "  fastcgi_temp_path %s/nginx; uwsgi_temp_path %s/nginx; scgi_temp_path %s/nginx;\n"
             "  server { listen " LAB_TARGET_V4 ":80; listen [" LAB_TARGET_V6
             "]:80; root %s; } }\n",
             directory, directory, directory, directory, directory, directory, web_root());
    lab_write_file(clients_lab, "nginx.conf", config);
    mkdir(lab_path(clients_lab, "nginx"), 0755);
    const struct process_spec spec = {
        .name = "nginx-server",
        .argv = {"/usr/sbin/nginx", "-e", "stderr", "-c", lab_path(clients_lab, "nginx.conf")}};
    struct process *nginx = process_start(clients_lab, LAB_TARGET, &spec);
    wait_listening(nginx, LAB_TARGET_V4, 80);
    wait_listening(nginx, LAB_TARGET_V6, 80);
}

void serve_python_http(uint16_t port)
{
    char number[8];
    snprintf(number, sizeof(number), "%u", port);
    const struct process_spec spec = {.name = "python-server",
                                      .argv = {"/usr/bin/python3", "-m", "http.server", "--bind",
                                               LAB_TARGET_V4, "--directory", web_root(), number}};
    wait_listening(process_start(clients_lab, LAB_TARGET, &spec), LAB_TARGET_V4, port);
}

const char *serve_ssh(void)
{
    static char options[1024];
    char config[1024];
    const char *directory = lab_directory(clients_lab);
    lab_run(
        clients_lab, LAB_TARGET,
        "cd %s && ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f user"
        " && cp user.pub authorized && printf '" LAB_TARGET_V4
        " ' >known && cat host.pub >>known"
        " && mkdir -p /run/sshd",
        directory);
    snprintf(config, sizeof(config),
             "ListenAddress " LAB_TARGET_V4
             "\nPort 22\nHostKey %s/host\nPidFile none\n"
             "AuthorizedKeysFile %s/authorized\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
             "PasswordAuthentication no\n",
             directory, directory);
    lab_write_file(clients_lab, "sshd.conf", config);
    const struct process_spec spec = {
        .name = "ssh-server",
        .argv = {"/usr/sbin/sshd", "-D", "-e", "-f", lab_path(clients_lab, "sshd.conf")}};
    wait_listening(process_start(clients_lab, LAB_TARGET, &spec), LAB_TARGET_V4, 22);
    snprintf(options, sizeof(options),
             "-F none -i %s/user -o IdentitiesOnly=yes -o BatchMode=yes"
             " -o UserKnownHostsFile=%s/known -o StrictHostKeyChecking=yes",
             directory, directory);
    return options;
}

void serve_ftp(void)
{
    const struct process_spec spec = {
        .name = "ftp-server",
        .argv = {"/usr/bin/python3", SCRIPTS "/ftp_server.py", LAB_TARGET_V4, "21", web_root()}};
    struct process *server = process_start(clients_lab, LAB_TARGET, &spec);
    WAIT_UNTIL(process_log_has(server, "ready", NULL), PATIENCE_MS);
}
