#include "socksd/client_table.h"

#include <stdlib.h>
#include <string.h>

#include "common/keyed_hash.h"

/* Octets that identify an address, without the padding of the struct. */
struct client_key {
    uint8_t octets[1 + 16 + 4];
};

struct client {
    struct client_key key;
    uint64_t count;
    UT_hash_handle hh;
};

static struct client_key key_of(const struct ip_address *address)
{
    struct client_key key;
    key.octets[0] = address->family;
    memcpy(key.octets + 1, address->bytes, 16);
    memcpy(key.octets + 17, &address->scope_id, 4);
    return key;
}

struct client *client_enter(struct client_table *table, const struct ip_address *address,
                            bool *refused)
{
    struct client_key key = key_of(address);
    struct client *client;

    *refused = false;
    HASH_FIND(hh, table->clients, &key, sizeof(key), client);
    if (!client) {
        client = calloc(1, sizeof(*client));
        if (!client)
            return NULL;
        client->key = key;
        HASH_ADD(hh, table->clients, key, sizeof(key), client);
        if (!client->hh.tbl) {
            free(client);
            return NULL;
        }
    }
    if (client->count >= table->limit) {
        *refused = true;
        return NULL;
    }
    client->count++;
    return client;
}

void client_leave(struct client_table *table, struct client *client)
{
    if (!client || --client->count > 0)
        return;
    HASH_DEL(table->clients, client);
    free(client);
}
