/* fastmux.c - shared by all mechanisms: the life cycle of a mux, its table of
 * descriptors, and the entry points of a wait. (Ready arrays: ready.c.)
 *
 * Locking
 * -------
 * Every change of a mux happens under mux->lock. A wait does not take the lock,
 * which it would hold for as long as it sleeps. It reads the table while other
 * threads change it: entries never move, and the fields that it reads are atomic.
 *
 * Closing must not close a descriptor while a wait is in the kernel with it: the
 * kernel would go on with the old file, and the number might already stand for
 * another one. So a wait first sets ready->inside and then reads mux->state;
 * closing first sets mux->state and then reads ready->inside. In every
 * interleaving at least one of the two reads the value that the other has set. A
 * wait that leaves takes the same two steps, so exactly one wait is the last, and
 * the last one releases the descriptors.
 *
 * The memory outlives the descriptors. A closed mux still returns -ESHUTDOWN;
 * only fmux_free, once no ready array is left, frees it.
 */
#include "internal.h"

#include <fcntl.h>
#include <stdlib.h>

static const fmux_mechanism_t *fmux__mechanism(int number)
{
    switch (number) {
#if defined(FMUX_HAVE_EPOLL)
    case FMUX_EPOLL:
        return &fmux_epoll;
#endif
    case FMUX_POLL:
        return &fmux_poll;
    case FMUX_SELECT:
        return &fmux_select;
    default:
        return NULL;
    }
}

int fmux_mechanisms(void)
{
    int set = 0;
    for (int number = FMUX_EPOLL; number <= FMUX_SELECT; number++)
        if (fmux__mechanism(number) != NULL)
            set |= 1 << number;
    return set;
}

/* ---- the mux ----------------------------------------------------------- */

int fmux_open(int mechanism, fmux_t **mux_out)
{
    int result;
    const fmux_mechanism_t *chosen = fmux__mechanism(mechanism);
    if (chosen == NULL)
        return -EINVAL;

    fmux_t *mux = calloc(1, sizeof *mux);
    if (mux == NULL)
        return -ENOMEM;
    mux->mechanism = chosen;
    mux->epoll_fd = mux->wake.fd = -1;
    atomic_init(&mux->sleep_fd, -1);
    mux->handles = 1;

    result = -pthread_mutex_init(&mux->lock, NULL);
    if (result < 0)
        goto free_mux;
    fmux_list_lock();
    result = chosen->open(mux);
    if (result == 0)
        fmux_list_add(mux);
    fmux_list_unlock();
    if (result < 0)
        goto destroy_lock;
    *mux_out = mux;
    return 0;

destroy_lock:
    pthread_mutex_destroy(&mux->lock);
free_mux:
    free(mux);
    return result;
}

/* Release the descriptors of a closed mux, or end the waits in progress. Each wait
 * that leaves calls this again, because one kick may end only one of them. */
void fmux_end(fmux_t *mux)
{
    atomic_store(&mux->state, FMUX_CLOSED);
    fmux_ready_t *r = mux->all_ready;
    while (r != NULL && !atomic_load(&r->inside))
        r = r->next;
    if (r != NULL) {
        mux->mechanism->kick(mux);
    } else if (!mux->released) {
        mux->released = true;
        mux->mechanism->release(mux);
    }
}

void fmux_leave_closed(fmux_t *mux)
{
    pthread_mutex_lock(&mux->lock);
    fmux_end(mux);
    pthread_mutex_unlock(&mux->lock);
}

int fmux_close(fmux_t *mux)
{
    pthread_mutex_lock(&mux->lock);
    if (atomic_load(&mux->state) != FMUX_CLOSED)
        fmux_end(mux);
    pthread_mutex_unlock(&mux->lock);
    return 0;
}

void fmux_drop_handle(fmux_t *mux)
{
    bool last = --mux->handles == 0;
    pthread_mutex_unlock(&mux->lock);
    if (!last)
        return;
    fmux_list_remove(mux);
    for (int k = 0; k < mux->chunk_count; k++) {
        fmux_entry_t *chunk =
            atomic_load_explicit(&mux->chunks[k], memory_order_relaxed);
        if (chunk != NULL)
            free(chunk);
    }
    free(mux->set);
    pthread_mutex_destroy(&mux->lock);
    free(mux);
}

void fmux_free(fmux_t *mux)
{
    fmux_close(mux);
    pthread_mutex_lock(&mux->lock);
    fmux_drop_handle(mux);
}

int fmux_lock(fmux_t *mux)
{
    int result = 0;
    pthread_mutex_lock(&mux->lock);
    int state = atomic_load(&mux->state);
    if (state == FMUX_CLOSED)
        result = -ESHUTDOWN;
    else if (state == FMUX_FORKED)
        result = mux->mechanism->renew(mux);
    if (result < 0)
        pthread_mutex_unlock(&mux->lock);
    else if (state == FMUX_FORKED)
        atomic_store(&mux->state, FMUX_OPERATIONAL);
    return result;
}

int fmux_wait_begin_slowly(fmux_ready_t *ready)
{
    int result;
    do {
        bool held = atomic_load(&ready->held);
        if (!fmux_wait_leave(ready))
            return -ESHUTDOWN;
        if (held)
            return -EBUSY;
        if ((result = fmux_lock(ready->mux)) < 0)
            return result;
        pthread_mutex_unlock(&ready->mux->lock);
    } while ((result = fmux_wait_enter(ready)) > 0);
    return result;
}

int fmux_set_shared(fmux_t *mux, int shared)
{
    int result = fmux_lock(mux);
    if (result < 0)
        return result;
    mux->shared = shared != 0;
    pthread_mutex_unlock(&mux->lock);
    return 0;
}

int fmux_fileno(fmux_t *mux)
{
    int result = fmux_lock(mux);
    if (result < 0)
        return result;
    result = mux->epoll_fd >= 0 ? mux->epoll_fd : -EOPNOTSUPP;
    pthread_mutex_unlock(&mux->lock);
    return result;
}

int fmux_wakeup(fmux_t *mux)
{
    int result = fmux_lock(mux);
    if (result < 0)
        return result;
    result = mux->mechanism->wakeup(mux);
    pthread_mutex_unlock(&mux->lock);
    return result;
}

/* ---- the table --------------------------------------------------------- */

/* Return the entry of fd, with a chunk; under the lock. */
static int fmux__make_entry(fmux_t *mux, int fd, fmux_entry_t **entry_out)
{
    fmux_entry_t *entry = fmux_entry(mux, fd);
    if (entry == NULL) {
        int k = fmux_chunk(fd);
        /* No large chunk for a number that is not open. */
        if (fmux_places(k) > 256 && fcntl(fd, F_GETFD) < 0)
            return -errno;
        /* calloc gets a large chunk from the kernel, which provides a page only
         * when it is touched. */
        fmux_entry_t *chunk = calloc(fmux_places(k), sizeof *chunk);
        if (chunk == NULL)
            return -ENOMEM;
        atomic_store_explicit(&mux->chunks[k], chunk, memory_order_release);
        if (k >= mux->chunk_count)
            mux->chunk_count = k + 1;
        entry = chunk + fmux_place(fd);
    }
    *entry_out = entry;
    return 0;
}

static void fmux__set_tag(fmux_entry_t *entry, int32_t tag)
{
    atomic_store_explicit(&entry->tag, tag + 1, memory_order_relaxed);
}

static bool fmux__watched(fmux_entry_t *entry)
{
    return entry != NULL && atomic_load_explicit(&entry->generation,
                                                 memory_order_relaxed) != 0;
}

static void fmux__set_generation(fmux_entry_t *entry, uint32_t generation)
{
    atomic_store_explicit(&entry->generation, generation,
                          memory_order_release);
}

int fmux_add(fmux_t *mux, int fd, uint32_t mask)
{
    if (fd < 0)
        return -EBADF;
    int result = fmux_lock(mux);
    if (result < 0)
        return result;

    fmux_entry_t *entry = NULL;
    result = fmux__make_entry(mux, fd, &entry);
    if (result < 0)
        goto unlock;
    if (fmux__watched(entry)) {
        result = -EEXIST;
        goto unlock;
    }
    if (++mux->last_generation == 0) /* 0 means: not watched */
        mux->last_generation = 1;
    entry->mask = mask;
    /* Set both before the kernel has the descriptor: another thread may receive
     * its event at once, and reads the generation and the tag. */
    bool first = fmux_entry_tag(entry) < 0;
    if (first)
        fmux__set_tag(entry, mux->tags++);
    fmux__set_generation(entry, mux->last_generation);
    result = mux->mechanism->add(mux, fd, entry);
    if (result == 0) {
        result = fmux_entry_tag(entry);
        goto unlock;
    }
    fmux__set_generation(entry, 0);
    if (first) {
        fmux__set_tag(entry, -1);
        mux->tags--;
    }

unlock:
    pthread_mutex_unlock(&mux->lock);
    return result;
}

/* fmux_modify, under the lock. */
static int fmux__change(fmux_t *mux, int fd, uint32_t mask)
{
    fmux_entry_t *entry = fd < 0 ? NULL : fmux_entry(mux, fd);
    if (!fmux__watched(entry))
        return -ENOENT;
    uint32_t old_mask = entry->mask;
    entry->mask = mask;
    int result = mux->mechanism->modify(mux, fd, entry, old_mask);
    if (result >= 0)
        return fmux_entry_tag(entry);
    if (result == -ENOENT || result == -EBADF || result == -EPERM)
        fmux__set_generation(entry, 0);
    else
        entry->mask = old_mask;
    return result;
}

int fmux_modify(fmux_t *mux, int fd, uint32_t mask)
{
    int result = fmux_lock(mux);
    if (result < 0)
        return result;
    result = fmux__change(mux, fd, mask);
    pthread_mutex_unlock(&mux->lock);
    return result;
}

void fmux_give_back(fmux_ready_t *ready, int n, int woken)
{
    const uint32_t once = UINT32_C(3) << 30; /* EPOLLET | EPOLLONESHOT */
    fmux_t *mux = ready->mux;
    if (fmux_lock(mux) < 0)
        return;
    for (int i = 0; i < n; i++) {
        uint32_t mask = fmux_entry(mux, ready->fds[i])->mask;
        if ((mask & once) != 0)
            (void)fmux__change(mux, ready->fds[i], mask);
    }
    if (woken)
        (void)mux->mechanism->wakeup(mux);
    pthread_mutex_unlock(&mux->lock);
}

int fmux_remove(fmux_t *mux, int fd)
{
    int result = fmux_lock(mux);
    if (result < 0)
        return result;

    fmux_entry_t *entry = fd < 0 ? NULL : fmux_entry(mux, fd);
    if (fmux__watched(entry)) {
        mux->mechanism->remove(mux, fd, entry);
        fmux__set_generation(entry, 0);
        result = fmux_entry_tag(entry);
    } else {
        result = -ENOENT;
    }

    pthread_mutex_unlock(&mux->lock);
    return result;
}

int fmux_tag(fmux_t *mux, int fd)
{
    const fmux_entry_t *entry = fd < 0 ? NULL : fmux_entry(mux, fd);
    return entry == NULL || fmux_entry_tag(entry) < 0 ? -ENOENT
                                                      : fmux_entry_tag(entry);
}

/* ---- waiting: tail calls, see fmux_mechanism_t -------------------------- */

int fmux_wait(fmux_ready_t *ready, int64_t timeout_ns, int max_events)
{
    if (max_events < 1 || max_events > ready->capacity)
        return -EINVAL;
    if (timeout_ns == 0)
        return ready->mux->mechanism->look(ready, max_events, false);
    return ready->mux->mechanism->sleep(ready, timeout_ns, max_events);
}

int fmux_try(fmux_ready_t *ready, int max_events)
{
    if (max_events < 1 || max_events > ready->capacity)
        return -EINVAL;
    return ready->mux->mechanism->look(ready, max_events, true);
}
