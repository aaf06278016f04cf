/*
 * Whether this process may load the program, and what this kernel can do. Everything is found out
 * by trying, not by the kernel's version: distributions carry features back.
 */
#ifndef SOCKST_RELAYD_BPF_SUPPORT_H
#define SOCKST_RELAYD_BPF_SUPPORT_H

#include <stdbool.h>
#include <stdint.h>

/* Texts for `why`: static, at most N2_LABEL_MAX octets. */

/* Does the process have CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON? Returns 0, or -EPERM with *why. */
int support_capabilities(const char **why);

/* Why loading has failed with -errno. */
const char *support_explain(int error);

/*
 * May the table still be used when all capabilities have been dropped? They are laid down for the
 * moment of a look-up (Linux before 5.19 asks for them). Returns 0, or -errno with *why.
 */
int support_without_capabilities(int map_fd, const char **why);

/* BPF_F_IPV6 where bpf_l4_csum_replace() knows it, else 0. By a test run of a tiny program. */
uint32_t support_csum_ipv6_flag(void);

/* Has the kernel TCX (Linux 6.6)? By attaching a program to an interface that does not exist. */
bool support_tcx(int program_fd);

#endif
