/*
 * The header of a datagram: payload and header never overlap, and what was decoded encodes to what
 * decodes to the same.
 */
#include <string.h>

#include "proto/n1.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t encoded[N1_UDP_HEADER_MAX];
    struct n1_udp_header header, again;
    size_t used = 0;
    uint8_t fragment = 0;
    size_t measured = 0;
    const enum n1_result result = n1_udp_header_decode(data, size, &header, &used);
    FUZZ_CHECK(n1_udp_header_measure(data, size, &fragment, &measured) == result);
    if (result != N1_OK)
        return 0;
    FUZZ_CHECK(measured == used && fragment == header.fragment);
    FUZZ_CHECK(used <= size && used <= N1_UDP_HEADER_MAX);
    size_t length = n1_udp_header_encode(&header, encoded, sizeof(encoded));
    const struct n1_host *host = &header.destination;
    if (host->atyp == N1_ATYP_DOMAIN && !n1_name_is_valid(host->name, host->name_length)) {
        FUZZ_CHECK(length == 0);
        return 0;
    }
    /* An IPv4-mapped address comes out shorter, as the IPv4 address that it is; all else as it came
     * in. */
    FUZZ_CHECK(length == used ? memcmp(encoded, data, length) == 0 : length + 12 == used);
    FUZZ_CHECK(n1_udp_header_decode(encoded, length, &again, &used) == N1_OK && used == length);
    FUZZ_CHECK(again.fragment == header.fragment);
    FUZZ_CHECK(again.destination.atyp == host->atyp && again.destination.port == host->port);
    FUZZ_CHECK(ip_address_equal(&again.destination.address, &host->address));
    FUZZ_CHECK(memcmp(again.destination.name, host->name, sizeof(host->name)) == 0);
    return 0;
}
