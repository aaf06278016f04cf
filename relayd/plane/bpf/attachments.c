#include "relayd/plane/bpf/attachments.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "relayd/plane/bpf/stub.h"
#include "relayd/plane/bpf/support.h"

struct attachment {
    uint32_t interface;
    int link;                /* TCX */
    struct stub_place place; /* clsact */
};

struct attachments {
    enum attach_mode mode;
    int programs[BPF_ENTRIES], stubs[BPF_ENTRIES];
    int stub_table;
    struct attachment list[ATTACHMENTS_MAX];
    size_t count;
};

static struct attachment *find(struct attachments *attachments, uint32_t interface)
{
    for (size_t i = 0; i < attachments->count; i++)
        if (attachments->list[i].interface == interface)
            return &attachments->list[i];
    return NULL;
}

/* ---- one interface --------------------------------------------------------------------------- */

static int link_create(const struct attachments *attachments, uint32_t interface,
                       enum bpf_entry entry)
{
    return bpf_link_create(attachments->programs[entry], (int)interface,
                           (enum bpf_attach_type)TCX_INGRESS_ATTACH_TYPE, NULL);
}

static int make(struct attachments *attachments, struct attachment *attachment,
                enum bpf_entry entry)
{
    if (attachments->mode == ATTACH_CLSACT)
        return stub_attach(attachment->interface, attachments->stubs[entry], &attachment->place);
    attachment->link = link_create(attachments, attachment->interface, entry);
    return attachment->link < 0 ? attachment->link : 0;
}

static void undo(struct attachments *attachments, struct attachment *attachment)
{
    if (attachments->mode == ATTACH_CLSACT)
        (void)stub_detach(attachment->interface, &attachment->place); /* it may have gone */
    else
        close(attachment->link);
}

static void forget(struct attachments *attachments, struct attachment *attachment)
{
    *attachment = attachments->list[--attachments->count];
}

/*
 * An interface may have gone and come back with the same index: the link is then one to nothing,
 * the stub has gone. The kernel does not take a program twice, and so tells whether ours is there.
 */
static int renew(struct attachments *attachments, struct attachment *attachment,
                 enum bpf_entry entry)
{
    int r;

    if (attachments->mode == ATTACH_CLSACT) {
        if (stub_is_attached(attachment->interface, &attachment->place))
            return 0;
        r = stub_attach(attachment->interface, attachments->stubs[entry], &attachment->place);
    } else {
        r = link_create(attachments, attachment->interface, entry);
        if (r == -EEXIST)
            return 0;
        close(attachment->link);
        attachment->link = r;
    }
    if (r >= 0)
        return 0;
    forget(attachments, attachment);
    return r;
}

int attachments_attach(struct attachments *attachments, uint32_t interface, bool bare)
{
    const enum bpf_entry entry = bare ? BPF_ENTRY_BARE : BPF_ENTRY_LINK;
    struct attachment *attachment = find(attachments, interface);

    if (attachment != NULL)
        return renew(attachments, attachment, entry);
    if (attachments->count == ATTACHMENTS_MAX)
        return -ENOSPC;
    attachment = &attachments->list[attachments->count];
    *attachment = (struct attachment){.interface = interface, .link = -1};
    const int r = make(attachments, attachment, entry);
    if (r == 0)
        attachments->count++;
    return r;
}

void attachments_detach(struct attachments *attachments, uint32_t interface)
{
    struct attachment *attachment = find(attachments, interface);

    if (attachment == NULL)
        return;
    undo(attachments, attachment);
    forget(attachments, attachment);
}

bool attachments_has(const struct attachments *attachments, uint32_t interface)
{
    for (size_t i = 0; i < attachments->count; i++)
        if (attachments->list[i].interface == interface)
            return true;
    return false;
}

enum attach_mode attachments_mode(const struct attachments *attachments)
{
    return attachments->mode;
}

/* ---- lifecycle ------------------------------------------------------------------------------- */

static int fill_stub_table(const struct attachments *attachments)
{
    for (uint32_t entry = 0; entry < BPF_ENTRIES; entry++) {
        const int r = bpf_map_update_elem(attachments->stub_table, &entry,
                                          &attachments->programs[entry], BPF_ANY);
        if (r < 0)
            return r;
    }
    return 0;
}

static void empty_stub_table(const struct attachments *attachments)
{
    for (uint32_t entry = 0; entry < BPF_ENTRIES; entry++)
        (void)bpf_map_delete_elem(attachments->stub_table, &entry);
}

int attachments_new(struct attachments **out, const struct attachments_config *config,
                    const char **why)
{
    const bool has_tcx =
        config->mode != ATTACH_CLSACT && support_tcx(config->programs[BPF_ENTRY_LINK]);
    int r;

    if (config->mode == ATTACH_TCX && !has_tcx) {
        *why = "the kernel has no TCX (Linux 6.6)";
        return -EOPNOTSUPP;
    }
    struct attachments *attachments = calloc(1, sizeof(*attachments));
    if (attachments == NULL) {
        *why = support_explain(-ENOMEM);
        return -ENOMEM;
    }
    attachments->mode = has_tcx ? ATTACH_TCX : ATTACH_CLSACT;
    attachments->stub_table = config->stub_table;
    for (size_t entry = 0; entry < BPF_ENTRIES; entry++) {
        attachments->programs[entry] = config->programs[entry];
        attachments->stubs[entry] = config->stubs[entry];
    }
    if (attachments->mode == ATTACH_CLSACT && (r = fill_stub_table(attachments)) < 0) {
        *why = "the kernel does not take the program into the stubs' table";
        free(attachments);
        return r;
    }
    *out = attachments;
    return 0;
}

void attachments_free(struct attachments *attachments)
{
    if (attachments == NULL)
        return;
    /* The stubs may have to stay, for want of a capability: they do nothing from here on. */
    if (attachments->mode == ATTACH_CLSACT)
        empty_stub_table(attachments);
    while (attachments->count > 0)
        attachments_detach(attachments, attachments->list[0].interface);
    free(attachments);
}
