#include "tests/integration/hostile.h"

#include <string.h>
#include <sys/socket.h>

#include "proto/ptcl.h"
#include "tests/harness/n1_client.h"
#include "tests/harness/n2_client.h"
#include "tests/harness/proc.h"
#include "tests/harness/wait.h"

struct lab *lab;
struct daemons daemons;
struct server *tcp, *udp;
struct pattern randomness;

void hostile_setup(void)
{
    lab = lab_new();
    tcp = server_echo(lab, SOCK_STREAM);
    udp = server_echo(lab, SOCK_DGRAM);
    daemons = (struct daemons){.lab = lab};
    randomness = pattern_start(20260101);
}

void hostile_teardown(void)
{
    daemons_stop(&daemons);
    lab_free(lab);
}

size_t below(size_t bound)
{
    uint32_t value;
    pattern_next(&randomness, &value, sizeof(value));
    return value % bound;
}

/* Up to three octets are changed, and perhaps the end is cut off. */
size_t mutate(uint8_t *data, size_t length)
{
    for (size_t left = 1 + below(3); left > 0; left--) {
        data[below(length)] = (uint8_t)below(256);
    }
    return below(4) == 0 ? 1 + below(length) : length;
}

void check_echo(const struct association *association)
{
    char text[4];
    socket_send(association->data, "ping", 4);
    if (association->ptcl == PTCL_TCP) {
        socket_receive_all(association->data, text, 4, PATIENCE_MS);
    } else {
        ck_assert_int_eq(socket_receive(association->data, text, 4, PATIENCE_MS), 4);
    }
    ck_assert_mem_eq(text, "ping", 4);
}

void check_served(void)
{
    struct association one = association_tcp(lab, server_endpoint(tcp));
    struct association other = association_udp(lab, server_endpoint(udp));
    check_echo(&one);
    check_echo(&other);
    association_close(&one);
    association_close(&other);
}

/* Descriptors as before, and memory bounded. */
void check_unharmed(struct process *process, unsigned fds, uint64_t rss)
{
    const pid_t pid = process_pid(process);
    ck_assert(process_is_alive(process));
    WAIT_UNTIL(proc_fd_count(pid) <= fds, PATIENCE_MS);
    ck_assert_msg(built_with_sanitizer() || proc_rss_kib(pid) <= rss + 2048,
                  "%u KiB resident, before %u", (unsigned)proc_rss_kib(pid), (unsigned)rss);
}
struct endpoint client(void)
{
    return at(LAB_CLIENT_V4, 4000);
}

/* A frame of this type; those of the wrong side too. Returns 0 for what cannot be encoded. */
size_t frame_of(enum n2_type type, uint8_t *out, size_t size)
{
    struct n2_message m = {.type = type};
    const struct endpoint target = server_endpoint(tcp);
    if (type == N2_HELLO || type == N2_HELLO_ACK) {
        m = n2_client_hello();
        m.type = type;
        if (type == N2_HELLO_ACK) {
            m.hello.ptcl = PTCL_TCP;
            m.hello.planes = 1u << N2_PLANE_SOCKET;
            m.hello.families = N2_FAMILY_V4;
            m.hello.capacity = 10;
            strcpy(m.hello.instance, "tcp");
        }
    } else if (type == N2_OPEN_RELAY) {
        m = n2_client_order(7, PTCL_TCP, client(), target);
    } else if (type == N2_RELAY_OPENED) {
        m.transaction = 7;
        m.relay_opened = (struct n2_relay_opened){.association = 7,
                                                  .relay = 5,
                                                  .bound = target,
                                                  .egress = target,
                                                  .plane = N2_PLANE_SOCKET};
    } else if (type == N2_RELAY_FAILED) {
        m.transaction = 7;
        m.relay_failed = (struct n2_relay_failed){.association = 7, .error = N2_ERROR_REFUSED};
    } else if (type == N2_ATTACH_CLIENT) {
        m.fd_count = 1;
        m.attach_client.relay = 5;
    } else if (type == N2_RELAY_CONNECTED) {
        m.relay_connected = (struct n2_relay_connected){.relay = 5, .peer = target};
    } else if (type == N2_AUTHORIZE) {
        m.transaction = 7;
        m.authorize = (struct n2_authorize){.relay = 5, .address = target.address, .port = 53};
    } else if (type == N2_RELAY_STATS) {
        m.relay_stats.relay = 5;
    } else if (type == N2_RELAY_CLOSED) {
        m.relay_closed =
            (struct n2_relay_closed){.relay = 5, .association = 7, .reason = N2_REASON_FINISHED};
    } else if (type == N2_RELAY_EVENT) {
        m.relay_event = (struct n2_relay_event){.relay = 5, .event = N2_EVENT_TARGET_FIN};
    } else {
        return 0;
    }
    return n2_encode(&m, out, size);
}

/* Says it on a connection of its own, after Hello if `up`, and is hung up on. */

const struct bad_frame bad_frames[BAD_FRAMES] = {
    {"\0\0\0\0", 4},                                         /* a length of 0 */
    {"\0\1\0\1", 4},                                         /* above the maximum */
    {"\377\377\377\377", 4},                                 /* far above */
    {"\0\0\0\1\377", 5},                                     /* not protobuf */
    {"\0\0\0\2\010\1", 6},                                   /* no body */
    {"\0\0\0\12\377\377\377\377\377\377\377\377\377\1", 14}, /* a tag without end */
};
