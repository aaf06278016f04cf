#include "tests/integration/ways_lab.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/keyed_hash.h"
#include "common/net/sockaddr.h"

/* Those that wait for a condition look at it once a millisecond; a loop does not sleep so long. */
#define TURNS_AT_ONCE 16

static bool attached(void *user, uint32_t interface)
{
    const struct ways_lab *w = user;

    return interface != 0 && interface != w->detached;
}

static void changed(void *user)
{
    struct ways_lab *w = user;

    w->changes++;
}

static void on_keeper(uv_timer_t *timer)
{
    (void)timer;
}

static void enter(const char *what, int netns)
{
    ck_assert_msg(setns(netns, CLONE_NEWNET) == 0, "setns %s: %s", what, strerror(errno));
}

void ways_lab_open(struct ways_lab *w)
{
    memset(w, 0, sizeof(*w));
    ck_assert_int_eq(keyed_hash_setup(), 0);
    w->lab = lab_new();
    w->hops = calloc(BPF_HOPS_MAX, sizeof(*w->hops));
    ck_assert_ptr_nonnull(w->hops);
    ck_assert_int_eq(uv_loop_init(&w->loop), 0);
    uv_timer_init(&w->loop, &w->keeper);
    uv_timer_start(&w->keeper, on_keeper, 1000, 1000);
    const struct ways_config config = {.loop = &w->loop,
                                       .hops = w->hops,
                                       .protocol = IPPROTO_TCP,
                                       .attached = attached,
                                       .changed = changed,
                                       .user = w};
    FILE *own = fopen("/proc/thread-self/ns/net", "re");
    ck_assert_ptr_nonnull(own);
    enter("relay", lab_netns(w->lab, LAB_RELAY));
    const int rc = ways_open(&w->ways, &config);
    enter("home", fileno(own));
    fclose(own);
    ck_assert_int_eq(rc, 0);
}

void ways_lab_close(struct ways_lab *w)
{
    ck_assert_uint_eq(figure(w, "ways"), 0);
    ways_close(w->ways);
    uv_close((uv_handle_t *)&w->keeper, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&w->loop), 0);
    free(w->hops);
    lab_free(w->lab);
}

static int64_t processor_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void ways_lab_turn(struct ways_lab *w)
{
    const int64_t began = processor_us();

    uv_run(&w->loop, UV_RUN_NOWAIT);
    if (processor_us() - began > w->longest_turn_us) {
        w->longest_turn_us = processor_us() - began;
    }
}

void ways_lab_turns(struct ways_lab *w)
{
    for (int i = 0; i < TURNS_AT_ONCE; i++) {
        ways_lab_turn(w);
    }
}

void ways_lab_settle(struct ways_lab *w)
{
    uint64_t asked;

    do {
        asked = figure(w, "ways_asked_again");
        const int64_t end = now_ms() + 100;
        while (now_ms() < end) {
            ways_lab_turns(w);
            wait_tick();
        }
    } while (figure(w, "ways_asked_again") != asked);
}

struct way *way_to(struct ways_lab *w, const char *peer, const char *local)
{
    const struct ip_address none = {0};
    const struct endpoint to = at(peer, 0);
    struct way *way = NULL;

    if (local == NULL) {
        ck_assert_int_eq(ways_get(w->ways, &to.address, &none, &way), 0);
    } else {
        const struct endpoint from = at(local, 0);
        ck_assert_int_eq(ways_get(w->ways, &to.address, &from.address, &way), 0);
    }
    return way;
}

const struct bpf_hop *hop_of(const struct ways_lab *w, const struct way *way)
{
    return &w->hops[way->hop];
}

bool leads(struct ways_lab *w, const struct way *way, const char *interface, const char *gateway)
{
    const struct bpf_hop *hop = hop_of(w, way);
    const struct endpoint next = at(gateway, 0);

    return way->problem == NULL && way->hop != 0 && way->interface == hop->interface &&
           way->interface == index_of(w, LAB_RELAY, interface) &&
           hop->family == (uint32_t)ip_address_af(&next.address) &&
           memcmp(hop->gateway, next.address.bytes, ip_address_size(&next.address)) == 0;
}

static const char *mac_text(const uint8_t mac[6])
{
    static char texts[8][18];
    static unsigned turn;
    char *text = texts[turn++ % 8];

    snprintf(text, sizeof(texts[0]), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
             mac[3], mac[4], mac[5]);
    return text;
}

static bool interface_request(const struct ways_lab *w, enum lab_place place, const char *interface,
                              unsigned long request, struct ifreq *out)
{
    const int fd = lab_socket(w->lab, place, AF_INET, SOCK_DGRAM, 0);

    memset(out, 0, sizeof(*out));
    snprintf(out->ifr_name, sizeof(out->ifr_name), "%s", interface);
    const int rc = ioctl(fd, request, out);
    close(fd);
    return rc == 0;
}

uint32_t index_of(const struct ways_lab *w, enum lab_place place, const char *interface)
{
    struct ifreq request;

    return interface_request(w, place, interface, SIOCGIFINDEX, &request)
               ? (uint32_t)request.ifr_ifindex
               : 0;
}

const char *mac_of(const struct ways_lab *w, enum lab_place place, const char *interface)
{
    struct ifreq request;

    return interface_request(w, place, interface, SIOCGIFHWADDR, &request)
               ? mac_text((const uint8_t *)request.ifr_hwaddr.sa_data)
               : "";
}

bool is_direct(struct ways_lab *w, const struct way *way, const char *mac)
{
    const struct bpf_hop *hop = hop_of(w, way);
    char interface[IF_NAMESIZE] = "";
    struct ifreq request = {.ifr_ifindex = (int)hop->interface};
    const int fd = lab_socket(w->lab, LAB_RELAY, AF_INET, SOCK_DGRAM, 0);

    if (ioctl(fd, SIOCGIFNAME, &request) == 0) {
        memcpy(interface, request.ifr_name, sizeof(interface));
    }
    close(fd);
    return hop->state == BPF_HOP_DIRECT && strcmp(mac_text(hop->destination_mac), mac) == 0 &&
           strcmp(mac_text(hop->source_mac), mac_of(w, LAB_RELAY, interface)) == 0;
}

void disturb(struct ways_lab *w, const char *address)
{
    const struct endpoint to = at(address, 9);
    struct sockaddr_storage name;
    const socklen_t length = endpoint_to_sockaddr(&to, &name);
    const int fd = lab_socket(w->lab, LAB_RELAY, name.ss_family, SOCK_DGRAM, 0);

    ck_assert_int_eq(sendto(fd, "", 1, 0, (struct sockaddr *)&name, length), 1);
    close(fd);
}

uint64_t figure(const struct ways_lab *w, const char *name)
{
    static struct admin_status status;

    status.counter_count = 0;
    ways_status(w->ways, &status);
    for (uint32_t i = 0; i < status.counter_count; i++) {
        if (strcmp(status.counters[i].name, name) == 0) {
            return status.counters[i].value;
        }
    }
    ck_abort_msg("no counter %s", name);
}

bool can(struct ways_lab *w, const char *format, ...)
{
    char command[512];
    va_list arguments;
    int status;

    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    const pid_t child = lab_fork(w->lab, LAB_RELAY);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (status != 0) {
        printf("not tested, this kernel refuses: %s\n", command);
    }
    return status == 0;
}
