#include "tests/harness/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/wait.h"

#define READY_FD 3

struct process {
    struct lab *lab;
    char name[64];
    pid_t pid;
    int pid_fd;
    bool ended;
    int status; /* exit status or 128 + signal, once ended */
    int output_fd, log_fd;
    char *output, *log; /* last read copies */
};

static const char *program(const char *variable, const char *standard)
{
    const char *path = getenv(variable);
    return path != NULL ? path : standard;
}

const char *program_socksd(void)
{
    return program("SOCKSD", BUILD_ROOT "/socksd/socksd");
}

const char *program_relayd(void)
{
    return program("RELAYD", BUILD_ROOT "/relayd/relayd");
}

const char *program_relayctl(void)
{
    return program("RELAYCTL", BUILD_ROOT "/relayd/ctl/relayctl");
}

const char *program_sockst(void)
{
    return program("SOCKST", BUILD_ROOT "/common/client/sockst");
}

static int input_open(const char *text)
{
    if (text == NULL) {
        return open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    const int fd = memfd_create("input", MFD_CLOEXEC);
    const ssize_t length = (ssize_t)strlen(text);
    ck_assert_int_eq(write(fd, text, (size_t)length), length);
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void become(const struct process_spec *spec)
{
    if (spec->group != 0 || spec->uid != 0) {
        if (setgroups(spec->group != 0 ? 1 : 0, &spec->group) != 0) {
            _exit(126);
        }
    }
    if (spec->uid != 0 && (setresgid(spec->gid, spec->gid, spec->gid) != 0 ||
                           setresuid(spec->uid, spec->uid, spec->uid) != 0)) {
        _exit(126);
    }
}

/* In the child: descriptors 0-2 and, where asked for, READY_FD; no other. */
static _Noreturn void execute(const struct process *process, const struct process_spec *spec,
                              int input, int ready)
{
    const char *argv[PROCESS_ARGUMENTS_MAX + 3] = {NULL};
    size_t count = 0;
    while (count < PROCESS_ARGUMENTS_MAX && spec->argv[count] != NULL) {
        argv[count] = spec->argv[count];
        count++;
    }
    if (ready >= 0) {
        const int high = fcntl(ready, F_DUPFD_CLOEXEC, 64);
        dup2(high, READY_FD);
        argv[count++] = "--ready-fd";
        argv[count++] = "3";
    }
    if (dup2(input, 0) < 0 || dup2(process->output_fd, 1) < 0 || dup2(process->log_fd, 2) < 0) {
        _exit(126);
    }
    close_range(ready >= 0 ? READY_FD + 1 : READY_FD, ~0U, 0);
    become(spec);
    signal(SIGPIPE, SIG_DFL);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* The lab's cleanup. */
static void discard(void *user)
{
    process_free(user);
}

static struct process *spawn(struct lab *lab, enum lab_place place, const struct process_spec *spec,
                             int ready)
{
    char log_name[80];
    struct process *process = calloc(1, sizeof(*process));
    ck_assert_ptr_nonnull(process);
    process->lab = lab;
    snprintf(process->name, sizeof(process->name), "%s",
             spec->name != NULL ? spec->name : "process");
    snprintf(log_name, sizeof(log_name), "%s.log", process->name);
    /* Kept high, so that dup2() in the child never meets its own source. */
    const int log_fd =
        open(lab_path(lab, log_name), O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
    ck_assert_msg(log_fd >= 0, "%s: %s", log_name, strerror(errno));
    process->log_fd = fcntl(log_fd, F_DUPFD_CLOEXEC, 64);
    close(log_fd);
    const int output_fd = memfd_create("output", MFD_CLOEXEC);
    process->output_fd = fcntl(output_fd, F_DUPFD_CLOEXEC, 64);
    close(output_fd);
    const int input = input_open(spec->input);
    ck_assert_int_ge(input, 0);
    process->pid = lab_fork(lab, place);
    if (process->pid == 0) {
        execute(process, spec, input, ready);
    }
    close(input);
    process->pid_fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    ck_assert_msg(process->pid_fd >= 0, "pidfd_open: %s", strerror(errno));
    lab_on_free(lab, discard, process);
    return process;
}

bool process_try_start(struct lab *lab, enum lab_place place, const struct process_spec *spec,
                       struct process **out)
{
    int ends[2];
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    *out = spawn(lab, place, spec, ends[1]);
    close(ends[1]);
    char byte;
    const bool told = wait_fd(ends[0], POLLIN, 2 * PATIENCE_MS);
    const bool ready = told && read(ends[0], &byte, 1) == 1;
    close(ends[0]);
    ck_assert_msg(told, "%s is neither ready nor dead", (*out)->name);
    return ready;
}

struct process *process_start(struct lab *lab, enum lab_place place,
                              const struct process_spec *spec)
{
    if (!spec->ready) {
        return spawn(lab, place, spec, -1);
    }
    struct process *process;
    const bool ready = process_try_start(lab, place, spec, &process);
    ck_assert_msg(ready, "%s did not become ready", process->name);
    return process;
}

struct process *process_run(struct lab *lab, enum lab_place place, const struct process_spec *spec,
                            int timeout_ms, int *status)
{
    struct process *process = spawn(lab, place, spec, -1);
    *status = process_wait(process, timeout_ms);
    return process;
}

pid_t process_pid(const struct process *process)
{
    return process->pid;
}

static void reap(struct process *process)
{
    int status;
    ck_assert_int_eq(waitpid(process->pid, &status, 0), process->pid);
    process->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    process->ended = true;
}

bool process_is_alive(struct process *process)
{
    if (!process->ended && wait_fd(process->pid_fd, POLLIN, 0)) {
        reap(process);
    }
    return !process->ended;
}

void process_signal(struct process *process, int signal)
{
    ck_assert_msg(!process->ended, "%s has ended before signal %d", process->name, signal);
    ck_assert_int_eq(kill(process->pid, signal), 0);
}

int process_wait(struct process *process, int timeout_ms)
{
    if (!process->ended) {
        const bool ended = wait_fd(process->pid_fd, POLLIN, timeout_ms);
        ck_assert_msg(ended, "%s has not ended within %d ms", process->name, timeout_ms);
        reap(process);
    }
    return process->status;
}

void process_stop(struct process *process)
{
    process_signal(process, SIGTERM);
    const int status = process_wait(process, PATIENCE_MS);
    ck_assert_msg(status == 0, "%s: exit status %d after SIGTERM", process->name, status);
}

void process_kill(struct process *process)
{
    process_signal(process, SIGKILL);
    process_wait(process, PATIENCE_MS);
}

void process_free(struct process *process)
{
    if (process == NULL) {
        return;
    }
    lab_forget(process->lab, discard, process);
    if (process_is_alive(process)) {
        process_kill(process);
    }
    close(process->pid_fd);
    close(process->output_fd);
    close(process->log_fd);
    free(process->output);
    free(process->log);
    free(process);
}

static const char *read_all(int fd, char **copy)
{
    const off_t size = lseek(fd, 0, SEEK_END);
    free(*copy);
    *copy = malloc((size_t)size + 1);
    ck_assert_ptr_nonnull(*copy);
    const ssize_t got = pread(fd, *copy, (size_t)size, 0);
    ck_assert_int_ge(got, 0);
    (*copy)[got] = '\0';
    return *copy;
}

const char *process_output(struct process *process)
{
    return read_all(process->output_fd, &process->output);
}

const char *process_log(struct process *process)
{
    return read_all(process->log_fd, &process->log);
}

/* Cuts the next line out of the text; NULL at the end. */
static char *next_line(char **rest)
{
    char *line = strsep(rest, "\n");
    return line != NULL && (*line != '\0' || *rest != NULL) ? line : NULL;
}

bool process_log_has(struct process *process, const char *text, ...)
{
    process_log(process);
    char *rest = process->log;
    for (char *line; (line = next_line(&rest)) != NULL;) {
        bool all = strstr(line, text) != NULL;
        va_list more;
        va_start(more, text);
        for (const char *part; all && (part = va_arg(more, const char *)) != NULL;) {
            all = strstr(line, part) != NULL;
        }
        va_end(more);
        if (all) {
            return true;
        }
    }
    return false;
}

unsigned process_log_count(struct process *process, const char *text)
{
    unsigned count = 0;
    process_log(process);
    char *rest = process->log;
    for (char *line; (line = next_line(&rest)) != NULL;) {
        count += strstr(line, text) != NULL;
    }
    return count;
}
