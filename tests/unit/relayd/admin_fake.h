/*
 * A daemon, as far as its admin socket goes, in a process of its own: one that answers well, or
 * badly in one of several ways.
 */
#ifndef SOCKST_TESTS_UNIT_RELAYD_ADMIN_FAKE_H
#define SOCKST_TESTS_UNIT_RELAYD_ADMIN_FAKE_H

#include <sys/types.h>

#define ADMIN_FAKE_RELAYS 3 /* numbers 1 to 3 */

/* What a fake daemon does after a request. */
enum behaviour {
    GOOD,
    BYTEWISE,       /* good, one octet a write */
    SOCKSD,         /* good, and has no relays */
    SILENT,         /* reads, and never answers */
    HANGS_UP,       /* closes instead of answering */
    CUT_OFF,        /* good status; closes in the middle of a record of the table */
    NO_END,         /* good status; closes after the last record */
    MISCOUNTS,      /* good status; END with another count */
    GARBAGE,        /* good status; then octets that are no protobuf */
    ENDLESS_LENGTH, /* a header that announces 4 GiB */
    OTHER_RECORD,   /* a Relay for STATUS, a Status for everything else */
    STATUS_AGAIN,   /* good status; the same for everything else */
    OTHER_RELAY,    /* good status; SHOW gets another relay */
    TERMINAL,       /* good status; an Error with an escape sequence, which the codec must refuse */
};

/* Listens at DIRECTORY/NAME.sock; nobody accepts. Returns the descriptor. */
int admin_fake_listen(const char *directory, const char *name);

/*
 * A daemon that listens at DIRECTORY/NAME.sock when this returns and calls itself `instance`. The
 * caller kills it; it dies with the caller, too.
 */
pid_t admin_fake_start(const char *directory, const char *name, const char *instance,
                       enum behaviour behaviour);

#endif
