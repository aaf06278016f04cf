#include "relayd/relay/planes.h"

#include <assert.h>

void planes_add(struct planes *planes, struct plane *plane)
{
    assert(planes->count < PLANES_MAX);
    planes->list[planes->count++] = plane;
}

static const char *plane_refuses(const struct plane *plane, const struct relay *relay)
{
    return plane->ops->refuses == NULL ? NULL : plane->ops->refuses(plane, relay);
}

struct plane *planes_choose(const struct planes *planes, const struct relay *relay,
                            const char **reason)
{
    const char *first_refusal = NULL;
    for (size_t i = 0; i < planes->count; i++) {
        const char *refusal = plane_refuses(planes->list[i], relay);
        if (refusal != NULL) {
            first_refusal = first_refusal == NULL ? refusal : first_refusal;
            continue;
        }
        if (first_refusal != NULL) {
            *reason = first_refusal;
        } else if (planes->configured) {
            *reason = "configured";
        } else if (planes->missing != NULL) {
            *reason = planes->missing;
        } else {
            *reason = planes->count == 1 ? "only plane built" : "preferred";
        }
        return planes->list[i];
    }
    *reason = first_refusal == NULL ? "no plane" : first_refusal;
    return NULL;
}

bool planes_need_descriptors(const struct planes *planes)
{
    for (size_t i = 0; i < planes->count; i++) {
        if (!planes->list[i]->ops->needs_descriptors) {
            return false;
        }
    }
    return true;
}

uint32_t planes_bits(const struct planes *planes)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < planes->count; i++) {
        bits |= 1u << planes->list[i]->ops->id;
    }
    return bits;
}
