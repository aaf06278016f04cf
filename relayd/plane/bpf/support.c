#include "relayd/plane/bpf/support.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "relayd/plane/bpf/attachments.h"

/* ---- permission ------------------------------------------------------------------------------ */

static bool has_capability(cap_t capabilities, cap_value_t capability)
{
    cap_flag_value_t value = CAP_CLEAR;

    return cap_get_flag(capabilities, capability, CAP_EFFECTIVE, &value) == 0 && value == CAP_SET;
}

int support_capabilities(const char **why)
{
    static const struct {
        cap_value_t capability;
        bool administrator; /* CAP_SYS_ADMIN does as well */
        const char *why;
    } wanted[] = {
        {CAP_BPF, true, "CAP_BPF is missing"},
        {CAP_PERFMON, true, "CAP_PERFMON is missing"},
        {CAP_NET_ADMIN, false, "CAP_NET_ADMIN is missing"},
    };
    cap_t capabilities = cap_get_proc();
    int r = 0;

    if (capabilities == NULL) {
        *why = "its capabilities cannot be read";
        return -errno;
    }
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]) && r == 0; i++) {
        if (has_capability(capabilities, wanted[i].capability) ||
            (wanted[i].administrator && has_capability(capabilities, CAP_SYS_ADMIN)))
            continue;
        *why = wanted[i].why;
        r = -EPERM;
    }
    cap_free(capabilities);
    return r;
}

/* ---- what went wrong ------------------------------------------------------------------------- */

static bool kernel_is_older_than(unsigned major, unsigned minor)
{
    struct utsname name;
    unsigned is_major = 0, is_minor = 0;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &is_major, &is_minor) != 2)
        return false;
    return is_major < major || (is_major == major && is_minor < minor);
}

const char *support_explain(int error)
{
    switch (-error) {
    case EPERM: /* not EACCES: the verifier says that of what it does not understand */
        return "the kernel forbids BPF here (container, security policy)";
    case ENOMEM:
        return "there is no memory for its tables";
    case E2BIG:
        return "its tables are larger than the kernel allows";
    case ENOSYS:
        return "the kernel is built without BPF";
    case EMFILE:
    case ENFILE:
        return "too many files are open";
    default:
        break;
    }
    return kernel_is_older_than(6, 1) ? "the kernel is older than Linux 6.1"
                                      : "the kernel refuses the program (log.level debug: why)";
}

/* ---- without capabilities -------------------------------------------------------------------- */

int support_without_capabilities(int map_fd, const char **why)
{
    cap_t before = cap_get_proc(), without = before == NULL ? NULL : cap_dup(before);
    uint32_t key = UINT32_MAX; /* in no table */
    char value[1];
    int r;

    *why = "its capabilities cannot be laid down";
    if (without == NULL || cap_clear_flag(without, CAP_EFFECTIVE) < 0 ||
        cap_set_proc(without) < 0) {
        r = -errno;
    } else {
        r = bpf_map_lookup_elem(map_fd, &key, value);
        if (r == -EPERM)
            *why = "the kernel is older than Linux 5.19";
        else
            r = 0;
        if (cap_set_proc(before) < 0) {
            *why = "its capabilities cannot be taken up again";
            r = -errno;
        }
    }
    if (without != NULL)
        cap_free(without);
    if (before != NULL)
        cap_free(before);
    return r;
}

/* ---- features -------------------------------------------------------------------------------- */

#define CSUM_IPV6_FLAG (1u << 7) /* BPF_F_IPV6, which not every <linux/bpf.h> has */

#define SET_REGISTER(number, value)                                                                \
    {                                                                                              \
        .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = (number), .imm = (value)                   \
    }

uint32_t support_csum_ipv6_flag(void)
{
    /* Changes the checksum at octet 40 by nothing; returns what the helper says of the flags. */
    const struct bpf_insn code[] = {
        SET_REGISTER(BPF_REG_2, 40),
        SET_REGISTER(BPF_REG_3, 0),
        SET_REGISTER(BPF_REG_4, 0),
        SET_REGISTER(BPF_REG_5, (int32_t)(BPF_F_PSEUDO_HDR | CSUM_IPV6_FLAG)),
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_l4_csum_replace},
        {.code = BPF_JMP | BPF_EXIT},
    };
    const uint8_t packet[ETH_ZLEN] = {[12] = 0x86, [13] = 0xdd};
    LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = packet, .data_size_in = sizeof(packet));
    const int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "sockst_probe", "Dual BSD/GPL", code,
                                 sizeof(code) / sizeof(code[0]), NULL);

    if (fd < 0)
        return 0;
    const int r = bpf_prog_test_run_opts(fd, &run);
    close(fd);
    return r == 0 && run.retval == 0 ? CSUM_IPV6_FLAG : 0;
}

bool support_tcx(int program_fd)
{
    const int fd =
        bpf_link_create(program_fd, INT_MAX, (enum bpf_attach_type)TCX_INGRESS_ATTACH_TYPE, NULL);

    if (fd >= 0) { /* there is such an interface */
        close(fd);
        return true;
    }
    return fd == -ENODEV;
}
