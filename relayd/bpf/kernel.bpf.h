/*
 * What every part of the program needs: the kernel's headers, the tables, the settings.
 *
 * The parts are headers, since the program is one piece of code to the verifier. What each packet
 * meets is inlined into the entry points; what few packets meet is a function of its own, so that
 * the common path stays short.
 */
#ifndef SOCKST_RELAYD_BPF_KERNEL_H
#define SOCKST_RELAYD_BPF_KERNEL_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "relayd/bpf/abi.h"
#include "relayd/bpf/maps.bpf.h"

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)
#define inlined static __always_inline
#define separate static __noinline
/* Verified by itself, whatever its callers know: arguments are checked anew. */
#define apart __noinline

/* Verdicts: to the next program, or the host; and gone. The same to TCX and to clsact. */
#define NEXT TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

struct bpf_globals globals SEC(".data");
const volatile struct bpf_settings settings = {0};

/* Settled when the program is loaded: the verifier removes what belongs to the other protocol. */
inlined bool is_tcp(void)
{
    return settings.protocol == IPPROTO_TCP;
}

#endif
