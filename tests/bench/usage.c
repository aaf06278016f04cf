#include "tests/bench/usage.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAPS_MAX 256
#define LINE_MAX_OCTETS 1024

/* The number behind `key` at the start of a line; 0 where there is none. */
static uint64_t number_in(const char *path, const char *key)
{
    char line[LINE_MAX_OCTETS];
    uint64_t value = 0;
    FILE *file = fopen(path, "re");

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            value = strtoull(line + strlen(key), NULL, 10);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return value;
}

static uint64_t cpu_us_of(pid_t pid)
{
    char path[64], line[LINE_MAX_OCTETS];
    uint64_t ticks = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    const char *at = fgets(line, sizeof(line), file) == NULL ? NULL : strrchr(line, ')');
    for (int field = 2; at != NULL && field < 15; field++) { /* utime 14, stime 15 */
        at = strchr(at + 1, ' ');
        ticks += at != NULL && field >= 13 ? strtoull(at, NULL, 10) : 0;
    }
    fclose(file);
    return ticks * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* A map that is held twice counts once. */
static bool seen_before(uint64_t *ids, unsigned count, uint64_t id)
{
    for (unsigned i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return count == MAPS_MAX;
}

struct usage usage_of(pid_t pid)
{
    struct usage usage = {0};
    uint64_t ids[MAPS_MAX];
    char path[320];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    usage.rss = number_in(path, "RssAnon:") * 1024;
    usage.cpu_us = cpu_us_of(pid);
    snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return usage;
    }
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        usage.descriptors++;
        snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", (int)pid, entry->d_name);
        uint64_t id = number_in(path, "map_id:");
        if (id != 0 && !seen_before(ids, usage.map_count, id)) {
            ids[usage.map_count++] = id;
            usage.maps += number_in(path, "memlock:");
        }
    }
    closedir(directory);
    return usage;
}
