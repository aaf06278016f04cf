#include "tests/unit/relayd/association.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/net/sockaddr.h"
#include "proto/ptcl.h"

/* ---- the peer ----------------------------------------------------------------------------------
 */

static struct association *of_peer(struct relay_peer *peer)
{
    return (struct association *)((char *)peer - offsetof(struct association, peer));
}

static int peer_ask(struct relay_peer *peer, struct n2_message *message,
                    struct relay_question *question)
{
    static uint8_t frame[N2_PAYLOAD_MAX + 16];
    struct association *association = of_peer(peer);

    if (association->ask_result < 0)
        return association->ask_result;
    ck_assert_uint_eq(message->authorize.relay, association->relay.relay.id);
    message->transaction = association->asked + 1;
    ck_assert_msg(n2_encode(message, frame, sizeof(frame)) > 0, "an Authorize that is not valid");
    ck_assert_uint_lt(association->asked, QUESTIONS_KEPT);
    question->transaction = message->transaction;
    association->questions[association->asked++] =
        (struct association_question){.question = question, .what = message->authorize};
    if (++association->in_flight > association->in_flight_most)
        association->in_flight_most = association->in_flight;
    return 0;
}

static void peer_cancel(struct relay_peer *peer, uint64_t transaction)
{
    struct association *association = of_peer(peer);

    ck_assert_ptr_nonnull(association->questions[transaction - 1].question);
    association->questions[transaction - 1].question = NULL;
    association->in_flight--;
    association->cancelled++;
}

static void on_check(uv_check_t *check)
{
    struct association *association = check->data;

    for (unsigned i = 0; association->automatic && i < association->asked; i++) {
        if (association->questions[i].question != NULL)
            association_answer(association, i, &association->verdict);
    }
}

void association_answer(struct association *association, unsigned nth,
                        const struct n2_authorized *answer)
{
    struct relay_question *question = association->questions[nth].question;

    ck_assert_uint_lt(nth, association->asked);
    ck_assert_ptr_nonnull(question);
    association->questions[nth].question = NULL;
    association->in_flight--;
    relay_answered(question, answer);
}

void association_asked(struct association *association, unsigned count)
{
    WAIT_FOR(association->fixture, association->asked >= count);
    ck_assert_uint_eq(association->asked, count);
}

/* ---- life --------------------------------------------------------------------------------------
 */

void association_init(struct association *association, struct plane_fixture *fixture, bool v6)
{
    const struct endpoint nowhere = {.port = 0};

    memset(association, 0, sizeof(*association));
    association->fixture = fixture;
    association->client = party_socket(PARTY_CLIENT, v6, SOCK_DGRAM, 0);
    association->client_name = socket_name(association->client);
    set_blocking(association->client, false);
    enlarge_buffer(association->client);
    fake_relay_init(&association->relay, fixture, PTCL_UDP, &association->client_name, &nowhere);
    relayd_metrics_init(&association->metrics);
    association->context.metrics = &association->metrics;
    association->peer.ask = peer_ask;
    association->peer.cancel = peer_cancel;
    association->relay.relay.kind = N2_KIND_UDP_ASSOCIATE;
    association->relay.relay.id = 7;
    association->relay.relay.peer = &association->peer;
    association->peer.context = &association->context;
    association->automatic = true;
    association->verdict = (struct n2_authorized){.relay = 7,
                                                  .allowed = true,
                                                  .address_count = 1,
                                                  .addresses = {party_address(PARTY_TARGET, v6)},
                                                  .ttl_ms = 60000};
    uv_check_init(&fixture->loop, &association->check);
    association->check.data = association;
    uv_check_start(&association->check, on_check);
}

void association_open(struct association *association)
{
    fake_relay_open_wait(&association->relay, association->fixture);
    ck_assert_int_eq(connect_to(association->client, &association->relay.relay.bound), 0);
}

void association_dispose(struct association *association)
{
    close(association->client);
    fake_relay_finish(&association->relay, association->fixture);
    ck_assert_uint_eq(association->in_flight, 0);
    ck_assert_uint_eq(association_figures(association)->held_octets, 0);
    uv_close((uv_handle_t *)&association->check, NULL);
    plane_fixture_turn(association->fixture);
}

struct associate_figures *association_figures(struct association *association)
{
    return &plane_fixture_socket_plane(association->fixture)->associate;
}

/* ---- datagrams ---------------------------------------------------------------------------------
 */

void association_send_fragment(const struct association *association, uint8_t fragment,
                               const struct n1_host *to, size_t at, size_t length)
{
    static uint8_t datagram[N1_UDP_HEADER_MAX + 65536];
    const struct n1_udp_header header = {.fragment = fragment, .destination = *to};
    const size_t head = n1_udp_header_encode(&header, datagram, sizeof(datagram));

    ck_assert_uint_gt(head, 0);
    memcpy(datagram + head, payload() + at, length);
    ck_assert_msg(send(association->client, datagram, head + length, 0) == (ssize_t)(head + length),
                  "send of %zu: %s", head + length, strerror(errno));
}

void association_send(const struct association *association, const struct n1_host *to, size_t at,
                      size_t length)
{
    association_send_fragment(association, 0, to, at, length);
}

void association_expect(struct association *association, const struct endpoint *from, size_t at,
                        size_t length)
{
    static uint8_t datagram[65536];
    struct n1_udp_header header;
    size_t used = 0;
    ssize_t n;

    WAIT_FOR(association->fixture,
             (n = recv(association->client, datagram, sizeof(datagram), MSG_DONTWAIT)) >= 0);
    ck_assert_int_eq(n1_udp_header_decode(datagram, (size_t)n, &header, &used), N1_OK);
    ck_assert_uint_eq(header.fragment, 0);
    ck_assert(ip_address_equal(&header.destination.address, &from->address));
    ck_assert_uint_eq(header.destination.port, from->port);
    ck_assert_uint_eq((size_t)n - used, length);
    ck_assert_msg(length == 0 || memcmp(datagram + used, payload() + at, length) == 0,
                  "a datagram of %zu octets has changed", length);
}

struct n1_host host_of(const struct endpoint *endpoint)
{
    return n1_host_from_endpoint(endpoint);
}

struct n1_host host_named(const char *name, uint16_t port)
{
    struct n1_host host;

    ck_assert_int_eq(n1_host_from_name(name, port, &host), 0);
    return host;
}

int target_open(enum party party, bool v6)
{
    const int fd = party_socket(party, v6, SOCK_DGRAM, 0);

    set_blocking(fd, false);
    enlarge_buffer(fd);
    return fd;
}

void target_expect(struct plane_fixture *fixture, int fd, size_t at, size_t length,
                   struct endpoint *from)
{
    static uint8_t buffer[65536];
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    ssize_t n;

    WAIT_FOR(fixture, (n = recvfrom(fd, buffer, sizeof(buffer), MSG_DONTWAIT,
                                    (struct sockaddr *)&address, &size)) >= 0);
    ck_assert_int_eq(n, (ssize_t)length);
    ck_assert_msg(length == 0 || memcmp(buffer, payload() + at, length) == 0,
                  "a datagram of %zu octets has changed", length);
    if (from != NULL)
        ck_assert_int_eq(endpoint_from_sockaddr((struct sockaddr *)&address, from), 0);
}

void target_send(int fd, const struct endpoint *to, size_t at, size_t length)
{
    struct sockaddr_storage address;
    const socklen_t size = endpoint_to_sockaddr(to, &address);

    ck_assert_int_eq(sendto(fd, payload() + at, length, 0, (struct sockaddr *)&address, size),
                     (ssize_t)length);
}
