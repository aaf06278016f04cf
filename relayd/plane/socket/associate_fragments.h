/*
 * Reassembly of what a UDP ASSOCIATE client sends in fragments (RFC 1928 section 7): one sequence
 * at a time, in order. Positions count from 1; bit 7 of FRAG ends the sequence.
 *
 * A sequence is abandoned when a fragment is missing, comes twice, names another destination, makes
 * the datagram too large, or when its time has passed, which is counted from its first fragment;
 * and, as the RFC asks, when anything with a lower FRAG comes, a whole datagram (FRAG 0) included.
 * Whatever is abandoned is counted, fragment by fragment.
 */
#ifndef SOCKST_RELAYD_ASSOCIATE_FRAGMENTS_H
#define SOCKST_RELAYD_ASSOCIATE_FRAGMENTS_H

#include <uv.h>

#include "proto/n1.h"
#include "relayd/plane/socket/socket_plane.h"

/* The RFC's least. */
#define ASSOCIATE_REASSEMBLY_MS 5000

struct associate_fragments {
    struct socket_plane *plane; /* borrowed */
    uv_timer_t timer;
    uint8_t *octets; /* of the payload so far; NULL: no sequence */
    uint32_t length;
    uint8_t highest; /* position of the last fragment */
    uint16_t header_length;
    uint8_t header[N1_UDP_HEADER_MAX]; /* of the first one */
};

/* timer.data is `data`, timer belongs to the owner's close callback. Needs
 * associate_fragments_close(). */
void associate_fragments_init(struct associate_fragments *fragments, struct socket_plane *plane,
                              void *data);
/*
 * A datagram of the client with FRAG `fragment`, not 0. Returns true when the sequence is complete:
 * ->header, ->octets and ->length are the datagram, until associate_fragments_done().
 */
bool associate_fragments_add(struct associate_fragments *fragments, uint8_t fragment,
                             const uint8_t *header, size_t header_length, const void *payload,
                             uint32_t length);
/* The datagram has been used. */
void associate_fragments_done(struct associate_fragments *fragments);
/* Gives a sequence up, if there is one. */
void associate_fragments_abandon(struct associate_fragments *fragments);
/* Idempotent but for the handle, which is closed now with `closed`: call it once. */
void associate_fragments_close(struct associate_fragments *fragments, uv_close_cb closed);

#endif
