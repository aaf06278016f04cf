#include "tests/harness/disorder.h"

#include <bpf/libbpf.h>
#include <check.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <unistd.h>

#include "disorder.skel.h"

static void attach(int program, unsigned interface)
{
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)interface, .attach_point = BPF_TC_INGRESS);
    LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = program, .handle = 1, .priority = 1);

    (void)bpf_tc_hook_create(&hook); /* may exist */
    ck_assert_int_eq(bpf_tc_attach(&hook, &options), 0);
}

static void stop(void *user)
{
    disorder_bpf__destroy(user);
}

/* In the place's namespace, where the names mean something. */
static void start_here(struct lab *lab, const char *interface)
{
    struct disorder_bpf *programs = disorder_bpf__open();
    const unsigned detour = if_nametoindex("detour0"), end = if_nametoindex("detour1"),
                   wanted = if_nametoindex(interface);

    ck_assert_ptr_nonnull(programs);
    ck_assert(detour != 0 && end != 0 && wanted != 0);
    programs->rodata->detour_interface = detour;
    programs->rodata->interface = wanted;
    ck_assert_int_eq(disorder_bpf__load(programs), 0);
    attach(bpf_program__fd(programs->progs.back), end);
    attach(bpf_program__fd(programs->progs.disorder), wanted);
    lab_on_free(lab, stop, programs);
}

void disorder_start(struct lab *lab, enum lab_place place, const char *interface)
{
    const int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(home, 0);
    lab_run(lab, place,
            "ip link add detour0 type veth peer name detour1 && ip link set detour0 up &&"
            "ip link set detour1 up");
    ck_assert_int_eq(setns(lab_netns(lab, place), CLONE_NEWNET), 0);
    start_here(lab, interface);
    ck_assert_int_eq(setns(home, CLONE_NEWNET), 0);
    close(home);
}
