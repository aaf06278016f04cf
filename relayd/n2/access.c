#include "relayd/n2/access.h"

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/log/log.h"

static bool user_lookup(const char *text, uid_t *out)
{
    if (isdigit((unsigned char)text[0])) {
        char *end;
        errno = 0;
        unsigned long long number = strtoull(text, &end, 10);
        if (errno != 0 || *end != '\0' || number >= (uid_t)-1) {
            return false;
        }
        *out = (uid_t)number;
        return true;
    }
    const struct passwd *user = getpwnam(text);
    if (user == NULL) {
        return false;
    }
    *out = user->pw_uid;
    return true;
}

void n2_access_init(struct n2_access *access, const struct config_list *users)
{
    char *const *names = users->items;

    access->count = 0;
    for (size_t i = 0; i < users->count && access->count < RELAYD_ALLOW_USERS_MAX; i++) {
        if (user_lookup(names[i], &access->uids[access->count])) {
            access->count++;
        } else {
            LOG(LOG_LEVEL_WARNING, "unknown-user", LOG_S("option", "n2.allow-users"),
                LOG_S("user", names[i]));
        }
    }
}

bool n2_access_allows(const struct n2_access *access, uid_t uid)
{
    if (uid == 0 || uid == geteuid()) {
        return true;
    }
    for (size_t i = 0; i < access->count; i++) {
        if (access->uids[i] == uid) {
            return true;
        }
    }
    return false;
}
