#include "relayd/ctl/daemons.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX ".sock"

static int is_socket_name(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);

    return entry->d_name[0] != '.' && length > strlen(SUFFIX) &&
           strcmp(entry->d_name + length - strlen(SUFFIX), SUFFIX) == 0;
}

static char *join(const char *directory, const char *name, const char *suffix)
{
    char *path;

    return asprintf(&path, "%s/%s%s", directory, name, suffix) < 0 ? NULL : path;
}

int daemons_list(struct daemons *daemons, const char *directory)
{
    struct dirent **entries = NULL;

    *daemons = (struct daemons){.directory = directory};
    int count = scandir(directory, &entries, is_socket_name, alphasort);

    if (count < 0)
        return -errno;
    int result = count > DAEMONS_MAX ? -E2BIG : 0;

    if (result == 0 && count > 0) {
        daemons->paths = calloc((size_t)count, sizeof(*daemons->paths));
        result = daemons->paths ? 0 : -ENOMEM;
    }
    for (int i = 0; i < count; i++) {
        char *path = result == 0 ? join(directory, entries[i]->d_name, "") : NULL;

        if (path)
            daemons->paths[daemons->count++] = path;
        else if (result == 0)
            result = -ENOMEM;
        free(entries[i]);
    }
    free(entries);
    if (result < 0)
        daemons_free(daemons);
    return result;
}

void daemons_free(struct daemons *daemons)
{
    for (size_t i = 0; i < daemons->count; i++)
        free(daemons->paths[i]);
    free(daemons->paths);
    daemons->paths = NULL;
    daemons->count = 0;
}

bool daemons_instance_is_valid(const char *name, size_t length)
{
    if (length == 0 || length > N2_LABEL_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_' || c == '.'))
            return false;
    }
    return true;
}

char *daemons_path(const char *directory, const char *instance)
{
    return join(directory, instance, SUFFIX);
}
