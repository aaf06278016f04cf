/*
 * A record of the BPF program: kind, interface, MTU, payload and then the packet, as a stranger
 * wrote it. What is answered is a valid packet to whoever sent it, and depends on nothing behind
 * the recorded octets.
 */
#include <string.h>

#include "relayd/plane/bpf/answer_packet.h"
#include "tests/fuzz/fuzz.h"
#include "tests/harness/packet_check.h"

#define HEAD 13 /* octets of the input before the packet */

static uint32_t read32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static int make(const uint8_t *data, size_t size, uint8_t filler, struct answer_packet *out)
{
    struct bpf_answer record = {.kind = data[0],
                                .interface = read32(data + 1),
                                .mtu = read32(data + 5),
                                .payload = read32(data + 9),
                                .length = (uint32_t)(size - HEAD)};

    memset(record.head, filler, sizeof(record.head));
    memcpy(record.head, data + HEAD,
           record.length < sizeof(record.head) ? record.length : sizeof(record.head));
    return answer_packet_make(&record, out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct answer_packet answer, again;

    if (size < HEAD)
        return 0;
    const int rc = make(data, size, 0, &answer);
    FUZZ_CHECK(make(data, size, 0xff, &again) == rc);
    if (rc < 0)
        return 0;
    const bool v6 = answer.source.family == IP_V6;
    const size_t address_size = v6 ? 16 : 4, at = v6 ? 8 : 12;
    const uint8_t *packet = data + HEAD;
    FUZZ_CHECK(size - HEAD <= BPF_ANSWER_HEAD && packet[0] >> 4 == (v6 ? 6 : 4));
    FUZZ_CHECK(answer.length == again.length && answer.length <= sizeof(answer.data));
    FUZZ_CHECK(memcmp(answer.data, again.data, answer.length) == 0);
    FUZZ_CHECK(packet_problem(answer.data, answer.length) == NULL);
    /* From whom it was sent to, to who sent it. */
    FUZZ_CHECK(memcmp(answer.data + at, packet + at + address_size, address_size) == 0);
    FUZZ_CHECK(memcmp(answer.data + at + address_size, packet + at, address_size) == 0);
    FUZZ_CHECK(memcmp(answer.destination.bytes, packet + at, address_size) == 0);
    FUZZ_CHECK(memcmp(answer.source.bytes, packet + at + address_size, address_size) == 0);
    FUZZ_CHECK(answer.data[at + address_size] < (v6 ? 0xff : 224));
    /* An answer is never answered. */
    struct bpf_answer record = {.kind = data[0], .mtu = 1400};
    record.length =
        (uint32_t)(answer.length < sizeof(record.head) ? answer.length : sizeof(record.head));
    memcpy(record.head, answer.data, record.length);
    FUZZ_CHECK(answer_packet_make(&record, &again) < 0);
    return 0;
}
