/*
 * Stubs: what an interface holds in a filter of clsact where there is no TCX. A filter outlives the
 * process that made it; the stub calls the program through a table that does not (see program.h).
 *
 * A stub is known by its name, which says whose it is: "sockst.INSTANCE", with '.' for '-', or,
 * where that is longer than the kernel's 15 octets, "sockst_" and a hash.
 */
#ifndef SOCKST_RELAYD_BPF_STUB_H
#define SOCKST_RELAYD_BPF_STUB_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STUB_NAME_SIZE 16      /* BPF_OBJ_NAME_LEN */
#define STUBS_REMOVED_MAX 4096 /* in one go */

/* A filter of the kernel's, at one interface. */
struct stub_place {
    uint32_t handle, priority;
};

void stub_name(const char *instance, char name[STUB_NAME_SIZE]);

/* Loads `model`, a loaded stub, once more under the instance's name. Returns a descriptor or
 * -errno. */
int stub_load(const struct bpf_program *model, const char *instance);

/* Puts it at the interface's ingress, which gets clsact if it has none. Needs CAP_NET_ADMIN.
 * Returns 0 or -errno. */
int stub_attach(uint32_t interface, int stub_fd, struct stub_place *out);
/* Needs CAP_NET_ADMIN. Returns 0 or -errno. clsact stays: others may use it. */
int stub_detach(uint32_t interface, const struct stub_place *place);
/* Needs no privilege. */
bool stub_is_attached(uint32_t interface, const struct stub_place *place);

/*
 * Removes the instance's stubs from all interfaces of this network namespace. Returns how many, or
 * -errno: of the first that could not be removed (-EPERM), or of the kernel's tables.
 */
int stubs_remove(const char *instance);

#endif
