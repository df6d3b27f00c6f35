/* fork_epoll.c - a new epoll set with the same registrations, for a forked child.
 *
 * The child inherits the parent's set, see fork.c. The table is not enough to make
 * a new one: a number in it may stand for another file by now, which was never
 * registered, and a one-shot registration may have fired. The kernel has the rest:
 * /proc/self/fdinfo lists the entries of a set, with the inode of each file, and
 * with an empty mask if a one-shot has fired. Without /proc, the table is the
 * fallback.
 *
 * The new set takes the number of the old one, and so does the eventfd: a
 * descriptor returned by fmux_fileno stays valid.
 *
 * Sources: proc(5), epoll(7).
 */
#include "internal.h"

#if defined(FMUX_HAVE_EPOLL)

#include "epoll.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* The bits that remain of a one-shot registration that has fired. */
#define FMUX__PRIVATE ((uint32_t)(EPOLLET | EPOLLONESHOT | EPOLLWAKEUP))

/* The generation of the entry, or 0. */
static uint32_t fmux_renew__generation(const fmux_entry_t *entry)
{
    return entry == NULL ? 0 : atomic_load(&entry->generation);
}

static int fmux_renew__add(int set, int fd, fmux_entry_t *entry)
{
    struct epoll_event record = fmux_epoll_record(fd, entry);
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &record) == 0)
        return 0;
    /* Closed, or a regular file by now: not watched. */
    return errno == EBADF || errno == EPERM ? 0 : -errno;
}

/* Add the entry of one fdinfo line to the new set. */
static int fmux_renew__line(fmux_t *mux, int set, const char *line)
{
    int fd;
    uint32_t events;
    uint64_t data;
    uint64_t inode;
    int found = sscanf(line,
                       "tfd: %d events: %" SCNx32 " data: %" SCNx64
                       " pos:%*s ino:%" SCNx64,
                       &fd, &events, &data, &inode);
    if (found < 3 || fd < 0)
        return 0; /* not an entry of the set */
    fmux_entry_t *entry = fmux_entry(mux, fd);
    if (fmux_renew__generation(entry) == 0 ||
        fmux_renew__generation(entry) != data >> 32)
        return 0; /* stale, or the eventfd */
    struct stat file;
    if (fstat(fd, &file) < 0 || (found == 4 && file.st_ino != (ino_t)inode))
        return 0; /* closed, or another file by now */
    if ((entry->mask & EPOLLONESHOT) != 0 && (events & ~FMUX__PRIVATE) == 0) {
        entry->slot = FMUX_ABSENT;
        return 0;
    }
    return fmux_renew__add(set, fd, entry);
}

static int fmux_renew__by_table(fmux_t *mux, int set)
{
    for (int k = 0; k < FMUX_CHUNKS; k++) {
        if (atomic_load(&mux->chunks[k]) == NULL)
            continue;
        int64_t first = ((INT64_C(1) << k) - 1) << 6;
        for (int64_t fd = first; fd < 2 * first + 64; fd++) {
            fmux_entry_t *entry = fmux_entry(mux, (int)fd);
            if (fmux_renew__generation(entry) == 0)
                continue;
            int result = fmux_renew__add(set, (int)fd, entry);
            if (result < 0)
                return result;
        }
    }
    return 0;
}

static int fmux_renew__fill(fmux_t *mux, int set)
{
    char text[256];
    int result = 0;
    snprintf(text, sizeof text, "/proc/self/fdinfo/%d", mux->epoll_fd);
    FILE *info = fopen(text, "re");
    if (info == NULL && (errno == ENOENT || errno == EACCES))
        return fmux_renew__by_table(mux, set);
    if (info == NULL)
        return -errno;
    while (result == 0 && fgets(text, sizeof text, info) != NULL)
        result = fmux_renew__line(mux, set, text);
    fclose(info);
    return result;
}

/* Put another eventfd under the number of the old one, and into the new set. */
static int fmux_renew__wake(fmux_t *mux, int set)
{
    int wake_read, wake_write;
    int wake_fd = atomic_load(&mux->wake_fd);
    if (wake_fd < 0)
        return 0;
    int result = fmux_wake_open(&wake_read, &wake_write);
    if (result < 0)
        return result;
    if (dup3(wake_read, wake_fd, O_CLOEXEC) < 0)
        result = -errno;
    else
        result = fmux_epoll_add_wake(set, wake_fd);
    fmux_wake_close(wake_read, wake_write);
    return result;
}

int fmux_epoll_renew(fmux_t *mux)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0)
        return -errno;
    int result = fmux_renew__fill(mux, set);
    if (result == 0)
        result = fmux_renew__wake(mux, set);
    if (result == 0 && dup3(set, mux->epoll_fd, O_CLOEXEC) < 0)
        result = -errno;
    if (result == 0)
        mux->stats.renewals++;
    close(set);
    return result;
}

#endif
