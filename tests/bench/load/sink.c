#include "tests/bench/load/sink.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <sink.skel.h>

#include "tests/bench/load/load.h"

/* enum bpf_attach_type; headers of before Linux 6.6 do not have it. */
#define ATTACH_TCX_INGRESS 46

struct sink {
    uint32_t rows;
    const volatile struct sink_row *row;
};

struct sink *sink_open(const char *name_space, const char *device, uint16_t port, bool tagged,
                       uint32_t rows)
{
    struct sink *sink = calloc(1, sizeof(*sink));
    struct sink_bpf *program = sink_bpf__open();
    const unsigned index = namespace_device(name_space, device);
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (sink == NULL || program == NULL)
        die("sink: %s", strerror(errno));
    program->rodata->settings.tagged = tagged;
    program->rodata->settings.rows = rows;
    program->rodata->settings.port = htons(port);
    bpf_map__set_max_entries(program->maps.rows, rows);
    if (sink_bpf__load(program) < 0)
        die("sink: %s", strerror(errno));
    /* An index means a device of the caller's namespace. */
    namespace_enter(name_space);
    if (bpf_link_create(bpf_program__fd(program->progs.sink), (int)index,
                        (enum bpf_attach_type)ATTACH_TCX_INGRESS, NULL) < 0)
        die("sink: %s: %s (TCX is needed, Linux 6.6)", device, strerror(errno));
    sink->rows = rows;
    sink->row = mmap(NULL, (rows * sizeof(struct sink_row) + page - 1) / page * page, PROT_READ,
                     MAP_SHARED, bpf_map__fd(program->maps.rows), 0);
    if (sink->row == MAP_FAILED)
        die("sink: %s", strerror(errno));
    return sink;
}

uint64_t sink_packets(const struct sink *sink)
{
    uint64_t packets = 0;

    for (uint32_t i = 0; i < sink->rows; i++)
        packets += sink->row[i].packets;
    return packets;
}

struct sink_row sink_row(const struct sink *sink, uint32_t row)
{
    return (struct sink_row){sink->row[row].packets, sink->row[row].last_ns};
}
