#include "common/ipc/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 128
#define GROUPS_FIRST 64

int peer_credentials_get(int fd, struct peer_credentials *out)
{
    struct ucred credentials;
    socklen_t length = sizeof(credentials);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0) {
        return -errno;
    }
    /* The kernel's answer for a socket without a peer. */
    if (length != sizeof(credentials) || credentials.uid == (uid_t)-1) {
        return -ENOTCONN;
    }
    out->uid = credentials.uid;
    out->gid = credentials.gid;
    out->pid = credentials.pid;
    return 0;
}

bool peer_is_in_group(int fd, gid_t group)
{
    struct peer_credentials credentials;
    if (group == (gid_t)-1 || peer_credentials_get(fd, &credentials) < 0) {
        return false;
    }
    if (credentials.gid == group) {
        return true;
    }
    gid_t few[GROUPS_FIRST];
    gid_t *groups = few;
    socklen_t length = sizeof(few);
    int result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length);
    if (result < 0 && errno == ERANGE) {
        /* `length` now says how much it takes: at most NGROUPS_MAX groups. */
        groups = malloc(length);
        if (groups == NULL) {
            return false;
        }
        result = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length);
    }
    bool found = false;
    for (size_t i = 0; result == 0 && !found && i < length / sizeof(gid_t); i++) {
        found = groups[i] == group;
    }
    if (groups != few) {
        free(groups);
    }
    return found;
}

static int unix_address(const char *path, struct sockaddr_un *out)
{
    size_t length = strlen(path);
    if (length == 0) {
        return -EINVAL;
    }
    if (length >= sizeof(out->sun_path)) {
        return -ENAMETOOLONG;
    }
    memset(out, 0, sizeof(*out));
    out->sun_family = AF_UNIX;
    memcpy(out->sun_path, path, length + 1);
    return 0;
}

static int unix_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int unix_connect(const char *path)
{
    struct sockaddr_un address;
    int result = unix_address(path, &address);
    if (result < 0) {
        return result;
    }
    int fd = unix_socket();
    if (fd < 0) {
        return fd;
    }
    /* Never EINPROGRESS on AF_UNIX: a full backlog is -EAGAIN, and the caller tries later. */
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        result = -errno;
        close(fd);
        return result;
    }
    return fd;
}

/* Removes a socket file on which nobody listens any more. Anything but a socket is left alone. */
static int remove_stale(const char *path)
{
    struct stat status;
    if (lstat(path, &status) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return -EADDRINUSE;
    }
    int fd = unix_connect(path);
    if (fd >= 0) {
        close(fd);
        return -EADDRINUSE;
    }
    if (fd != -ECONNREFUSED) {
        return fd == -EAGAIN ? -EADDRINUSE : fd; /* EAGAIN: its backlog is full, so it lives */
    }
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode)
{
    /* bind() gives the file 0777 less the umask: so the mode is right from the first moment. */
    mode_t before = umask(~mode & 0777);
    int result = bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 ? -errno : 0;
    umask(before);
    if (result == 0 && listen(fd, LISTEN_BACKLOG) < 0) {
        result = -errno;
        unlink(address->sun_path);
    }
    return result;
}

int unix_listen(const char *path, mode_t mode)
{
    struct sockaddr_un address;
    int result = unix_address(path, &address);
    if (result < 0) {
        return result;
    }
    int fd = unix_socket();
    if (fd < 0) {
        return fd;
    }
    result = bind_with_mode(fd, &address, mode);
    if (result == -EADDRINUSE) {
        result = remove_stale(path);
        if (result == 0) {
            result = bind_with_mode(fd, &address, mode);
        }
    }
    if (result < 0) {
        close(fd);
        return result;
    }
    return fd;
}
