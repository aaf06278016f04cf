#include "relayd/plane/socket/stranger_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "common/net/sockaddr.h"

/* UDP hands a filter the packet from the transport header on; a group of listeners hands it the
 * payload. What lies before is found relative to the network header. */
#define SOURCE_V4 (SKF_NET_OFF + 12)
#define SOURCE_V6 (SKF_NET_OFF + 8)
#define PORT_V6 (SKF_NET_OFF + 40) /* behind extension headers it is not found */

#define TRAP_KEY_SIZE 16

#define PROGRAM_MAX 13 /* four words of an address, a port behind options, two returns */

struct program {
    struct sock_filter code[PROGRAM_MAX];
    size_t length;
};

static void emit(struct program *program, struct sock_filter instruction)
{
    program->code[program->length++] = instruction;
}

/* Goes on when the accumulator is `value`, otherwise to the last instruction; see finish(). */
static void require(struct program *program, uint32_t value)
{
    emit(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, UINT8_MAX));
}

static void require_address(struct program *program, const struct ip_address *address)
{
    const uint32_t first = address->family == IP_V4 ? SOURCE_V4 : SOURCE_V6;

    for (uint32_t i = 0; i < ip_address_size(address); i += 4) {
        const uint8_t *octets = address->bytes + i;
        emit(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, first + i));
        require(program, (uint32_t)octets[0] << 24 | (uint32_t)octets[1] << 16 |
                             (uint32_t)octets[2] << 8 | octets[3]);
    }
}

/* The two results, and every jump that still lacks its target goes to `other`. */
static void finish(struct program *program, uint32_t match, uint32_t other)
{
    emit(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, match));
    emit(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, other));
    for (size_t i = 0; i < program->length; i++) {
        if (BPF_CLASS(program->code[i].code) == BPF_JMP)
            program->code[i].jf = (uint8_t)(program->length - i - 2);
    }
}

static int attach(int fd, int option, struct sock_filter *code, size_t length)
{
    const struct sock_fprog filter = {.len = (unsigned short)length, .filter = code};

    return setsockopt(fd, SOL_SOCKET, option, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

int stranger_filter_accept(int fd, const struct endpoint *source)
{
    struct program program = {.length = 0};

    if (source->address.family == IP_NONE)
        return -EAFNOSUPPORT;
    require_address(&program, &source->address);
    if (source->port != 0) {
        emit(&program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 0));
        require(&program, source->port);
    }
    finish(&program, UINT32_MAX, 0);
    return attach(fd, SO_ATTACH_FILTER, program.code, program.length);
}

int stranger_filter_sort(int fd, const struct endpoint *source)
{
    struct program program = {.length = 0};

    if (source->address.family == IP_NONE)
        return -EAFNOSUPPORT;
    require_address(&program, &source->address);
    if (source->port != 0 && source->address.family == IP_V4) {
        /* X = length of the IP header */
        emit(&program, (struct sock_filter)BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, SKF_NET_OFF));
        emit(&program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_IND, SKF_NET_OFF));
        require(&program, source->port);
    } else if (source->port != 0) {
        emit(&program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, PORT_V6));
        require(&program, source->port);
    }
    finish(&program, 1, 0);
    return attach(fd, SO_ATTACH_REUSEPORT_CBPF, program.code, program.length);
}

int stranger_filter_drop_all(int fd)
{
    struct sock_filter program[] = {BPF_STMT(BPF_RET | BPF_K, 0)};

    return attach(fd, SO_ATTACH_FILTER, program, 1);
}

int stranger_filter_trap(int fd, const struct ip_address *address)
{
    struct tcp_md5sig signature = {
        .tcpm_flags = TCP_MD5SIG_FLAG_PREFIX, .tcpm_prefixlen = 0, .tcpm_keylen = TRAP_KEY_SIZE};

    signature.tcpm_addr.ss_family = (sa_family_t)ip_address_af(address);
    if (getrandom(signature.tcpm_key, TRAP_KEY_SIZE, 0) == TRAP_KEY_SIZE &&
        setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG_EXT, &signature, sizeof(signature)) == 0)
        return 0;
    return stranger_filter_drop_all(fd);
}

int stranger_filter_detach(int fd)
{
    const int ignored = 0;

    if (setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof(ignored)) < 0 &&
        errno != ENOENT)
        return -errno;
    return 0;
}

int stranger_filter_read_drops(int fd, uint32_t *out)
{
    uint32_t info[SK_MEMINFO_VARS];
    socklen_t length = sizeof(info);

    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) < 0)
        return -errno;
    if (length <= SK_MEMINFO_DROPS * sizeof(info[0]))
        return -ENOPROTOOPT;
    *out = info[SK_MEMINFO_DROPS];
    return 0;
}

uint64_t drop_counter_update(struct drop_counter *counter, int fd)
{
    uint32_t now;

    if (fd >= 0 && stranger_filter_read_drops(fd, &now) == 0) {
        counter->total += (uint32_t)(now - counter->last);
        counter->last = now;
    }
    return counter->total;
}
