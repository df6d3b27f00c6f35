/* fork_epoll.c - the epoll sets of a process that forks.
 *
 * A private set. The child makes a set of its own with the same registrations. The
 * table is not enough for that: a number in it may stand for another file by now,
 * which was never registered, and a one-shot registration may have fired. The kernel
 * has the rest: /proc/self/fdinfo lists the entries of a set, with the inode of each
 * file, and with an empty mask if a one-shot has fired. Without /proc, the table is the
 * fallback. The new set takes the number of the old one: a descriptor returned by
 * fmux_fileno stays valid.
 *
 * An inode is not a file: all eventfds share one, and a FIFO can be opened twice. Each
 * socket has its own. For all others, the inherited set is exact: it refuses to add a pair
 * of file and number that it has. If it takes the pair, the number stands for another
 * file, and the pair is removed again. (In between, the parent could register the same
 * pair, and lose it. This needs a file that both have, and that the parent has just
 * unregistered.)
 *
 * A shared set. An edge goes to one waiter of all processes, so a wake-up must not be
 * in the set: a waiter of the other process could take it. Before the first fork,
 * fmux_epoll_fork moves it to a second set, which has the wake-up socket and the
 * shared set as its two entries. Waits sleep in the second set, and each process has
 * its own. A wait that sleeps then costs one system call more. Without a fork there
 * is no second set.
 *
 * Sources: proc(5), epoll(7).
 */
#include "internal.h"

#if defined(FMUX_HAVE_EPOLL)

#include "epoll.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
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

/* Whether fd still stands for the file that the inherited set has under this number: 1
 * or 0, or -ENOMEM or -ENOSPC. */
static int fmux_renew__is_same(int inherited, int fd)
{
    struct epoll_event record = {
        .events = EPOLLET,
        .data.u64 = (uint64_t)UINT32_MAX << 32 | (uint32_t)fd, /* of no registration */
    };
    if (epoll_ctl(inherited, EPOLL_CTL_ADD, fd, &record) < 0)
        return errno == ENOMEM || errno == ENOSPC ? -errno : errno == EEXIST;
    (void)epoll_ctl(inherited, EPOLL_CTL_DEL, fd, NULL);
    return 0;
}

static int fmux_renew__add(int set, int fd, fmux_entry_t *entry)
{
    struct epoll_event record = fmux_epoll_record(fd, entry);
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &record) == 0)
        return 0;
    return errno == EBADF ? 0 : -errno; /* another thread has closed it */
}

/* Open the list of the entries of a set. */
static FILE *fmux_renew__entries(int set)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", set);
    return fopen(path, "re");
}

/* A line of that list. */
typedef struct {
    int fd;
    uint32_t events;
    uint64_t data;
    uint64_t inode; /* 0: unknown, as before Linux 4.13 */
} fmux_line_t;

/* Read the next line that is an entry. Returns false at the end. */
static bool fmux_renew__next(FILE *info, fmux_line_t *line_out)
{
    char text[256];
    while (fgets(text, sizeof text, info) != NULL) {
        *line_out = (fmux_line_t){0};
        if (sscanf(text,
                   "tfd: %d events: %" SCNx32 " data: %" SCNx64
                   " pos:%*s ino:%" SCNx64,
                   &line_out->fd, &line_out->events, &line_out->data,
                   &line_out->inode) >= 3)
            return true;
    }
    return false;
}

/* Add the entry of one line to the new set. */
static int fmux_renew__line(fmux_t *mux, int set, const fmux_line_t *line)
{
    int fd = line->fd;
    fmux_entry_t *entry = fmux_entry(mux, fd);
    if (fmux_renew__generation(entry) == 0 ||
        fmux_renew__generation(entry) != line->data >> 32)
        return 0; /* stale, or the wake-up socket */
    struct stat file;
    if (fstat(fd, &file) < 0 ||
        (line->inode != 0 && file.st_ino != (ino_t)line->inode))
        return 0; /* closed, or another file by now */
    bool is_exact = line->inode != 0 && S_ISSOCK(file.st_mode);
    int same = is_exact ? 1 : fmux_renew__is_same(mux->epoll_fd, fd);
    if (same <= 0)
        return same;
    if ((entry->mask & EPOLLONESHOT) != 0 &&
        (line->events & ~FMUX__PRIVATE) == 0) {
        entry->slot = FMUX_ABSENT;
        return 0;
    }
    return fmux_renew__add(set, fd, entry);
}

static int fmux_renew__by_table(fmux_t *mux, int set)
{
    for (int k = 0; k < mux->chunk_count; k++) {
        fmux_entry_t *chunk = atomic_load(&mux->chunks[k]);
        for (size_t i = 0; chunk != NULL && i < fmux_places(k); i++) {
            if (fmux_renew__generation(chunk + i) == 0)
                continue;
            int fd = (int)(fmux_first(k) + (int64_t)i);
            int result = fmux_renew__is_same(mux->epoll_fd, fd);
            if (result > 0)
                result = fmux_renew__add(set, fd, chunk + i);
            if (result < 0)
                return result;
        }
    }
    return 0;
}

static int fmux_renew__fill(fmux_t *mux, int set)
{
    fmux_line_t line;
    int result = 0;
    FILE *info = fmux_renew__entries(mux->epoll_fd);
    if (info == NULL && (errno == ENOENT || errno == EACCES))
        return fmux_renew__by_table(mux, set);
    if (info == NULL)
        return -errno;
    while (result == 0 && fmux_renew__next(info, &line))
        result = fmux_renew__line(mux, set, &line);
    fclose(info);
    return result;
}

/* ---- both kinds of sets ------------------------------------------------------- */

/* Add the shared set to the one in which waits sleep. */
static int fmux__add_set(fmux_t *mux, int sleep_fd)
{
    struct epoll_event record = {.events = EPOLLIN, .data.u64 = 1};
    return epoll_ctl(sleep_fd, EPOLL_CTL_ADD, mux->epoll_fd, &record) < 0 ? -errno
                                                                          : 0;
}

void fmux_epoll_release(fmux_t *mux)
{
    int sleep_fd = atomic_load(&mux->sleep_fd);
    if (sleep_fd != mux->epoll_fd && fmux_epoll_is_marked(sleep_fd))
        close(sleep_fd);
    if (fmux_epoll_is_marked(mux->epoll_fd))
        close(mux->epoll_fd);
}

/* Fill a new set: of a shared mux with the wake-up socket and the shared set, else
 * with the socket and the registrations. */
static int fmux__fill(fmux_t *mux, int set)
{
    int result = fmux_wake_socket(&mux->wake);
    if (result == 0)
        result = fmux_epoll_wake(mux, set, EPOLL_CTL_ADD, EPOLLET);
    if (result < 0)
        return result;
    return mux->shared ? fmux__add_set(mux, set)
                       : fmux_renew__fill(mux, set);
}

/* Make a new set. Returns it, or -errno. locked: the caller holds all locks, and keeps
 * the set under its new number. */
static int fmux__open_set(fmux_t *mux, bool locked)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0)
        return -errno;
    int result = locked ? fmux_list_disown(set, true) : 0; /* see fmux_epoll__open */
    if (result == 0)
        result = fmux_epoll_mark(set);
    if (result == 0)
        result = fmux__fill(mux, set);
    if (result == 0)
        return set;
    close(set);
    return result;
}

/* End all waits in the shared set, and remove the wake-up socket from it. Returns
 * false if the set is not ours any more. */
static bool fmux__empty_of_waits(fmux_t *mux)
{
    if (atomic_load(&mux->sleep_fd) < 0)
        return fmux_epoll_is_marked(mux->epoll_fd); /* no wait has slept */
    /* Level-triggered, it ends every wait. */
    if (!fmux_is_ours(&mux->wake) ||
        fmux_epoll_wake(mux, mux->epoll_fd, EPOLL_CTL_MOD, EPOLLOUT) < 0)
        return false;
    for (fmux_ready_t *r = mux->all_ready; r != NULL; r = r->next)
        while (atomic_load(&r->inside))
            sched_yield();
    return fmux_epoll_wake(mux, mux->epoll_fd, EPOLL_CTL_DEL, 0) == 0;
}

void fmux_epoll_fork(fmux_t *mux)
{
    int sleep_fd = atomic_load(&mux->sleep_fd);
    if (!mux->shared || atomic_load(&mux->state) != FMUX_OPERATIONAL ||
        (sleep_fd >= 0 && sleep_fd != mux->epoll_fd))
        return;
    /* If it cannot be made, the processes share the wake-ups. */
    int set = fmux__open_set(mux, true);
    if (set < 0)
        return;
    atomic_store(&mux->state, FMUX_FORKED); /* new waits go for the lock */
    if (fmux__empty_of_waits(mux)) {
        atomic_store(&mux->sleep_fd, set);
        (void)fmux_epoll_kick(mux); /* for a pending wake-up */
    } else {
        close(set);
    }
    atomic_store(&mux->state, FMUX_OPERATIONAL);
}

void fmux_epoll_forked(fmux_t *mux)
{
    int sleep_fd = atomic_load(&mux->sleep_fd);
    if (mux->shared && (sleep_fd < 0 || sleep_fd == mux->epoll_fd))
        return; /* see fmux_epoll_fork */
    atomic_store(&mux->wake_pending, false);
    atomic_store(&mux->state, FMUX_FORKED);
}

int fmux_epoll_renew(fmux_t *mux)
{
    int sleep_fd = atomic_load(&mux->sleep_fd);
    if (!fmux_epoll_is_marked(mux->epoll_fd) ||
        (sleep_fd >= 0 && !fmux_epoll_is_marked(sleep_fd))) {
        fmux_end(mux);
        return -ESHUTDOWN;
    }
    int set = fmux__open_set(mux, false);
    if (set < 0)
        return set;
    int result = 0;
    if (dup3(set, mux->shared ? sleep_fd : mux->epoll_fd, O_CLOEXEC) < 0)
        result = -errno;
    close(set);
    if (result < 0)
        return result;
    if (mux->shared)
        return 0;
    atomic_store(&mux->sleep_fd, mux->epoll_fd);
    if (sleep_fd >= 0 && sleep_fd != mux->epoll_fd)
        close(sleep_fd);
    mux->stats.renewals++;
    return 0;
}

#endif
