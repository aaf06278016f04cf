/*
 * What is left to do when a test process has died: a small process that notices it, prints the end
 * of the logs, and removes the directory. It is the only way that also works after a failed
 * assertion, a crash, or a kill.
 */
#ifndef SOCKST_TESTS_HARNESS_UNDERTAKER_H
#define SOCKST_TESTS_HARNESS_UNDERTAKER_H

/* Directories are PREFIX + pid of the test + "-" + random. */
#define UNDERTAKER_PREFIX "/tmp/sockst-lab-"

struct undertaker;

struct undertaker *undertaker_start(const char *directory);
/* The test is over in good order: removes the directory without printing anything. */
void undertaker_dismiss(struct undertaker *undertaker);
/* Removes the directories of test processes that no longer exist. */
void undertaker_sweep(void);

#endif
