#include "common/config/suggest.h"

#include <string.h>

#define KEY_MAX 40 /* longer ones are no slips of the pen */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][KEY_MAX + 1];
    size_t b_length = strlen(b);

    for (size_t j = 0; j <= b_length; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; a[i - 1]; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *second = rows[(i + 1) % 3];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_length; j++) {
            unsigned same = a[i - 1] == b[j - 1] ? 0 : 1;

            row[j] = least(least(above[j] + 1, row[j - 1] + 1), above[j - 1] + same);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], second[j - 2] + 1);
        }
    }
    return rows[strlen(a) % 3][b_length];
}

const char *config_suggest(const struct config_option *options, const char *key)
{
    size_t length = strlen(key);
    unsigned best = length < 4 ? 2 : length < 8 ? 3 : 4; /* one more than is forgiven */
    const char *nearest = NULL;

    if (length > KEY_MAX)
        return NULL;
    for (; options->name; options++) {
        unsigned far = strlen(options->name) > KEY_MAX ? best : distance(key, options->name);

        if (far < best) {
            best = far;
            nearest = options->name;
        }
    }
    return nearest;
}
