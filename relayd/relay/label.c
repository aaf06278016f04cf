#include "relayd/relay/label.h"

#include <search.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct label {
    uint32_t users; /* at most two per relay: cannot overflow */
    char *text;     /* `own`, or what a search is for */
    char own[];
};

static int label_compare(const void *a, const void *b)
{
    return strcmp(((const struct label *)a)->text, ((const struct label *)b)->text);
}

static struct label *label_add(struct label_table *table, const char *text)
{
    size_t size = strlen(text) + 1;
    struct label *label = malloc(sizeof(*label) + size);
    if (label == NULL) {
        return NULL;
    }
    label->users = 1;
    label->text = label->own;
    memcpy(label->own, text, size);
    if (tsearch(label, &table->root, label_compare) == NULL) {
        free(label);
        return NULL;
    }
    table->count++;
    return label;
}

struct label *label_get(struct label_table *table, const char *text)
{
    struct label wanted = {.text = (char *)text};
    struct label **found = tfind(&wanted, &table->root, label_compare);
    if (found == NULL) {
        return label_add(table, text);
    }
    (*found)->users++;
    return *found;
}

void label_put(struct label_table *table, struct label *label)
{
    if (label == NULL || --label->users > 0) {
        return;
    }
    tdelete(label, &table->root, label_compare);
    table->count--;
    free(label);
}

const char *label_text(const struct label *label)
{
    return label == NULL ? "" : label->text;
}
