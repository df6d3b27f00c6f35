/* fork.c - the state of every mux in a forked child.
 *
 * Some facts about fork
 * =====================
 *
 * The child has a copy of the memory and of the descriptor table, and a single
 * thread: the one that called fork. It follows that
 *
 * - a lock held by another thread stays locked. So a fork takes all locks of the
 *   core first, and releases them on both sides;
 * - a wait of another thread does not exist in the child, although the copied
 *   memory says that it is in progress. Closing would wait for its end;
 * - the descriptors are new, but the open files behind them are the parent's. An
 *   epoll set in particular is the same set: a change in the child is a change in
 *   the parent, and an edge goes to one waiter of either process.
 *
 * The last point is handled at the first use of a mux (fork_epoll.c), because most
 * children use none: they exec another program, or do one job and exit. Some of them
 * close all descriptors before: then a mux is closed, too.
 *
 * Sources: fork(2), epoll(7), pthread_atfork(3).
 */
#include "internal.h"

#include <stdlib.h>

/* Every mux of the process. This lock is taken before that of any mux. */
static pthread_mutex_t fmux__list_lock = PTHREAD_MUTEX_INITIALIZER;
static fmux_t *fmux__list; /* under the lock, as all below */

/* The mux whose epoll set got a number last, also if it is closed by now: chunks as of
 * fmux_entry_t. */
static fmux_t **fmux__owners[FMUX_CHUNKS];

/* True if a fork has made second sets, see fork_epoll.c. They are not in the table. */
static bool fmux__second_sets;

static void fmux__prepare(void)
{
    pthread_mutex_lock(&fmux__list_lock);
    for (fmux_t *mux = fmux__list; mux != NULL; mux = mux->next)
        pthread_mutex_lock(&mux->lock);
    for (fmux_t *mux = fmux__list; mux != NULL; mux = mux->next) {
        if (mux->mechanism->fork != NULL)
            mux->mechanism->fork(mux);
        int sleep_fd = atomic_load(&mux->sleep_fd);
        if (sleep_fd >= 0 && sleep_fd != mux->epoll_fd)
            fmux__second_sets = true;
    }
}

static void fmux__parent(void)
{
    for (fmux_t *mux = fmux__list; mux != NULL; mux = mux->next)
        pthread_mutex_unlock(&mux->lock);
    pthread_mutex_unlock(&fmux__list_lock);
}

static void fmux__child(void)
{
    for (fmux_t *mux = fmux__list; mux != NULL; mux = mux->next) {
        int state = atomic_load(&mux->state);
        for (fmux_ready_t *r = mux->all_ready; r != NULL; r = r->next) {
            atomic_store(&r->inside, false);
            atomic_store(&r->held, false);
        }
        if (state == FMUX_CLOSED && !mux->released) {
            mux->released = true; /* the waits that would do it do not exist */
            mux->mechanism->release(mux);
        } else if (state != FMUX_CLOSED) {
            mux->mechanism->forked(mux);
        }
        pthread_mutex_unlock(&mux->lock);
    }
    pthread_mutex_unlock(&fmux__list_lock);
}

static void fmux__begin(void)
{
    (void)pthread_atfork(fmux__prepare, fmux__parent, fmux__child);
}

void fmux_list_lock(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, fmux__begin);
    pthread_mutex_lock(&fmux__list_lock);
}

void fmux_list_unlock(void)
{
    pthread_mutex_unlock(&fmux__list_lock);
}

static fmux_t **fmux__owner(int fd)
{
    return fmux__owners[fmux_chunk(fd)] + fmux_place(fd);
}

void fmux_list_add(fmux_t *mux)
{
    mux->next = fmux__list;
    mux->link = &fmux__list;
    if (mux->next != NULL)
        mux->next->link = &mux->next;
    fmux__list = mux;
    if (mux->epoll_fd >= 0)
        *fmux__owner(mux->epoll_fd) = mux;
}

static void fmux__end_owner(fmux_t *mux, int fd, bool locked)
{
    if (mux->epoll_fd != fd && atomic_load(&mux->sleep_fd) != fd)
        return;
    if (!locked)
        pthread_mutex_lock(&mux->lock);
    fmux_end(mux);
    if (!locked)
        pthread_mutex_unlock(&mux->lock);
}

int fmux_list_disown(int fd, bool locked)
{
    int k = fmux_chunk(fd);
    if (fmux__owners[k] == NULL) {
        fmux__owners[k] = calloc(fmux_places(k), sizeof *fmux__owners[k]);
        if (fmux__owners[k] == NULL)
            return -ENOMEM;
    }
    if (*fmux__owner(fd) != NULL)
        fmux__end_owner(*fmux__owner(fd), fd, locked);
    if (fmux__second_sets)
        for (fmux_t *mux = fmux__list; mux != NULL; mux = mux->next)
            fmux__end_owner(mux, fd, locked);
    return 0;
}

void fmux_list_remove(fmux_t *mux)
{
    pthread_mutex_lock(&fmux__list_lock);
    *mux->link = mux->next;
    if (mux->next != NULL)
        mux->next->link = mux->link;
    if (mux->epoll_fd >= 0 && *fmux__owner(mux->epoll_fd) == mux)
        *fmux__owner(mux->epoll_fd) = NULL;
    pthread_mutex_unlock(&fmux__list_lock);
}
