/*
 * Programs under test: started in a place of the lab, with their output kept, told READY by
 * --ready-fd, stopped by pid. Standard output and standard error are kept apart: process_output()
 * and process_log().
 */
#ifndef SOCKST_TESTS_HARNESS_PROCESS_H
#define SOCKST_TESTS_HARNESS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/harness/lab.h"

#define PROCESS_ARGUMENTS_MAX 32

struct process;

struct process_spec {
    const char *name; /* of the log, LAB-DIRECTORY/NAME.log */
    const char *argv[PROCESS_ARGUMENTS_MAX];
    bool ready;        /* add `--ready-fd N` and wait until something is written to it */
    const char *input; /* standard input as text; NULL: empty */
    uid_t uid;         /* with gid, when uid is not 0: run as this user, no further groups */
    gid_t gid;
    gid_t group; /* one supplementary group; 0: none */
};

/* Paths of what the project builds; the environment may override them (SOCKSD=…). */
const char *program_socksd(void);
const char *program_relayd(void);
const char *program_relayctl(void);
const char *program_sockst(void);

/* Belongs to the lab until process_free(); lab_free() kills and frees what is left. */
struct process *process_start(struct lab *lab, enum lab_place place,
                              const struct process_spec *spec);
/* As process_start() with `ready`, but the program may also exit instead: then false, and
 * process_wait() tells how. */
bool process_try_start(struct lab *lab, enum lab_place place, const struct process_spec *spec,
                       struct process **out);
/* Starts, waits for the end, and returns the process for its output; *status as process_wait(). */
struct process *process_run(struct lab *lab, enum lab_place place, const struct process_spec *spec,
                            int timeout_ms, int *status);

pid_t process_pid(const struct process *process);
bool process_is_alive(struct process *process);
void process_signal(struct process *process, int signal);
/* Exit status, or 128 + signal. Fails the test when it does not end in time. */
int process_wait(struct process *process, int timeout_ms);
/* SIGTERM; must exit with 0 within PATIENCE_MS. */
void process_stop(struct process *process);
/* SIGKILL, and waits. */
void process_kill(struct process *process);
/* Kills it if it lives. NULL is allowed. */
void process_free(struct process *process);

/* Everything it has written so far, terminated; valid until the next call for this process. */
const char *process_output(struct process *process);
const char *process_log(struct process *process);
/* Does a line of the log contain each of the texts (the last is NULL)? */
bool process_log_has(struct process *process, const char *text, ...) __attribute__((sentinel));
/* Lines of the log that contain the text. */
unsigned process_log_count(struct process *process, const char *text);

#endif
