#include "tests/harness/nameserver.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/harness/wait.h"

static const char fixed[] =
    "server:\n"
    "  interface: 127.0.0.1\n"
    "  access-control: 127.0.0.0/8 allow\n"
    "  do-daemonize: no\n"
    "  use-syslog: no\n"
    "  logfile: \"\"\n"
    "  log-queries: yes\n"
    "  verbosity: 1\n"
    "  num-threads: 1\n"
    "  username: \"\"\n"
    "  chroot: \"\"\n"
    "  directory: \"/\"\n"
    "  pidfile: \"\"\n"
    "  module-config: \"iterator\"\n"
    "  rrset-roundrobin: no\n"
    "  local-zone: \".\" static\n"
    "  local-zone: \"lab.test.\" static\n";

struct process *nameserver_start(struct lab *lab, const char *const *records)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(file);
    fputs(fixed, file);
    for (; *records != NULL; records++) {
        fprintf(file, "  local-data: \"%s\"\n", *records);
    }
    /* None of the usual control socket. */
    fputs("remote-control:\n  control-enable: no\n", file);
    ck_assert_int_eq(fclose(file), 0);
    lab_write_file(lab, "unbound.conf", text);
    free(text);
    const struct process_spec spec = {
        .name = "unbound", .argv = {"unbound", "-d", "-c", lab_path(lab, "unbound.conf")}};
    struct process *process = process_start(lab, LAB_RELAY, &spec);
    WAIT_UNTIL(process_log_has(process, "start of service", NULL), PATIENCE_MS);
    return process;
}

bool nameserver_was_asked(struct process *nameserver, const char *name)
{
    char query[300];
    snprintf(query, sizeof(query), " %s. ", name);
    return process_log_has(nameserver, "info:", query, NULL);
}
