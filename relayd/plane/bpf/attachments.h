/*
 * Where the program is attached: TCX links, or stubs in filters of clsact (stub.h). Both go with
 * this process, in that not a packet is changed any more when its descriptors are closed.
 */
#ifndef SOCKST_RELAYD_BPF_ATTACHMENTS_H
#define SOCKST_RELAYD_BPF_ATTACHMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "relayd/bpf/abi.h"
#include "relayd/plane/bpf/program.h"

#define ATTACHMENTS_MAX 1024 /* interfaces */

/* BPF_TCX_INGRESS, which not every <linux/bpf.h> has. */
#define TCX_INGRESS_ATTACH_TYPE 46

/* Descriptors by enum bpf_entry; borrowed. */
struct attachments_config {
    enum attach_mode mode;
    const int *programs;
    const int *stubs;
    int stub_table; /* the PROG_ARRAY that the stubs call */
};

struct attachments;

/* Returns 0; or -errno with *why, when the kernel cannot do what `mode` demands. */
int attachments_new(struct attachments **out, const struct attachments_config *config,
                    const char **why);

/* ATTACH_TCX or ATTACH_CLSACT. */
enum attach_mode attachments_mode(const struct attachments *attachments);

/*
 * As program_attach(). For an interface that is attached already it makes sure that it still is.
 * -ENOSPC: ATTACHMENTS_MAX.
 */
int attachments_attach(struct attachments *attachments, uint32_t interface, bool bare);
void attachments_detach(struct attachments *attachments, uint32_t interface);
bool attachments_has(const struct attachments *attachments, uint32_t interface);

/* Detaches everything. NULL is allowed. */
void attachments_free(struct attachments *attachments);

#endif
