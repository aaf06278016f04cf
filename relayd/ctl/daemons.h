/*
 * The daemons of a host, as the admin sockets in one directory.
 */
#ifndef SOCKST_RELAYD_CTL_DAEMONS_H
#define SOCKST_RELAYD_CTL_DAEMONS_H

#include "relayd/ctl/client.h"

#define DAEMONS_MAX 1024 /* sockets of one directory */

struct daemons {
    const char *directory; /* borrowed */
    char **paths;          /* sorted by name */
    size_t count;
};

/* Lists every *.sock. Returns 0 or -errno; -E2BIG above DAEMONS_MAX. */
int daemons_list(struct daemons *daemons, const char *directory);
void daemons_free(struct daemons *daemons);

/* May the name be made part of a path (ADMIN-CLIENT-010)? */
bool daemons_instance_is_valid(const char *name, size_t length);

/* "DIRECTORY/INSTANCE.sock", to be freed; NULL when out of memory. */
char *daemons_path(const char *directory, const char *instance);

#endif
