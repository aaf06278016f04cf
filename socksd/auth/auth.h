/*
 * Authentication methods: rows of a table. The configuration decides which are used and in which
 * order of preference; what a client offers only narrows that.
 */
#ifndef SOCKST_SOCKSD_AUTH_AUTH_H
#define SOCKST_SOCKSD_AUTH_AUTH_H

#include "common/config/schema.h"
#include "proto/n1.h"

#define AUTH_ANSWER_MAX 64 /* octets that one step may answer */

enum auth_result {
    AUTH_ACCEPTED,
    AUTH_REJECTED,  /* the answer is sent, then the connection closes */
    AUTH_NEED_MORE, /* octets of the client */
};

/* One step of a method's exchange: what the client sent, and what it is answered. */
struct auth_step {
    const uint8_t *data; /* not yet consumed */
    size_t length;
    size_t consumed; /* out */
    uint8_t answer[AUTH_ANSWER_MAX];
    size_t answer_length; /* out */
};

struct auth_method {
    uint8_t number;   /* enum n1_method */
    const char *name; /* as in the configuration */
    /* Called when the method is chosen (perhaps with no octets yet) and whenever more octets are
     * there. */
    enum auth_result (*step)(struct auth_step *step);
};

extern const struct auth_method auth_none;

/* The row of a method number; NULL when there is none. */
const struct auth_method *auth_method_by_number(uint8_t number);

/* The first configured method (`configured`: list of int) that the client offers; NULL: none is
 * acceptable. */
const struct auth_method *auth_choose(const struct config_list *configured,
                                      const struct n1_methods *offered);

#endif
