#include "relayd/plane/bpf/program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include <relay_program.skel.h>

#include "relayd/plane/bpf/attachments.h"
#include "relayd/plane/bpf/libbpf_log.h"
#include "relayd/plane/bpf/rings.h"
#include "relayd/plane/bpf/stub.h"
#include "relayd/plane/bpf/support.h"

struct program {
    struct relay_program *skeleton;
    struct bpf_tables tables;
    int stubs[BPF_ENTRIES]; /* under the instance's name; -1: none */
    struct attachments *attachments;
    struct rings *rings;
    int processors;
    uint64_t *counter; /* of each processor, while it is being read */
};

/* ---- loading --------------------------------------------------------------------------------- */

static int random_mark(uint32_t *mark)
{
    do {
        if (getrandom(mark, sizeof(*mark), 0) != sizeof(*mark))
            return -EIO;
    } while (*mark == 0);
    return 0;
}

static int set_sizes(const struct relay_program *skeleton, const struct program_config *config)
{
    const struct {
        struct bpf_map *map;
        uint64_t rows;
    } sizes[] = {
        {skeleton->maps.flows, 2 * (uint64_t)config->slots},
        {skeleton->maps.slots, config->slots},
        {skeleton->maps.endpoints, config->endpoints},
        {skeleton->maps.strangers, config->endpoints},
    };
    int r = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]) && r == 0; i++)
        r = sizes[i].rows > INT32_MAX
                ? -E2BIG
                : bpf_map__set_max_entries(sizes[i].map, (uint32_t)sizes[i].rows);
    return r;
}

static int load_skeleton(struct program *program, const struct program_config *config)
{
    struct bpf_settings *settings;
    int r;

    program->skeleton = relay_program__open();
    if (program->skeleton == NULL)
        return -errno;
    r = set_sizes(program->skeleton, config);
    if (r < 0)
        return r;
    settings = &program->skeleton->rodata->settings;
    settings->protocol = config->protocol;
    settings->csum_ipv6_flag = support_csum_ipv6_flag();
    r = random_mark(&settings->mark);
    return r < 0 ? r : relay_program__load(program->skeleton);
}

/* ---- tables ---------------------------------------------------------------------------------- */

static size_t mapped_size(const struct bpf_map *map)
{
    return ((size_t)bpf_map__value_size(map) + 7) / 8 * 8 * bpf_map__max_entries(map);
}

/* Unmapped by the process's end or unmap_tables(). */
static void *map_table(const struct bpf_map *map)
{
    void *at =
        mmap(NULL, mapped_size(map), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

    return at == MAP_FAILED ? NULL : at;
}

static int map_tables(struct program *program, const struct program_config *config)
{
    const struct relay_program *skeleton = program->skeleton;
    struct bpf_tables *tables = &program->tables;

    tables->slots = map_table(skeleton->maps.slots);
    tables->hops = map_table(skeleton->maps.hops);
    tables->strangers = map_table(skeleton->maps.strangers);
    if (tables->slots == NULL || tables->hops == NULL || tables->strangers == NULL)
        return -errno;
    tables->globals = &skeleton->data->globals;
    tables->slot_count = config->slots;
    tables->endpoint_count = config->endpoints;
    tables->flows_fd = bpf_map__fd(skeleton->maps.flows);
    tables->endpoints_fd = bpf_map__fd(skeleton->maps.endpoints);
    tables->mark = skeleton->rodata->settings.mark;
    return 0;
}

static void unmap_table(void *at, const struct bpf_map *map)
{
    if (at != NULL)
        munmap(at, mapped_size(map));
}

static void unmap_tables(const struct program *program)
{
    const struct relay_program *skeleton = program->skeleton;

    unmap_table(program->tables.slots, skeleton->maps.slots);
    unmap_table(program->tables.hops, skeleton->maps.hops);
    unmap_table(program->tables.strangers, skeleton->maps.strangers);
}

static int prepare_counters(struct program *program)
{
    program->processors = libbpf_num_possible_cpus();
    if (program->processors < 0)
        return program->processors;
    program->counter = calloc((size_t)program->processors, sizeof(*program->counter));
    return program->counter == NULL ? -ENOMEM : 0;
}

/* ---- attaching ------------------------------------------------------------------------------- */

static int prepare_attachments(struct program *program, const struct program_config *config,
                               const char **why)
{
    const struct relay_program *skeleton = program->skeleton;
    const struct bpf_program *models[BPF_ENTRIES] = {
        [BPF_ENTRY_LINK] = skeleton->progs.stub,
        [BPF_ENTRY_BARE] = skeleton->progs.stub_bare,
    };
    const int programs[BPF_ENTRIES] = {
        [BPF_ENTRY_LINK] = bpf_program__fd(skeleton->progs.relay),
        [BPF_ENTRY_BARE] = bpf_program__fd(skeleton->progs.relay_bare),
    };

    for (size_t entry = 0; entry < BPF_ENTRIES; entry++) {
        program->stubs[entry] = stub_load(models[entry], config->instance);
        if (program->stubs[entry] < 0) {
            *why = support_explain(program->stubs[entry]);
            return program->stubs[entry];
        }
    }
    const struct attachments_config attachments = {
        .mode = config->mode,
        .programs = programs,
        .stubs = program->stubs,
        .stub_table = bpf_map__fd(skeleton->maps.progs),
    };
    return attachments_new(&program->attachments, &attachments, why);
}

int program_attach(struct program *program, uint32_t interface, bool bare)
{
    return attachments_attach(program->attachments, interface, bare);
}

void program_detach(struct program *program, uint32_t interface)
{
    attachments_detach(program->attachments, interface);
}

bool program_is_attached(const struct program *program, uint32_t interface)
{
    return attachments_has(program->attachments, interface);
}

enum attach_mode program_mode(const struct program *program)
{
    return attachments_mode(program->attachments);
}

int program_remove_stubs(const char *instance)
{
    libbpf_log_setup();
    return stubs_remove(instance);
}

/* ---- what it tells --------------------------------------------------------------------------- */

int program_listen(struct program *program, uv_loop_t *loop, const struct program_ops *ops,
                   void *user)
{
    const struct rings_config config = {
        .events = bpf_map__fd(program->skeleton->maps.events),
        .strangers = bpf_map__fd(program->skeleton->maps.strangers_ring),
        .answers = bpf_map__fd(program->skeleton->maps.answers),
        .globals = program->tables.globals,
        .ops = ops,
        .user = user,
    };

    return rings_open(&program->rings, loop, &config);
}

void program_counters(const struct program *program, uint64_t out[BPF_COUNT_END])
{
    const int fd = bpf_map__fd(program->skeleton->maps.counters);

    for (uint32_t count = 0; count < BPF_COUNT_END; count++) {
        out[count] = 0;
        if (bpf_map_lookup_elem(fd, &count, program->counter) < 0)
            continue;
        for (int processor = 0; processor < program->processors; processor++)
            out[count] += program->counter[processor];
    }
}

const struct bpf_tables *program_tables(const struct program *program)
{
    return &program->tables;
}

/* ---- lifecycle ------------------------------------------------------------------------------- */

static int load(struct program *program, const struct program_config *config, const char **why)
{
    int r = support_capabilities(why);

    if (r < 0)
        return r;
    r = load_skeleton(program, config);
    if (r == 0)
        r = map_tables(program, config);
    if (r == 0)
        r = prepare_counters(program);
    if (r < 0) {
        *why = support_explain(r);
        return r;
    }
    r = support_without_capabilities(program->tables.flows_fd, why);
    return r < 0 ? r : prepare_attachments(program, config, why);
}

int program_load(struct program **out, const struct program_config *config, const char **why)
{
    struct program *program = calloc(1, sizeof(*program));

    if (program == NULL) {
        *why = support_explain(-ENOMEM);
        return -ENOMEM;
    }
    for (size_t entry = 0; entry < BPF_ENTRIES; entry++)
        program->stubs[entry] = -1;
    libbpf_log_setup();
    const int r = load(program, config, why);
    if (r < 0) {
        program_free(program);
        return r;
    }
    *out = program;
    return 0;
}

void program_free(struct program *program)
{
    if (program == NULL)
        return;
    attachments_free(program->attachments);
    rings_close(program->rings);
    for (size_t entry = 0; entry < BPF_ENTRIES; entry++)
        if (program->stubs[entry] >= 0)
            close(program->stubs[entry]);
    if (program->skeleton != NULL)
        unmap_tables(program);
    relay_program__destroy(program->skeleton);
    free(program->counter);
    free(program);
}
