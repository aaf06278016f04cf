/*
 * Which plane carries a relay: the planes of this process in order of preference. The choice and
 * its reason are kept with the relay, so that a fall back to a slower plane is seen.
 */
#ifndef SOCKST_RELAYD_PLANES_H
#define SOCKST_RELAYD_PLANES_H

#include <stdbool.h>

#include "relayd/plane/plane.h"

#define PLANES_MAX 4

struct planes {
    struct plane *list[PLANES_MAX]; /* most wanted first; borrowed */
    size_t count;
    bool configured;     /* by name, not `auto` */
    const char *missing; /* why the most wanted plane is not there (static text); NULL: it is */
};

/* There is room for PLANES_MAX. */
void planes_add(struct planes *planes, struct plane *plane);

/*
 * The first plane that does not refuse the relay; *reason says why it was taken (static text). NULL
 * when all of them refuse; *reason is then why the most wanted one did.
 */
struct plane *planes_choose(const struct planes *planes, const struct relay *relay,
                            const char **reason);

/* Does each relay need descriptors, whichever plane carries it? */
bool planes_need_descriptors(const struct planes *planes);

/* For Hello: bit 1 << enum n2_plane of each. */
uint32_t planes_bits(const struct planes *planes);

#endif
