#include "common/system/privileges.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include "common/system/sanitizer.h"

/* Kernels know fewer or more capabilities than the headers: EINVAL tells the last one. */
#define CAPABILITY_MAX 64

static bool is_traced(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[128];
    long tracer = 0;

    if (!status)
        return false;
    while (fgets(line, sizeof(line), status))
        if (strncmp(line, "TracerPid:", 10) == 0)
            tracer = strtol(line + 10, NULL, 10);
    fclose(status);
    return tracer != 0;
}

/* Needs CAP_SETPCAP. Without it the set stays, and no_new_privs keeps it from being of use. */
static int drop_bounding_set(void)
{
    for (unsigned long capability = 0; capability < CAPABILITY_MAX; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0)
            continue;
        return errno == EINVAL || errno == EPERM ? 0 : -errno;
    }
    return 0;
}

static int drop_capability_sets(void)
{
    cap_t none = cap_init();
    int r = 0;

    if (!none)
        return -errno;
    if (cap_set_proc(none) < 0)
        r = -errno;
    cap_free(none);
    return r;
}

int privileges_drop(void)
{
    int r;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    /* EINVAL: a kernel without ambient capabilities. */
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
        return -errno;
    r = drop_bounding_set(); /* before the set that permits it goes */
    if (r == 0)
        r = drop_capability_sets();
    if (r < 0)
        return r;
    if (!SOCKST_SANITIZED && !is_traced() && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

static bool ambient_is_empty(void)
{
    for (unsigned long capability = 0; capability < CAPABILITY_MAX; capability++)
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) == 1)
            return false;
    return true;
}

bool privileges_none_left(void)
{
    cap_t now = cap_get_proc(), none = cap_init();
    bool empty = now && none && cap_compare(now, none) == 0;

    cap_free(now);
    cap_free(none);
    return empty && ambient_is_empty();
}
