#include "relayd/plane/socket/associate_fragments.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "relayd/plane/socket/udp_runs.h"

#define FRAGMENT_END 0x80
#define FRAGMENT_POSITION 0x7f

void associate_fragments_init(struct associate_fragments *fragments, struct socket_plane *plane,
                              void *data)
{
    *fragments = (struct associate_fragments){.plane = plane};
    uv_timer_init(plane->loop, &fragments->timer);
    fragments->timer.data = data;
}

void associate_fragments_done(struct associate_fragments *fragments)
{
    if (fragments->octets == NULL)
        return;
    uv_timer_stop(&fragments->timer);
    free(fragments->octets);
    fragments->octets = NULL;
    fragments->length = 0;
    fragments->highest = 0;
    fragments->plane->associate.held_octets -= UDP_PAYLOAD_MAX;
}

void associate_fragments_abandon(struct associate_fragments *fragments)
{
    fragments->plane->associate.fragment_drops += fragments->highest;
    associate_fragments_done(fragments);
}

static void on_timer(uv_timer_t *timer)
{
    associate_fragments_abandon((
        struct associate_fragments *)((char *)timer - offsetof(struct associate_fragments, timer)));
}

/* Does it continue the sequence, or begin one? */
static bool is_next(const struct associate_fragments *fragments, uint8_t fragment,
                    const uint8_t *header, size_t header_length)
{
    if ((fragment & FRAGMENT_POSITION) != fragments->highest + 1)
        return false;
    return fragments->highest == 0 ||
           (header_length == fragments->header_length &&
            memcmp(header + N1_UDP_HEADER_PREFIX, fragments->header + N1_UDP_HEADER_PREFIX,
                   header_length - N1_UDP_HEADER_PREFIX) == 0);
}

static bool begin(struct associate_fragments *fragments, const uint8_t *header,
                  size_t header_length)
{
    uint64_t *held = &fragments->plane->associate.held_octets;

    if (*held + UDP_PAYLOAD_MAX > ASSOCIATE_HELD_MAX)
        return false;
    fragments->octets = malloc(UDP_PAYLOAD_MAX);
    if (fragments->octets == NULL)
        return false;
    *held += UDP_PAYLOAD_MAX;
    memcpy(fragments->header, header, header_length);
    fragments->header_length = (uint16_t)header_length;
    uv_timer_start(&fragments->timer, on_timer, ASSOCIATE_REASSEMBLY_MS, 0);
    return true;
}

bool associate_fragments_add(struct associate_fragments *fragments, uint8_t fragment,
                             const uint8_t *header, size_t header_length, const void *payload,
                             uint32_t length)
{
    if (!is_next(fragments, fragment, header, header_length)) {
        associate_fragments_abandon(fragments);
        /* A first fragment begins anew, others are too late or too early. */
        if (!is_next(fragments, fragment, header, header_length)) {
            fragments->plane->associate.fragment_drops++;
            return false;
        }
    }
    if (length > UDP_PAYLOAD_MAX - fragments->length ||
        (fragments->highest == 0 && !begin(fragments, header, header_length))) {
        associate_fragments_abandon(fragments);
        fragments->plane->associate.fragment_drops++;
        return false;
    }
    if (length != 0)
        memcpy(fragments->octets + fragments->length, payload, length);
    fragments->length += length;
    fragments->highest = fragment & FRAGMENT_POSITION;
    return (fragment & FRAGMENT_END) != 0;
}

void associate_fragments_close(struct associate_fragments *fragments, uv_close_cb closed)
{
    associate_fragments_abandon(fragments);
    uv_close((uv_handle_t *)&fragments->timer, closed);
}
