/*
 * Adds to a daemon's status: whatever has figures of its own puts them there.
 */
#ifndef SOCKST_COMMON_ADMIN_STATUS_H
#define SOCKST_COMMON_ADMIN_STATUS_H

#include "proto/admin.h"

/* Both copy their text, cut to what fits, and do nothing when the status is full. */
void admin_status_counter(struct admin_status *status, const char *name, uint64_t value);
void admin_status_warning(struct admin_status *status, const char *text);

#endif
