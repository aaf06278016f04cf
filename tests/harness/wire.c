#include "tests/harness/wire.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <string.h>
#include <unistd.h>

#define HEADER 18 /* Ethernet, with a tag */

struct wire wire_open(struct lab *lab, enum lab_place place, const char *interface,
                      enum lab_place neighbour, const char *neighbours_interface)
{
    struct wire wire = {.lab = lab, .fd = lab_socket(lab, place, AF_PACKET, SOCK_RAW, 0)};
    const struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                        .sll_ifindex = (int)link_index(lab, place, interface)};
    ck_assert_msg(bind(wire.fd, (const struct sockaddr *)&address, sizeof(address)) == 0,
                  "bind: %s", strerror(errno));
    link_mac(lab, place, interface, wire.source);
    link_mac(lab, neighbour, neighbours_interface, wire.destination);
    return wire;
}

struct wire wire_to_relay(struct lab *lab, enum lab_place place)
{
    static const char *const interfaces[LAB_PLACES] = {[LAB_CLIENT] = LAB_TO_CLIENT,
                                                       [LAB_TARGET] = LAB_TO_TARGET,
                                                       [LAB_STRANGER] = LAB_TO_STRANGER};
    return wire_open(lab, place, LAB_TO_RELAY, LAB_RELAY, interfaces[place]);
}

void wire_close(struct wire *wire)
{
    close(wire->fd);
    wire->fd = -1;
}

static size_t put_header(const struct wire *wire, bool v6, uint8_t *out)
{
    const uint16_t tag[] = {htons(ETH_P_8021Q), htons(wire->vlan)};
    const uint16_t type = htons(v6 ? ETH_P_IPV6 : ETH_P_IP);
    size_t length = 2 * LINK_MAC;
    memcpy(out, wire->destination, LINK_MAC);
    memcpy(out + LINK_MAC, wire->source, LINK_MAC);
    if (wire->vlan != 0) {
        memcpy(out + length, tag, sizeof(tag));
        length += sizeof(tag);
    }
    memcpy(out + length, &type, sizeof(type));
    return length + sizeof(type);
}

void wire_send_padded(const struct wire *wire, const uint8_t *packet, size_t length, size_t padding)
{
    static uint8_t frame[HEADER + CRAFT_MAX];
    const size_t header = put_header(wire, packet[0] >> 4 == 6, frame);
    ck_assert_uint_le(length + padding, CRAFT_MAX);
    memcpy(frame + header, packet, length);
    memset(frame + header + length, 0, padding);
    length += header + padding;
    ck_assert_msg(send(wire->fd, frame, length, 0) == (ssize_t)length, "frame of %zu octets: %s",
                  length, strerror(errno));
}

void wire_send(const struct wire *wire, const uint8_t *packet, size_t length)
{
    wire_send_padded(wire, packet, length, 0);
}

void wire_send_craft(const struct wire *wire, const struct craft *craft)
{
    static uint8_t packet[CRAFT_MAX];
    wire_send(wire, packet, craft_build(craft, packet, sizeof(packet)));
}

static void send_one(void *user, const uint8_t *fragment, size_t length)
{
    wire_send(user, fragment, length);
}

void wire_send_fragments(const struct wire *wire, const struct craft *craft, size_t mtu,
                         uint32_t id)
{
    static uint8_t packet[CRAFT_MAX];
    const size_t length = craft_build(craft, packet, sizeof(packet));
    craft_fragments(packet, length, mtu, id, send_one, (void *)(uintptr_t)wire);
}
