/*
 * Who is at the other end of a Unix socket, and the sockets themselves.
 */
#ifndef SOCKST_COMMON_IPC_PEER_H
#define SOCKST_COMMON_IPC_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct peer_credentials {
    uid_t uid;
    gid_t gid;
    pid_t pid;
};

/* SO_PEERCRED. Returns 0 or -errno. */
int peer_credentials_get(int fd, struct peer_credentials *out);

/* Is the peer's process in the group, as its gid or one of its supplementary groups
 * (SO_PEERGROUPS)? */
bool peer_is_in_group(int fd, gid_t group);

/*
 * A listening AF_UNIX stream socket at `path` with the given mode. A socket file left by a dead
 * process is replaced; one on which somebody still listens is not (-EADDRINUSE). A path too long
 * for sockaddr_un: -ENAMETOOLONG. Returns the fd (close-on-exec, non-blocking) or -errno.
 */
int unix_listen(const char *path, mode_t mode);

/* A connected AF_UNIX stream socket (close-on-exec, non-blocking), or -errno. */
int unix_connect(const char *path);

#endif
