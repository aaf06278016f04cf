#include "tests/harness/undertaker.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_TAIL 16384 /* octets printed of each log */

struct undertaker {
    pid_t pid;
    int pipe;
};

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    remove(path);
    return 0;
}

static void remove_tree(const char *directory)
{
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void print_tail(const char *path, const char *name)
{
    static char text[LOG_TAIL + 1];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    if (fseek(file, -LOG_TAIL, SEEK_END) != 0) {
        rewind(file);
    }
    const size_t length = fread(text, 1, LOG_TAIL, file);
    fclose(file);
    if (length > 0) {
        text[length] = '\0';
        fprintf(stderr, "---- %s ----\n%s%s", name, text, text[length - 1] == '\n' ? "" : "\n");
    }
}

static void print_logs(const char *directory)
{
    struct dirent **entries;
    const int count = scandir(directory, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *dot = strrchr(entries[i]->d_name, '.');
        if (dot != NULL && strcmp(dot, ".log") == 0) {
            char path[PATH_MAX];
            snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
            print_tail(path, entries[i]->d_name);
        }
    }
}

static _Noreturn void attend(const char *directory, int pipe)
{
    setpgid(0, 0); /* out of reach when the test's process group is killed */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    char farewell;
    ssize_t got;
    do {
        got = read(pipe, &farewell, 1);
    } while (got < 0 && errno == EINTR);
    if (got != 1) {
        print_logs(directory);
    }
    remove_tree(directory);
    _exit(0);
}

struct undertaker *undertaker_start(const char *directory)
{
    int ends[2];
    struct undertaker *undertaker = calloc(1, sizeof(*undertaker));
    ck_assert_ptr_nonnull(undertaker);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    undertaker->pid = fork();
    ck_assert_int_ge(undertaker->pid, 0);
    if (undertaker->pid == 0) {
        close(ends[1]);
        attend(directory, ends[0]);
    }
    setpgid(undertaker->pid, undertaker->pid);
    close(ends[0]);
    undertaker->pipe = ends[1];
    return undertaker;
}

void undertaker_dismiss(struct undertaker *undertaker)
{
    ck_assert_int_eq(write(undertaker->pipe, "", 1), 1);
    close(undertaker->pipe);
    waitpid(undertaker->pid, NULL, 0);
    free(undertaker);
}

void undertaker_sweep(void)
{
    DIR *tmp = opendir("/tmp");
    const char *name = strrchr(UNDERTAKER_PREFIX, '/') + 1;
    if (tmp == NULL) {
        return;
    }
    for (const struct dirent *entry; (entry = readdir(tmp)) != NULL;) {
        if (strncmp(entry->d_name, name, strlen(name)) != 0) {
            continue;
        }
        const long pid = strtol(entry->d_name + strlen(name), NULL, 10);
        if (pid > 1 && kill((pid_t)pid, 0) != 0 && errno == ESRCH) {
            char path[PATH_MAX];
            snprintf(path, sizeof(path), "/tmp/%s", entry->d_name);
            remove_tree(path);
        }
    }
    closedir(tmp);
}
