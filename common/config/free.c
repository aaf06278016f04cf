#include <stdlib.h>
#include <string.h>

#include "common/config/schema.h"
#include "common/config/values.h"

static void free_list(const struct config_option *option, struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (option->type == CONFIG_RECORDS)
            config_free(option->children, (char *)list->items + i * option->record_size);
        else if (option->type == CONFIG_LIST && option->element == CONFIG_STRING)
            free(((char **)list->items)[i]);
    }
    free(list->items);
    memset(list, 0, sizeof(*list));
}

void config_free(const struct config_option *schema, void *config)
{
    for (const struct config_option *option = schema; option->name; option++) {
        void *value = (char *)config + option->offset;

        switch (option->type) {
        case CONFIG_SECTION:
            config_free(option->children, config);
            break;
        case CONFIG_LIST:
        case CONFIG_RECORDS:
        case CONFIG_PAIRS:
            free_list(option, value);
            break;
        case CONFIG_STRING:
            free(*(char **)value);
            *(char **)value = NULL;
            break;
        default:
            break;
        }
    }
}
