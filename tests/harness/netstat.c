#include "tests/harness/netstat.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_OCTETS 16384

/* A table of two lines for each group: "Tcp: NAME NAME …", "Tcp: VALUE VALUE …". */
static bool find_in_columns(FILE *file, const char *group, const char *name, uint64_t *out)
{
    static char names[LINE_MAX_OCTETS], values[LINE_MAX_OCTETS];
    while (fgets(names, sizeof(names), file) != NULL && fgets(values, sizeof(values), file)) {
        char *name_rest, *value_rest;
        const char *column = strtok_r(names, " \n", &name_rest);
        const char *value = strtok_r(values, " \n", &value_rest);
        if (column == NULL || strncmp(column, group, strlen(group)) != 0 ||
            strcmp(column + strlen(group), ":") != 0) {
            continue;
        }
        while ((column = strtok_r(NULL, " \n", &name_rest)) != NULL &&
               (value = strtok_r(NULL, " \n", &value_rest)) != NULL) {
            if (strcmp(column, name) == 0) {
                *out = strtoull(value, NULL, 10);
                return true;
            }
        }
    }
    return false;
}

static bool find_in_rows(FILE *file, const char *name, uint64_t *out)
{
    char line[256], found[128];
    unsigned long long value;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%127s %llu", found, &value) == 2 && strcmp(found, name) == 0) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool find(const struct lab *lab, enum lab_place place, const char *table, const char *name,
                 uint64_t *out)
{
    FILE *file = lab_open_proc(lab, place, table);
    const char *colon = strchr(name, ':');
    char group[32];
    bool found;
    if (colon != NULL) {
        snprintf(group, sizeof(group), "%.*s", (int)(colon - name), name);
        found = find_in_columns(file, group, colon + 1, out);
    } else {
        found = find_in_rows(file, name, out);
    }
    fclose(file);
    return found;
}

uint64_t netstat_counter(const struct lab *lab, enum lab_place place, const char *name)
{
    uint64_t value = 0;
    const bool found = strchr(name, ':') == NULL ? find(lab, place, "snmp6", name, &value)
                                                 : find(lab, place, "snmp", name, &value) ||
                                                       find(lab, place, "netstat", name, &value);
    ck_assert_msg(found, "no counter %s", name);
    return value;
}

uint64_t netstat_checksum_errors(const struct lab *lab, enum lab_place place)
{
    static const char *const names[] = {"Tcp:InCsumErrors",  "Udp:InCsumErrors",
                                        "Icmp:InCsumErrors", "IpExt:InCsumErrors",
                                        "Udp6InCsumErrors",  "Icmp6InCsumErrors"};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        sum += netstat_counter(lab, place, names[i]);
    }
    return sum;
}
