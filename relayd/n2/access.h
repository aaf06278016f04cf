/*
 * Who may connect to N2: root, our own uid, and the users of n2.allow-users, as the kernel vouches
 * for them (SO_PEERCRED).
 */
#ifndef SOCKST_RELAYD_N2_ACCESS_H
#define SOCKST_RELAYD_N2_ACCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "relayd/config.h"

struct n2_access {
    uid_t uids[RELAYD_ALLOW_USERS_MAX];
    size_t count;
};

/* Looks the names up, blocking: before the loop runs. A name that the host does not know lets
 * nobody in and is logged. */
void n2_access_init(struct n2_access *access, const struct config_list *users);

bool n2_access_allows(const struct n2_access *access, uid_t uid);

#endif
