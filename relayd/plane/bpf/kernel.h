/*
 * Questions to the kernel's tables, several in one go. The kernel answers within the call that
 * sends them, so nothing here waits for anything but the kernel's own locks.
 */
#ifndef SOCKST_RELAYD_BPF_KERNEL_H
#define SOCKST_RELAYD_BPF_KERNEL_H

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

struct kernel;

/* Questions of one call. */
#define KERNEL_BATCH 16
#define KERNEL_QUESTION_SIZE 96

struct kernel_question {
    _Alignas(struct nlmsghdr) uint8_t octets[KERNEL_QUESTION_SIZE];
};

/* Returns 0 or -errno. */
int kernel_open(struct kernel **out);
void kernel_close(struct kernel *kernel); /* NULL is allowed */

/* Starts a question: its type (RTM_GET…) and the header that belongs to it. */
void kernel_question(struct kernel_question *question, uint16_t type, const void *header,
                     size_t header_size);
/* Adds an attribute; the caller knows that there is room. */
void kernel_question_add(struct kernel_question *question, uint16_t type, const void *data,
                         size_t size);

/* The kernel did not answer: it had no memory, or the answer found no room. Later it may. */
#define KERNEL_SILENT (-ENOMSG)

/*
 * One answer: `message` (borrowed), or NULL and an error: the kernel's -errno, or KERNEL_SILENT.
 * Must not ask.
 */
typedef void kernel_answer_cb(void *user, size_t index, int error, const struct nlmsghdr *message);

/* Asks up to KERNEL_BATCH questions and calls back once for each, in any order. */
void kernel_ask(struct kernel *kernel, struct kernel_question *questions, size_t count,
                kernel_answer_cb *answer, void *user);

#endif
