#include "relayd/plane/bpf/kernel.h"

#include <assert.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Shared by the answers of one call. One link's may take some thousand octets. */
#define BUFFER_SIZE 65536

struct kernel {
    int fd;
    uint32_t sequence;
    _Alignas(struct nlmsghdr) uint8_t buffer[BUFFER_SIZE];
};

struct round {
    struct kernel_question *questions;
    size_t count, left; /* left: without an answer so far */
    uint32_t first;     /* sequence number of question 0 */
    bool answered[KERNEL_BATCH];
    kernel_answer_cb *answer;
    void *user;
};

int kernel_open(struct kernel **out)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    struct kernel *kernel = malloc(sizeof(*kernel));
    int r;

    if (kernel == NULL)
        return -ENOMEM;
    kernel->sequence = 0;
    kernel->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (kernel->fd < 0) {
        r = -errno;
        free(kernel);
        return r;
    }
    /* From here on only the kernel is heard. */
    if (connect(kernel->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        r = -errno;
        kernel_close(kernel);
        return r;
    }
    *out = kernel;
    return 0;
}

void kernel_close(struct kernel *kernel)
{
    if (kernel == NULL)
        return;
    close(kernel->fd);
    free(kernel);
}

static struct nlmsghdr *header_of(struct kernel_question *question)
{
    return (struct nlmsghdr *)question->octets;
}

void kernel_question(struct kernel_question *question, uint16_t type, const void *header,
                     size_t header_size)
{
    struct nlmsghdr *message = header_of(question);

    assert(NLMSG_SPACE(header_size) <= sizeof(question->octets));
    memset(question, 0, sizeof(*question));
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST;
    message->nlmsg_len = (uint32_t)NLMSG_SPACE(header_size);
    memcpy(NLMSG_DATA(message), header, header_size);
}

void kernel_question_add(struct kernel_question *question, uint16_t type, const void *data,
                         size_t size)
{
    struct nlmsghdr *message = header_of(question);
    struct rtattr *attribute = (struct rtattr *)(question->octets + message->nlmsg_len);

    assert(message->nlmsg_len + RTA_SPACE(size) <= sizeof(question->octets));
    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
    message->nlmsg_len += (uint32_t)RTA_SPACE(size);
}

/* All that have no answer yet, in one datagram. */
static bool send_questions(struct kernel *kernel, struct round *round)
{
    struct iovec parts[KERNEL_BATCH];
    struct msghdr message = {.msg_iov = parts};

    round->first = kernel->sequence;
    kernel->sequence += KERNEL_BATCH;
    for (size_t i = 0; i < round->count; i++) {
        struct nlmsghdr *header = header_of(&round->questions[i]);

        if (round->answered[i])
            continue;
        header->nlmsg_seq = round->first + (uint32_t)i;
        parts[message.msg_iovlen++] =
            (struct iovec){.iov_base = header, .iov_len = header->nlmsg_len};
    }
    return sendmsg(kernel->fd, &message, MSG_DONTWAIT) >= 0;
}

static void give_answer(struct round *round, const struct nlmsghdr *message)
{
    const size_t index = message->nlmsg_seq - round->first;
    const struct nlmsgerr *error = NLMSG_DATA(message);
    int code = 0;

    if (index >= round->count || round->answered[index])
        return;
    if (message->nlmsg_type == NLMSG_ERROR) {
        if (message->nlmsg_len < NLMSG_LENGTH(sizeof(*error)) || error->error >= 0)
            return;
        code = error->error;
    }
    /* The kernel's own shortage is no answer. */
    if (code == -ENOBUFS || code == -ENOMEM || code == -EAGAIN)
        return;
    round->answered[index] = true;
    round->left--;
    round->answer(round->user, index, code, code == 0 ? message : NULL);
}

static void take_datagram(struct round *round, const void *buffer, size_t length)
{
    const struct nlmsghdr *message = buffer;
    unsigned left = (unsigned)length;

    for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left))
        give_answer(round, message);
}

/* Reads what is there. */
static void read_answers(struct kernel *kernel, struct round *round)
{
    const size_t count = round->left, size = BUFFER_SIZE / KERNEL_BATCH * (KERNEL_BATCH / count);
    struct mmsghdr messages[KERNEL_BATCH];
    struct iovec parts[KERNEL_BATCH];

    for (unsigned tries = 0; tries <= KERNEL_BATCH && round->left > 0; tries++) {
        for (size_t i = 0; i < count; i++) {
            parts[i] = (struct iovec){.iov_base = kernel->buffer + i * size, .iov_len = size};
            messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
        }
        const int n = recvmmsg(kernel->fd, messages, (unsigned)count, MSG_DONTWAIT, NULL);
        if (n < 0 && errno == EAGAIN)
            return;
        for (int i = 0; i < n; i++)
            if (!(messages[i].msg_hdr.msg_flags & MSG_TRUNC))
                take_datagram(round, parts[i].iov_base, messages[i].msg_len);
    }
}

void kernel_ask(struct kernel *kernel, struct kernel_question *questions, size_t count,
                kernel_answer_cb *answer, void *user)
{
    struct round round = {
        .questions = questions, .count = count, .left = count, .answer = answer, .user = user};

    assert(count <= KERNEL_BATCH);
    /* Answers that found no room in the socket are asked for again, as long as some did. */
    for (size_t before = count + 1; round.left > 0 && round.left < before;) {
        before = round.left;
        if (!send_questions(kernel, &round))
            break;
        read_answers(kernel, &round);
    }
    for (size_t i = 0; i < count; i++)
        if (!round.answered[i])
            answer(user, i, KERNEL_SILENT, NULL);
}
