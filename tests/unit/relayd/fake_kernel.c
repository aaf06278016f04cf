#include "tests/unit/relayd/fake_kernel.h"

#include <check.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <stdlib.h>
#include <string.h>

#include "common/net/netlink.h"
#include "common/net/sockaddr.h"

#define MESSAGE_SIZE 512

struct kernel {
    int unused;
};

struct fake_kernel fake_kernel;

void fake_kernel_reset(void)
{
    fake_kernel = (struct fake_kernel){.interface = 5,
                                       .hardware = ARPHRD_ETHER,
                                       .up = true,
                                       .link_mtu = 1500,
                                       .link_mac = {2, 0, 0, 0, 0, 5}};
}

static struct nlmsghdr *message_start(void *buffer, uint16_t type, const void *header, size_t size)
{
    struct nlmsghdr *message = buffer;

    memset(buffer, 0, MESSAGE_SIZE);
    message->nlmsg_type = type;
    message->nlmsg_len = (uint32_t)NLMSG_SPACE(size);
    memcpy(NLMSG_DATA(message), header, size);
    return message;
}

void message_add(struct nlmsghdr *message, uint16_t type, const void *data, size_t size)
{
    struct rtattr *attribute = (struct rtattr *)((char *)message + message->nlmsg_len);

    attribute->rta_type = type;
    attribute->rta_len = (uint16_t)RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
    message->nlmsg_len += (uint32_t)RTA_SPACE(size);
}

const struct nlmsghdr *link_message(uint16_t type, uint32_t interface)
{
    static _Alignas(8) char buffer[MESSAGE_SIZE];
    const struct ifinfomsg header = {.ifi_index = (int)interface,
                                     .ifi_type = fake_kernel.hardware,
                                     .ifi_flags = fake_kernel.up ? IFF_UP | IFF_LOWER_UP : IFF_UP};
    struct nlmsghdr *message = message_start(buffer, type, &header, sizeof(header));

    message_add(message, IFLA_MTU, &fake_kernel.link_mtu, sizeof(fake_kernel.link_mtu));
    if (fake_kernel.hardware == ARPHRD_ETHER)
        message_add(message, IFLA_ADDRESS, fake_kernel.link_mac, 6);
    return message;
}

const struct nlmsghdr *neighbour_message(uint16_t type, uint32_t interface,
                                         const struct ip_address *address, uint16_t state,
                                         const uint8_t mac[6])
{
    static _Alignas(8) char buffer[MESSAGE_SIZE];
    const struct ndmsg header = {.ndm_family = (uint8_t)ip_address_af(address),
                                 .ndm_ifindex = (int)interface,
                                 .ndm_state = state};
    struct nlmsghdr *message = message_start(buffer, type, &header, sizeof(header));

    message_add(message, NDA_DST, address->bytes, ip_address_size(address));
    if (mac != NULL)
        message_add(message, NDA_LLADDR, mac, 6);
    return message;
}

static int answer_route(const struct nlmsghdr *question, const struct nlmsghdr **out)
{
    static _Alignas(8) char buffer[MESSAGE_SIZE];
    const struct rtmsg *asked = NLMSG_DATA(question);
    const struct rtmsg header = {.rtm_family = asked->rtm_family, .rtm_type = RTN_UNICAST};
    struct nlmsghdr *message = message_start(buffer, RTM_NEWROUTE, &header, sizeof(header));
    struct {
        struct rtattr attribute;
        uint32_t value;
    } mtu = {{.rta_type = RTAX_MTU, .rta_len = RTA_LENGTH(4)}, fake_kernel.mtu};

    fake_kernel.routes++;
    message_add(message, RTA_OIF, &fake_kernel.interface, 4);
    if (fake_kernel.gateway.family != IP_NONE)
        message_add(message, RTA_GATEWAY, fake_kernel.gateway.bytes,
                    ip_address_size(&fake_kernel.gateway));
    if (fake_kernel.mtu != 0)
        message_add(message, RTA_METRICS, &mtu, sizeof(mtu));
    *out = message;
    return fake_kernel.route_error;
}

static int answer_link(const struct nlmsghdr *question, const struct nlmsghdr **out)
{
    const struct ifinfomsg *asked = NLMSG_DATA(question);

    fake_kernel.links++;
    *out = link_message(RTM_NEWLINK, (uint32_t)asked->ifi_index);
    return fake_kernel.link_error;
}

static int answer_neighbour(const struct nlmsghdr *question, const struct nlmsghdr **out)
{
    const struct ndmsg *asked = NLMSG_DATA(question);
    const struct rtattr *address = netlink_find(question, sizeof(*asked), NDA_DST, 4);

    fake_kernel.neighbours++;
    ck_assert_ptr_nonnull(address);
    const struct ip_address name = netlink_address(asked->ndm_family, address);
    *out = neighbour_message(RTM_NEWNEIGH, (uint32_t)asked->ndm_ifindex, &name, NUD_REACHABLE,
                             fake_kernel.neighbour_mac);
    return fake_kernel.neighbour_known ? 0 : -ENOENT;
}

static int answer_question(const struct nlmsghdr *question, const struct nlmsghdr **out)
{
    switch (question->nlmsg_type) {
    case RTM_GETROUTE:
        return answer_route(question, out);
    case RTM_GETLINK:
        return answer_link(question, out);
    case RTM_GETNEIGH:
        return answer_neighbour(question, out);
    default:
        ck_abort_msg("question %u", question->nlmsg_type);
    }
}

int kernel_open(struct kernel **out)
{
    *out = calloc(1, sizeof(**out));
    return *out != NULL ? 0 : -ENOMEM;
}

void kernel_close(struct kernel *kernel)
{
    free(kernel);
}

void kernel_question(struct kernel_question *question, uint16_t type, const void *header,
                     size_t header_size)
{
    struct nlmsghdr *message = (struct nlmsghdr *)question->octets;

    memset(question, 0, sizeof(*question));
    message->nlmsg_type = type;
    message->nlmsg_len = (uint32_t)NLMSG_SPACE(header_size);
    memcpy(NLMSG_DATA(message), header, header_size);
}

void kernel_question_add(struct kernel_question *question, uint16_t type, const void *data,
                         size_t size)
{
    message_add((struct nlmsghdr *)question->octets, type, data, size);
}

void kernel_ask(struct kernel *kernel, struct kernel_question *questions, size_t count,
                kernel_answer_cb *answer, void *user)
{
    (void)kernel;
    ck_assert_uint_le(count, KERNEL_BATCH);
    for (size_t i = 0; i < count; i++) {
        const struct nlmsghdr *message = NULL;
        int error = answer_question((const struct nlmsghdr *)questions[i].octets, &message);

        if (fake_kernel.silent)
            error = KERNEL_SILENT;
        answer(user, i, error, error == 0 ? message : NULL);
    }
}
