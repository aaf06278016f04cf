/*
 * A list of what is denied, not of what is allowed: libc, libuv and the resolver may use new system
 * calls with their next release, and a relay that dies of that is worse than one that may call
 * them. With no capability left, the list takes away what is dangerous without one.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "common/system/privileges.h"
#include "common/system/sanitizer.h"

/* By name: libseccomp knows which of them this architecture has. */
static const char *const denied[] = {
    /* other programs and processes */
    "execve",
    "execveat",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    /* namespaces and file systems */
    "unshare",
    "setns",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "open_tree",
    "mount_setattr",
    "mknod",
    "mknodat",
    "name_to_handle_at",
    "open_by_handle_at",
    "fanotify_init",
    "quotactl",
    "quotactl_fd",
    "swapon",
    "swapoff",
    "acct",
    /* the kernel */
    "perf_event_open",
    "userfaultfd",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "query_module",
    "get_kernel_syms",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "syslog",
    "lookup_dcookie",
    "nfsservctl",
    "_sysctl",
    "uselib",
    "ustat",
    "sysfs",
    /* keys, identity, the machine */
    "add_key",
    "request_key",
    "keyctl",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "setfsuid",
    "setfsgid",
    "setuid32",
    "setgid32",
    "setreuid32",
    "setregid32",
    "setresuid32",
    "setresgid32",
    "setgroups32",
    "setfsuid32",
    "setfsgid32",
    "settimeofday",
    "clock_settime",
    "clock_settime64",
    "clock_adjtime",
    "clock_adjtime64",
    "adjtimex",
    "stime",
    "sethostname",
    "setdomainname",
    "iopl",
    "ioperm",
    "modify_ldt",
    "vm86",
    "vm86old",
    "personality",
    "vhangup",
    "move_pages",
    "migrate_pages",
};

/* socksd sees no data: relayd alone moves it from one descriptor to another, or has the kernel move
 * it. */
static const char *const denied_to_socksd[] = {
    "bpf", "splice", "tee", "vmsplice", "sendfile", "sendfile64", "copy_file_range",
};

/* What relayd does with the descriptors of tables and programs that it holds, and nothing else. */
static const uint64_t bpf_commands[] = {
    BPF_MAP_LOOKUP_ELEM,  BPF_MAP_UPDATE_ELEM,  BPF_MAP_DELETE_ELEM,
    BPF_MAP_UPDATE_BATCH, BPF_MAP_DELETE_BATCH, BPF_LINK_CREATE,
};
#define BPF_COMMANDS_END 64 /* a power of two; further ones are denied */

/* As if the kernel were older: io_uring passes the filter by, clone3 hides its flags from it. */
static const char *const unknown[] = {
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "clone3",
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int deny(scmp_filter_ctx filter, const char *const *names, size_t count, uint32_t action)
{
    for (size_t i = 0; i < count; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        int r;

        if (number == __NR_SCMP_ERROR)
            continue; /* no architecture of this libseccomp has it */
        r = seccomp_rule_add(filter, action, number, 0);
        if (r < 0 && r != -EDOM)
            return r;
    }
    return 0;
}

#if defined(__s390x__)
#define CLONE_FLAGS_ARGUMENT 1
#else
#define CLONE_FLAGS_ARGUMENT 0
#endif

static int deny_new_namespaces(scmp_filter_ctx filter)
{
    static const int flags[] = {CLONE_NEWNS,  CLONE_NEWUTS, CLONE_NEWIPC,   CLONE_NEWUSER,
                                CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP};

    for (size_t i = 0; i < COUNT(flags); i++) {
        const struct scmp_arg_cmp compare = {.arg = CLONE_FLAGS_ARGUMENT,
                                             .op = SCMP_CMP_MASKED_EQ,
                                             .datum_a = (scmp_datum_t)flags[i],
                                             .datum_b = (scmp_datum_t)flags[i]};
        int r = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, &compare);

        if (r < 0)
            return r;
    }
    return 0;
}

static bool may_have_family(int family)
{
    return family == AF_UNSPEC || family == AF_UNIX || family == AF_INET || family == AF_INET6 ||
           family == AF_NETLINK;
}

static int deny_families(scmp_filter_ctx filter, enum scmp_compare op, int family)
{
    const struct scmp_arg_cmp compare = {.arg = 0, .op = op, .datum_a = (scmp_datum_t)family};

    return seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                  &compare);
}

static int deny_other_families(scmp_filter_ctx filter)
{
    int r = 0;

    for (int family = 0; family <= AF_NETLINK && r == 0; family++)
        if (!may_have_family(family))
            r = deny_families(filter, SCMP_CMP_EQ, family);
    return r < 0 ? r : deny_families(filter, SCMP_CMP_GT, AF_NETLINK);
}

/* ---- bpf(2) ---------------------------------------------------------------------------------- */

static bool has_permitted(uint64_t first, uint64_t count)
{
    for (size_t i = 0; i < COUNT(bpf_commands); i++)
        if (bpf_commands[i] >= first && bpf_commands[i] < first + count)
            return true;
    return false;
}

static int deny_bpf(scmp_filter_ctx filter, const struct scmp_arg_cmp *command)
{
    return seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(bpf), 1, command);
}

/* As few comparisons as there can be: relays are opened through them. `count`: a power of two. */
static int deny_bpf_commands(scmp_filter_ctx filter, uint64_t first, uint64_t count)
{
    int r;

    if (!has_permitted(first, count))
        return deny_bpf(filter, &(struct scmp_arg_cmp){.arg = 0,
                                                       .op = SCMP_CMP_MASKED_EQ,
                                                       .datum_a = ~(count - 1),
                                                       .datum_b = first});
    if (count == 1)
        return 0;
    r = deny_bpf_commands(filter, first, count / 2);
    return r < 0 ? r : deny_bpf_commands(filter, first + count / 2, count / 2);
}

static int deny_other_bpf_commands(scmp_filter_ctx filter)
{
    int r = deny_bpf_commands(filter, 0, BPF_COMMANDS_END);

    /* The kernel looks at 32 bits, this at 64: whoever sets others is denied. */
    return r < 0 ? r
                 : deny_bpf(filter, &(struct scmp_arg_cmp){
                                        .arg = 0, .op = SCMP_CMP_GE, .datum_a = BPF_COMMANDS_END});
}

/* ---- all ------------------------------------------------------------------------------------- */

static int build(scmp_filter_ctx filter, enum sandbox_profile profile)
{
    const uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
    int r;

    /* A call by another architecture's numbers is an error, not the end of the process. */
    r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    if (r < 0)
        return r;
    /* A binary search instead of a comparison with every number; older libraries do without. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    r = deny(filter, denied, COUNT(denied), refuse);
    if (r == 0 && profile == SANDBOX_SOCKSD)
        r = deny(filter, denied_to_socksd, COUNT(denied_to_socksd), refuse);
    if (r == 0 && profile == SANDBOX_RELAYD)
        r = deny_other_bpf_commands(filter);
    if (r == 0)
        r = deny(filter, unknown, COUNT(unknown), SCMP_ACT_ERRNO(ENOSYS));
    if (r == 0)
        r = deny_new_namespaces(filter);
    if (r == 0)
        r = deny_other_families(filter);
    return r;
}

int sandbox_enter(enum sandbox_profile profile)
{
    scmp_filter_ctx filter;
    int r;

    if (SOCKST_SANITIZED || prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0)
        return -ENOSYS;
    filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        return -ENOMEM;
    r = build(filter, profile);
    if (r == 0)
        r = seccomp_load(filter);
    seccomp_release(filter);
    return r;
}
