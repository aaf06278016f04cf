/*
 * sockst probe: what a server offers, and how to use it. One control connection for each question;
 * nothing is relayed: every request names a destination that no server reaches (0.0.0.0, port 0),
 * which is judged after what is asked for. BIND and UDP ASSOCIATE may be granted for it; they end
 * with the connection, at once.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client/command/command.h"
#include "common/client/net.h"
#include "proto/ptcl.h"

#define ROWS_MAX 32
#define USES 3

enum answer { ANSWER_NO, ANSWER_YES, ANSWER_UNKNOWN };

struct row {
    const char *kind; /* "method", "command", "ptcl" */
    unsigned number;
    const char *name;
    enum answer answer;
    int reply; /* the reply code it was derived from, or -1 */
};

struct probe {
    const struct options *options;
    struct endpoint proxy;
    struct row rows[ROWS_MAX];
    size_t count;
};

/* Waits for one event on `fd`. 0, or -errno. */
static int wait_for(int fd, short events, uint64_t deadline_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = events};
    uint64_t now_ms = net_now_ms();
    if (now_ms >= deadline_ms)
        return -ETIMEDOUT;
    int count = poll(&pollfd, 1, (int)(deadline_ms - now_ms));
    if (count < 0 && errno != EINTR)
        return -errno;
    return count == 0 ? -ETIMEDOUT : 0;
}

/* A control connection; its own local endpoint serves as S. Returns the descriptor or -errno. */
static int open_control(const struct endpoint *proxy, uint64_t deadline_ms, struct endpoint *local)
{
    int af = proxy->address.family == IP_V6 ? AF_INET6 : AF_INET;
    int fd = socket(af, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int connected = 0;
    if (fd < 0)
        return -errno;
    int error = net_connect(fd, proxy);
    while (error == 0 && (connected = net_connected(fd)) == 0)
        error = wait_for(fd, POLLOUT, deadline_ms);
    if (error == 0 && connected < 0)
        error = connected;
    if (error == 0)
        error = net_local(fd, local);
    if (error < 0) {
        close(fd);
        return error;
    }
    return fd;
}

/* Runs the session to its first answer that counts. 0, or -errno when the connection broke. */
static int converse(int fd, struct sockst_session *session, uint64_t deadline_ms)
{
    while (sockst_session_status(session) == SOCKST_RUNNING) {
        uint8_t buffer[N1_REPLY_MAX];
        const uint8_t *data;
        size_t length = sockst_session_output(session, &data);
        ssize_t sent = length != 0 ? send(fd, data, length, MSG_NOSIGNAL) : 0;
        if (sent > 0)
            sockst_session_sent(session, (size_t)sent);
        /* An error in sending shows in receiving, behind what the server still said. */
        bool pending = sent >= 0 && (size_t)sent < length;
        int error = wait_for(fd, pending ? POLLIN | POLLOUT : POLLIN, deadline_ms);
        if (error < 0)
            return error;
        ssize_t got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        size_t taken;
        if (got > 0)
            sockst_session_receive(session, buffer, (size_t)got, &taken);
        else if (got == 0)
            sockst_session_end(session);
        else if (errno != EAGAIN && errno != EINTR)
            return -errno;
    }
    return 0;
}

/*
 * Asks one question. `request` NULL: only for the method. The result is a session that was
 * answered; NULL: the connection could not be made, or broke (*error, -errno).
 */
static struct sockst_session *ask(const struct probe *probe, const struct n1_methods *methods,
                                  struct n1_request *request, int *error)
{
    uint64_t deadline_ms = net_now_ms() + probe->options->connect_timeout_ms;
    const struct sockst_proxy *proxy = &probe->options->proxy;
    struct sockst_session *session = NULL;
    struct endpoint local;
    int fd = open_control(&probe->proxy, deadline_ms, &local);
    *error = fd < 0 ? fd : 0;
    if (fd < 0)
        return NULL;
    if (request != NULL && request->command == N1_CMD_TRANSPARENT) {
        const struct ptcl *ptcl = ptcl_by_number(request->ptcl);
        if (ptcl != NULL && ptcl->ports != PTCL_PORTS)
            local.port = 0;
        request->source = n1_host_from_endpoint(&local);
    }
    struct sockst_ask question = {.methods = *methods,
                                  .userpass = proxy->has_user ? &proxy->userpass : NULL,
                                  .request = request,
                                  .in_step = true};
    *error = sockst_session_new(&session, &question);
    if (*error == 0)
        *error = converse(fd, session, deadline_ms);
    close(fd);
    if (*error < 0) {
        sockst_session_free(session);
        return NULL;
    }
    return session;
}

static void add_row(struct probe *probe, const char *kind, unsigned number, const char *name,
                    enum answer answer, int reply)
{
    if (probe->count < ROWS_MAX)
        probe->rows[probe->count++] = (struct row){kind, number, name, answer, reply};
}

/* Returns 0, or the exit status when the proxy cannot be talked to at all. */
static int probe_methods(struct probe *probe)
{
    static const struct {
        uint8_t number;
        const char *name;
    } methods[] = {
        {N1_METHOD_NONE, "none"}, {N1_METHOD_GSSAPI, "gssapi"}, {N1_METHOD_USERPASS, "userpass"}};
    char text[ENDPOINT_TEXT_MAX];
    struct sockst_failure failure;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        struct n1_methods offer = {.count = 1, .methods = {methods[i].number}};
        enum answer answer = ANSWER_UNKNOWN;
        int error;
        struct sockst_session *session = ask(probe, &offer, NULL, &error);
        if (session == NULL && i == 0) {
            sockst_fail(&failure, SOCKST_E_PROXY, "proxy %s: %s",
                        endpoint_format(&probe->proxy, text, sizeof(text)), strerror(-error));
            return command_failed(&failure);
        }
        if (session != NULL && sockst_session_status(session) == SOCKST_DONE)
            answer = ANSWER_YES;
        else if (session != NULL && sockst_session_failure(session)->error == SOCKST_E_METHOD)
            answer = ANSWER_NO;
        else if (session != NULL && i == 0) {
            int status = command_failed(sockst_session_failure(session));
            sockst_session_free(session);
            return status;
        }
        add_row(probe, "method", methods[i].number, methods[i].name, answer, -1);
        sockst_session_free(session);
    }
    return 0;
}

/* What the reply to a request says about the thing that `refusal` refuses. */
static enum answer ask_request(const struct probe *probe, struct n1_request *request,
                               uint8_t refusal, int *reply)
{
    struct n1_methods offer = {.count = 1, .methods = {N1_METHOD_NONE}};
    enum answer answer = ANSWER_UNKNOWN;
    int error;
    *reply = -1;
    if (probe->options->proxy.has_user)
        offer = (struct n1_methods){2, {N1_METHOD_NONE, N1_METHOD_USERPASS}};
    struct sockst_session *session = ask(probe, &offer, request, &error);
    if (session == NULL)
        return answer;
    const struct sockst_failure *failure = sockst_session_failure(session);
    if (sockst_session_status(session) != SOCKST_FAILED) {
        answer = ANSWER_YES;
        *reply = N1_REP_SUCCEEDED;
    } else if (failure->error == SOCKST_E_REPLY) {
        *reply = failure->reply;
        answer = failure->reply == refusal ? ANSWER_NO : ANSWER_YES;
    }
    sockst_session_free(session);
    return answer;
}

static struct n1_request harmless_request(uint8_t command)
{
    struct n1_request request = {.command = command};
    request.destination.atyp = N1_ATYP_V4;
    request.destination.address.family = IP_V4;
    return request;
}

static enum answer probe_commands(struct probe *probe)
{
    enum answer answer = ANSWER_UNKNOWN;
    for (unsigned command = N1_CMD_CONNECT; command <= N1_CMD_TRANSPARENT; command++) {
        int reply;
        struct n1_request request = harmless_request((uint8_t)command);
        request.ptcl = command == N1_CMD_TRANSPARENT ? PTCL_TCP : 0;
        answer = ask_request(probe, &request, N1_REP_COMMAND_NOT_SUPPORTED, &reply);
        add_row(probe, "command", command, n1_command_name((uint8_t)command), answer, reply);
    }
    return answer; /* of TRANSPARENT */
}

static void probe_ptcls(struct probe *probe, enum answer transparent)
{
    const struct ptcl *ptcl;
    for (size_t i = 0; (ptcl = ptcl_at(i)) != NULL; i++) {
        int reply = -1;
        enum answer answer = transparent;
        struct n1_request request = harmless_request(N1_CMD_TRANSPARENT);
        request.ptcl = ptcl->number;
        if (transparent == ANSWER_YES)
            answer = ask_request(probe, &request, N1_REP_PTCL_NOT_SUPPORTED, &reply);
        add_row(probe, "ptcl", ptcl->number, ptcl->name, answer, reply);
    }
}

static enum answer answer_of(const struct probe *probe, const char *kind, unsigned number)
{
    for (size_t i = 0; i < probe->count; i++) {
        if (strcmp(probe->rows[i].kind, kind) == 0 && probe->rows[i].number == number)
            return probe->rows[i].answer;
    }
    return ANSWER_UNKNOWN;
}

/* What sockst can do here, and which mode does it. */
struct use {
    const char *name;
    const char *mode; /* "transparent", "classic", or NULL */
};

static const char *mode_of(const struct probe *probe, unsigned ptcl, unsigned classic)
{
    /* Without PTCL the answer for TRANSPARENT does not count: BIND has no counterpart. */
    if (ptcl != 0 && answer_of(probe, "ptcl", ptcl) == ANSWER_YES)
        return "transparent";
    return answer_of(probe, "command", classic) == ANSWER_YES ? "classic" : NULL;
}

static void find_uses(const struct probe *probe, struct use uses[USES])
{
    uses[0] = (struct use){"tcp", mode_of(probe, PTCL_TCP, N1_CMD_CONNECT)};
    uses[1] = (struct use){"udp", mode_of(probe, PTCL_UDP, N1_CMD_UDP_ASSOCIATE)};
    uses[2] = (struct use){"bind", mode_of(probe, 0, N1_CMD_BIND)};
}

static void print_uses(const struct probe *probe)
{
    static const char *const commands[USES] = {"connect, forward tcp", "udp, forward udp", "bind"};
    struct use uses[USES];
    find_uses(probe, uses);
    for (size_t i = 0; i < USES; i++)
        printf("%s: %s\n", commands[i], uses[i].mode != NULL ? uses[i].mode : "not here");
}

static int print_table(const struct probe *probe)
{
    static const char *const answers[] = {"no", "yes", "unknown"};
    char text[ENDPOINT_TEXT_MAX];
    printf("proxy %s\n", endpoint_format(&probe->proxy, text, sizeof(text)));
    printf("%-8s %6s  %-14s %-8s %s\n", "KIND", "NUMBER", "NAME", "OFFERED", "REPLY");
    for (size_t i = 0; i < probe->count; i++) {
        const struct row *row = &probe->rows[i];
        printf("%-8s %6u  %-14s %-8s ", row->kind, row->number, row->name, answers[row->answer]);
        if (row->reply >= 0)
            printf("%02X %s\n", (unsigned)row->reply, n1_reply_text((uint8_t)row->reply));
        else
            puts("-");
    }
    print_uses(probe);
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -1;
}

static json_t *json_row(const struct row *row)
{
    json_t *supported =
        row->answer == ANSWER_UNKNOWN ? json_null() : json_boolean(row->answer == ANSWER_YES);
    json_t *reply = row->reply < 0 ? json_null() : json_integer(row->reply);
    return json_pack("{s:i, s:s, s:o, s:o}", "number", (int)row->number, "name", row->name,
                     "supported", supported, "reply", reply);
}

static json_t *json_uses(const struct probe *probe)
{
    json_t *object = json_object();
    struct use uses[USES];
    find_uses(probe, uses);
    for (size_t i = 0; i < USES; i++)
        json_object_set_new(object, uses[i].name,
                            uses[i].mode != NULL ? json_string(uses[i].mode) : json_null());
    return object;
}

static int print_json(const struct probe *probe)
{
    char text[ENDPOINT_TEXT_MAX];
    json_t *methods = json_array(), *commands = json_array(), *ptcls = json_array();
    for (size_t i = 0; i < probe->count; i++) {
        const struct row *row = &probe->rows[i];
        json_t *list = ptcls;
        if (strcmp(row->kind, "method") == 0)
            list = methods;
        else if (strcmp(row->kind, "command") == 0)
            list = commands;
        json_array_append_new(list, json_row(row));
    }
    json_t *whole = json_pack(
        "{s:s, s:o, s:o, s:o, s:o}", "proxy", endpoint_format(&probe->proxy, text, sizeof(text)),
        "methods", methods, "commands", commands, "ptcls", ptcls, "use", json_uses(probe));
    int error = json_dumpf(whole, stdout, JSON_INDENT(2));
    json_decref(whole);
    return error == 0 && putchar('\n') != EOF && fflush(stdout) == 0 ? 0 : -1;
}

/* The first of the proxy's addresses that answers; the last one if none does. */
static struct endpoint choose_proxy(const struct options *options,
                                    const struct sockst_options *from)
{
    struct endpoint local;
    size_t i = 0;
    for (; i + 1 < from->proxy_count; i++) {
        int fd =
            open_control(&from->proxies[i], net_now_ms() + options->connect_timeout_ms, &local);
        if (fd >= 0) {
            close(fd);
            break;
        }
    }
    return from->proxies[i];
}

int command_probe(const struct options *options)
{
    struct endpoint proxies[SOCKST_PROXY_ADDRESSES_MAX];
    struct sockst_options association;
    struct probe probe = {.options = options};
    int status = command_resolve(options, PTCL_TCP, proxies, &association);
    if (status != 0)
        return status;
    probe.proxy = choose_proxy(options, &association);
    status = probe_methods(&probe);
    if (status != 0)
        return status;
    probe_ptcls(&probe, probe_commands(&probe));
    int error = options->json ? print_json(&probe) : print_table(&probe);
    if (error < 0) {
        command_say("output: %s", strerror(errno));
        return EXIT_INCOMPLETE;
    }
    return EXIT_COMPLETE;
}
