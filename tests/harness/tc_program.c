#include "tests/harness/tc_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TCX_INGRESS 46
#define GO_ON (-1) /* TCX_NEXT, TC_ACT_UNSPEC */
#define DROP 2     /* TCX_DROP, TC_ACT_SHOT */

struct watched {
    uint64_t count;
    int64_t verdict;
};

struct tc_program {
    int map, program, link; /* link -1: a filter */
};

/* The calling thread works in the place meanwhile. Returns what namespace_leave() wants. */
static int namespace_enter(const struct lab *lab, enum lab_place place)
{
    const int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(own, 0);
    ck_assert_msg(setns(lab_netns(lab, place), CLONE_NEWNET) == 0, "setns: %s", strerror(errno));
    return own;
}

static void namespace_leave(int own)
{
    ck_assert_msg(setns(own, CLONE_NEWNET) == 0, "setns: %s", strerror(errno));
    close(own);
}

#define INSTRUCTION(code_, dst, src, off_, imm_)                                                   \
    {                                                                                              \
        .code = (code_), .dst_reg = (dst), .src_reg = (src), .off = (off_), .imm = (imm_)          \
    }

static int load(int map)
{
    const struct bpf_insn code[] = {
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0),
        /* IPv4 without options, UDP? */
        INSTRUCTION(BPF_LD | BPF_ABS | BPF_H, 0, 0, 0, 12),
        INSTRUCTION(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_0, 0, 13, ETH_P_IP),
        INSTRUCTION(BPF_LD | BPF_ABS | BPF_B, 0, 0, 0, 23),
        INSTRUCTION(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_0, 0, 11, IPPROTO_UDP),
        INSTRUCTION(BPF_LD | BPF_ABS | BPF_H, 0, 0, 0, 36),
        INSTRUCTION(BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, BPF_REG_0, -4, 0),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4),
        INSTRUCTION(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map),
        INSTRUCTION(0, 0, 0, 0, 0),
        INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
        INSTRUCTION(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 4, 0),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_1, 0, 0, 1),
        INSTRUCTION(BPF_STX | BPF_ATOMIC | BPF_DW, BPF_REG_0, BPF_REG_1, 0, BPF_ADD),
        INSTRUCTION(BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_0, BPF_REG_0, 8, 0),
        INSTRUCTION(BPF_JMP | BPF_JA, 0, 0, 1, 0),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, GO_ON),
        INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    const int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "somebody_else", "GPL", code,
                                 sizeof(code) / sizeof(code[0]), NULL);

    ck_assert_msg(fd >= 0, "bpf_prog_load: %s", strerror(-fd));
    return fd;
}

static struct tc_program *new_program(void)
{
    struct tc_program *program = calloc(1, sizeof(*program));

    ck_assert_ptr_nonnull(program);
    program->map = bpf_map_create(BPF_MAP_TYPE_HASH, "ports", sizeof(uint32_t),
                                  sizeof(struct watched), 16, NULL);
    ck_assert_int_ge(program->map, 0);
    program->program = load(program->map);
    program->link = -1;
    return program;
}

bool tc_program_attach(struct lab *lab, enum lab_place place, const char *interface,
                       struct tc_program **out)
{
    struct tc_program *program = new_program();
    const int own = namespace_enter(lab, place);

    program->link = bpf_link_create(program->program, (int)if_nametoindex(interface),
                                    (enum bpf_attach_type)TCX_INGRESS, NULL);
    namespace_leave(own);
    if (program->link == -EINVAL) {
        tc_program_free(program);
        return false;
    }
    ck_assert_msg(program->link >= 0, "bpf_link_create: %s", strerror(-program->link));
    *out = program;
    return true;
}

void tc_program_filter(struct lab *lab, enum lab_place place, const char *interface,
                       uint32_t preference, struct tc_program **out)
{
    struct tc_program *program = new_program();
    LIBBPF_OPTS(bpf_tc_hook, hook, .attach_point = BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program->program, .priority = preference,
                .handle = 1);
    const int own = namespace_enter(lab, place);

    hook.ifindex = (int)if_nametoindex(interface);
    libbpf_set_print(NULL);
    int r = bpf_tc_hook_create(&hook);
    ck_assert_msg(r == 0 || r == -EEXIST, "clsact: %s", strerror(-r));
    r = bpf_tc_attach(&hook, &options);
    namespace_leave(own);
    ck_assert_msg(r == 0, "bpf_tc_attach: %s", strerror(-r));
    *out = program;
}

void tc_program_watch(struct tc_program *program, uint16_t port, bool drop)
{
    const uint32_t key = port;
    const struct watched value = {.verdict = drop ? DROP : GO_ON};

    ck_assert_int_eq(bpf_map_update_elem(program->map, &key, &value, BPF_ANY), 0);
}

uint64_t tc_program_count(struct tc_program *program, uint16_t port)
{
    const uint32_t key = port;
    struct watched value;

    ck_assert_int_eq(bpf_map_lookup_elem(program->map, &key, &value), 0);
    return value.count;
}

void tc_program_free(struct tc_program *program)
{
    if (program->link >= 0)
        close(program->link);
    close(program->program);
    close(program->map);
    free(program);
}
