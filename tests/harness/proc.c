#include "tests/harness/proc.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness/wait.h"

#define INODES_MAX 65536
#define LINE_MAX_OCTETS 512

unsigned proc_fd_count(pid_t pid)
{
    char path[64];
    unsigned count = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    ck_assert_msg(directory != NULL, "%s: %s", path, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(directory);
    return count;
}

const char *proc_status(pid_t pid, const char *key)
{
    static char line[LINE_MAX_OCTETS];
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    const size_t length = strlen(key);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            fclose(file);
            line[strcspn(line, "\n")] = '\0';
            const char *value = line + length + 1;
            return value + strspn(value, " \t");
        }
    }
    fclose(file);
    ck_abort_msg("%s has no line %s", path, key);
}

unsigned proc_fd_count_at_rest(pid_t pid)
{
    unsigned count, next = proc_fd_count(pid);
    do {
        count = next;
        ALWAYS_FOR(true, 100);
        next = proc_fd_count(pid);
    } while (next != count);
    return count;
}

uint64_t proc_rss_kib(pid_t pid)
{
    return strtoull(proc_status(pid, "VmRSS"), NULL, 10);
}

bool proc_has_no_capability(pid_t pid)
{
    static const char *const sets[] = {"CapInh", "CapPrm", "CapEff", "CapAmb"};
    for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
        if (strtoull(proc_status(pid, sets[i]), NULL, 16) != 0) {
            return false;
        }
    }
    return true;
}

static int compare_inodes(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Inode numbers of the sockets among the process's descriptors, sorted. */
static size_t socket_inodes(pid_t pid, uint64_t *inodes)
{
    char path[64];
    size_t count = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    ck_assert_msg(directory != NULL, "%s: %s", path, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char target[64];
        const ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, 63);
        if (length > 0) {
            target[length] = '\0';
            if (sscanf(target, "socket:[%" SCNu64 "]", &inodes[count]) == 1) {
                ck_assert_uint_lt(++count, INODES_MAX);
            }
        }
    }
    closedir(directory);
    qsort(inodes, count, sizeof(inodes[0]), compare_inodes);
    return count;
}

/* "0100007F:0438" or 32 digits: words of the address in the host's byte order. */
static struct endpoint parse_hex(const char *text)
{
    uint8_t bytes[16] = {0};
    const size_t digits = strcspn(text, ":");
    for (size_t word = 0; word < digits / 8; word++) {
        char part[9] = {0};
        memcpy(part, text + word * 8, 8);
        const uint32_t value = (uint32_t)strtoul(part, NULL, 16);
        memcpy(bytes + word * 4, &value, 4);
    }
    return (struct endpoint){.address = digits == 8 ? ip_address_v4(bytes) : ip_address_v6(bytes),
                             .port = (uint16_t)strtoul(text + digits + 1, NULL, 16)};
}

static size_t scan_table(pid_t pid, const char *table, const uint64_t *inodes, size_t inode_count,
                         struct proc_socket *out, size_t max, size_t count)
{
    char path[64], line[LINE_MAX_OCTETS];
    snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)pid, table);
    FILE *file = fopen(path, "re");
    ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
    while (fgets(line, sizeof(line), file) != NULL) {
        char local[64], remote[64];
        unsigned state;
        uint64_t inode;
        if (sscanf(line, " %*[^:]: %63s %63s %x %*s %*s %*s %*s %*s %" SCNu64, local, remote,
                   &state, &inode) != 4 ||
            bsearch(&inode, inodes, inode_count, sizeof(inode), compare_inodes) == NULL) {
            continue;
        }
        if (count < max) {
            out[count] =
                (struct proc_socket){.protocol = table[0] == 't' ? IPPROTO_TCP : IPPROTO_UDP,
                                     .local = parse_hex(local),
                                     .remote = parse_hex(remote),
                                     .state = state,
                                     .inode = inode};
        }
        count++;
    }
    fclose(file);
    return count;
}

size_t proc_sockets(pid_t pid, struct proc_socket *out, size_t max)
{
    static const char *const tables[] = {"tcp", "tcp6", "udp", "udp6"};
    uint64_t *inodes = calloc(INODES_MAX, sizeof(*inodes));
    ck_assert_ptr_nonnull(inodes);
    const size_t inode_count = socket_inodes(pid, inodes);
    size_t count = 0;
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        count = scan_table(pid, tables[i], inodes, inode_count, out, max, count);
    }
    free(inodes);
    return count;
}

bool proc_holds(pid_t pid, const struct proc_socket *sockets, size_t count)
{
    uint64_t *inodes = calloc(INODES_MAX, sizeof(*inodes));
    ck_assert_ptr_nonnull(inodes);
    const size_t inode_count = socket_inodes(pid, inodes);
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        found = found || bsearch(&sockets[i].inode, inodes, inode_count, sizeof(inodes[0]),
                                 compare_inodes) != NULL;
    }
    free(inodes);
    return found;
}

static bool is(const struct endpoint *wanted, const struct endpoint *got)
{
    return ip_address_equal(&wanted->address, &got->address) &&
           (wanted->port == 0 || wanted->port == got->port);
}

static size_t count_sockets(pid_t pid, const struct endpoint *local, const struct endpoint *remote)
{
    struct proc_socket *sockets = calloc(INODES_MAX, sizeof(*sockets));
    ck_assert_ptr_nonnull(sockets);
    const size_t total = proc_sockets(pid, sockets, INODES_MAX);
    size_t count = 0;
    for (size_t i = 0; i < total; i++) {
        count += (local == NULL || is(local, &sockets[i].local)) &&
                 (remote == NULL || is(remote, &sockets[i].remote));
    }
    free(sockets);
    return count;
}

size_t proc_sockets_to(pid_t pid, struct endpoint remote)
{
    return count_sockets(pid, NULL, &remote);
}

size_t proc_sockets_at(pid_t pid, struct endpoint local)
{
    return count_sockets(pid, &local, NULL);
}
