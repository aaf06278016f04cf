#include "tests/harness/links.h"

#include <check.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void link_offloads_off(struct lab *lab, enum lab_place place, const char *interface)
{
    lab_run(lab, place, "ethtool -K %s tx off tso off gso off gro off >/dev/null", interface);
}

static struct ifreq ask(const struct lab *lab, enum lab_place place, const char *interface,
                        unsigned long question)
{
    struct ifreq request = {0};
    const int fd = lab_socket(lab, place, AF_INET, SOCK_DGRAM, 0);
    strncpy(request.ifr_name, interface, sizeof(request.ifr_name) - 1);
    ck_assert_msg(ioctl(fd, question, &request) == 0, "interface %s: %s", interface,
                  strerror(errno));
    close(fd);
    return request;
}

void link_mac(const struct lab *lab, enum lab_place place, const char *interface,
              uint8_t out[LINK_MAC])
{
    const struct ifreq request = ask(lab, place, interface, SIOCGIFHWADDR);
    memcpy(out, request.ifr_hwaddr.sa_data, LINK_MAC);
}

unsigned link_index(const struct lab *lab, enum lab_place place, const char *interface)
{
    return (unsigned)ask(lab, place, interface, SIOCGIFINDEX).ifr_ifindex;
}
