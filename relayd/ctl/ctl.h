/*
 * relayctl: the operator's view of the daemons on this host. Everything but main(), so that tests
 * can run it.
 */
#ifndef SOCKST_RELAYD_CTL_CTL_H
#define SOCKST_RELAYD_CTL_CTL_H

#include <stdbool.h>
#include <stdio.h>

#include "proto/admin.h"

/* Exit status. */
enum ctl_status {
    CTL_OK = 0,
    CTL_FAILED = 1,      /* not found, refused, or the output could not be written */
    CTL_UNREACHABLE = 2, /* a daemon could not be reached or gave no proper answer; what the others
                            said was printed */
    CTL_USAGE = 64,
};

struct ctl {
    const char *directory;
    unsigned timeout_ms;
    bool json;
    FILE *out, *err;
};

/* The whole program. Returns an enum ctl_status. Uses getopt: not reentrant. */
int ctl_run(int argc, char **argv, FILE *out, FILE *err);

/* The commands. `arguments` are counted already. */
int ctl_status(const struct ctl *ctl, char **arguments, int count);
int ctl_relays(const struct ctl *ctl, char **arguments, int count);
int ctl_show(const struct ctl *ctl, char **arguments, int count);
int ctl_close(const struct ctl *ctl, char **arguments, int count);

/* Parses "kind=…", "plane=…", "source=…", "destination=…", "user=…". False, with a message, when it
 * is none of them, is not valid, or was given before. */
bool ctl_filter_parse(const struct ctl *ctl, const char *text, struct admin_filter *filter);

/* Parses "instance:number". False when it is not one. */
bool ctl_id_parse(const char *text, char instance[N2_LABEL_MAX + 1], uint64_t *relay);

/* "relayctl: …" on the error stream. */
void ctl_error(const struct ctl *ctl, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
