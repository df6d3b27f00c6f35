/* poll.c - the poll mechanism, and select without FD_SETSIZE.
 *
 * Some facts about poll and select
 * ================================
 *
 * The kernel keeps no state between calls. poll takes an array with one record
 * per descriptor, select three bitmaps as long as the highest descriptor; both are
 * copied in, every descriptor is polled in turn, and the results are written over
 * the request. So the cost of a wait grows with the number of descriptors
 * (select: with the highest one), ready or not. There is no edge to trigger on
 * and nothing to disarm: a condition is reported for as long as it holds.
 *
 * FD_SETSIZE is a limit of the C library's fd_set type, 1024 bits. The kernel
 * has none but its own maximum of open files, and reads as many words as the
 * first argument requires, so bitmaps of any length work.
 *
 * select has three conditions and folds the rest into them: hang-up counts
 * as readable, an error as readable and writable. A closed descriptor fails
 * the whole call with EBADF, where poll reports POLLNVAL for that one.
 *
 * Consequences. Every waiter copies the set before it waits, because another
 * thread may change the set meanwhile, and the kernel writes into the copy. The
 * copy is refreshed only if the set has a newer version. A change wakes the waiters
 * with an older version, so a wait reports new registrations, as on epoll. Each
 * record of a copy has the generation of its registration: a descriptor that was
 * removed during the call is dropped from the result. Each ready array has a pipe
 * of its own for changes and wake-ups: a common one would be readable to all waiters
 * until one of them drains it.
 */
#include "internal.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    FMUX__WORD_BITS = (int)(sizeof(unsigned long) * CHAR_BIT),
    FMUX__HOLES_MIN = 64 /* fewer are not worth removing */
};

/* A half-closed peer is an event of Linux. Elsewhere poll has no bit for it, or
 * another one: this one ignores the end of the stream on FreeBSD. */
#if POLLRDHUP == 0x2000 && !defined(FMUX_NO_RDHUP)
enum { FMUX__REFUSED = 0 };
#else
enum { FMUX__REFUSED = 0x2000 };
#endif

/* ---- the set ----------------------------------------------------------- */

/* Wake all waiters because the set has changed; under the lock. */
static void fmux_poll__changed(fmux_t *mux)
{
    mux->version++;
    for (fmux_ready_t *r = mux->all_ready; r != NULL; r = r->next)
        if (r->waiting)
            (void)fmux_pipe_write(&r->wake);
}

static int fmux_poll__add(fmux_t *mux, int fd, fmux_entry_t *entry)
{
    if ((entry->mask & FMUX__REFUSED) != 0)
        return -EINVAL;
    if (fcntl(fd, F_GETFD) < 0)
        return -errno; /* as epoll does; poll itself would only report POLLNVAL */
    if (mux->set_length == mux->set_size) {
        uint32_t size = mux->set_size == 0 ? 64 : mux->set_size * 2;
        struct pollfd *set = realloc(mux->set, size * sizeof *set);
        if (set == NULL)
            return -ENOMEM;
        mux->set = set;
        mux->set_size = size;
    }
    entry->slot = mux->set_length++;
    mux->set[entry->slot] =
        (struct pollfd){.fd = fd, .events = (short)(uint16_t)entry->mask};
    fmux_poll__changed(mux);
    return 0;
}

static int fmux_poll__modify(fmux_t *mux, int fd, fmux_entry_t *entry,
                             uint32_t old_mask)
{
    (void)fd;
    if ((entry->mask & FMUX__REFUSED) != 0)
        return -EINVAL;
    if (entry->mask != old_mask) {
        mux->set[entry->slot].events = (short)(uint16_t)entry->mask;
        fmux_poll__changed(mux);
    }
    return 0;
}

static void fmux_poll__remove(fmux_t *mux, int fd, fmux_entry_t *entry)
{
    (void)fd;
    mux->set[entry->slot].fd = -1;
    mux->set_holes++;
    if (mux->set_holes >= FMUX__HOLES_MIN &&
        mux->set_holes > mux->set_length / 2) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < mux->set_length; i++) {
            if (mux->set[i].fd < 0)
                continue;
            fmux_entry(mux, mux->set[i].fd)->slot = kept;
            mux->set[kept++] = mux->set[i];
        }
        mux->set_length = kept;
        mux->set_holes = 0;
        mux->cursor = 0;
    }
    fmux_poll__changed(mux);
}

static int fmux_poll__open(fmux_t *mux)
{
    mux->version = 1; /* newer than the copy in any new ready array */
    return 0;
}

/* Close the pipes; the next wait on an array makes a new one. */
static void fmux_poll__release(fmux_t *mux)
{
    for (fmux_ready_t *r = mux->all_ready; r != NULL; r = r->next)
        fmux_pipe_close(&r->wake);
}

/* Only the pipes are shared with the parent. */
static void fmux_poll__forked(fmux_t *mux)
{
    fmux_poll__release(mux);
    for (fmux_ready_t *r = mux->all_ready; r != NULL; r = r->next)
        r->waiting = r->woken = false;
    atomic_store(&mux->wake_pending, false);
}

static int fmux_poll__wakeup(fmux_t *mux)
{
    fmux_ready_t *waiter = NULL;
    for (fmux_ready_t *r = mux->all_ready; r != NULL; r = r->next) {
        if (r->waiting && r->woken)
            return 0; /* the last wake-up is not consumed yet */
        if (r->waiting)
            waiter = r;
    }
    if (waiter != NULL && fmux_pipe_write(&waiter->wake))
        waiter->woken = true;
    else
        atomic_store(&mux->wake_pending, true);
    return 0;
}

/* ---- the system calls -------------------------------------------------- */

/* The differences between poll and select, all on the waiter's copy only: copy the
 * set; call the kernel; read the result for record i of the copy, and subtract its
 * part of the kernel's count from *n. */
typedef struct {
    int (*refresh)(fmux_ready_t *ready); /* under the lock */
    int (*ask)(fmux_ready_t *ready, int64_t timeout_ns);
    uint32_t (*answer)(const fmux_ready_t *ready, uint32_t i, int *n);
} fmux_poll__call_t;

static int fmux_poll__refresh(fmux_ready_t *ready)
{
    fmux_t *mux = ready->mux;
    if (mux->set_length >= ready->copy_size) {
        uint32_t size = mux->set_length + mux->set_length / 2 + 64;
        struct pollfd *copy = realloc(ready->copy, size * sizeof *copy);
        if (copy == NULL)
            return -ENOMEM;
        ready->copy = copy;
        uint32_t *generations =
            realloc(ready->copy_generations, size * sizeof *generations);
        if (generations == NULL)
            return -ENOMEM;
        ready->copy_generations = generations;
        ready->copy_size = size;
    }
    ready->copy[0] = (struct pollfd){.fd = ready->wake.read.fd, .events = POLLIN};
    uint32_t length = 0;
    for (uint32_t slot = 0; slot < mux->set_length; slot++) {
        int fd = mux->set[slot].fd;
        if (fd < 0)
            continue;
        ready->copy[++length] = mux->set[slot];
        ready->copy_generations[length] =
            atomic_load(&fmux_entry(mux, fd)->generation);
    }
    ready->copy_length = length;
    return 0;
}

static int fmux_poll__ask(fmux_ready_t *ready, int64_t timeout_ns)
{
    return fmux_poll_list(ready->copy, (int)ready->copy_length + 1, timeout_ns);
}

static uint32_t fmux_poll__answer(const fmux_ready_t *ready, uint32_t i, int *n)
{
    uint32_t events = (uint16_t)ready->copy[i].revents;
    *n -= events != 0;
    return events;
}

/* The bitmaps of select: three requests, then three that the kernel overwrites
 * with its result; each in the order read, write, exceptional. */
static unsigned long *fmux_select__bitmap(const fmux_ready_t *ready, int which)
{
    return ready->bits + (size_t)which * ready->words;
}

static void fmux_select__ask_for(fmux_ready_t *ready, int which, int fd)
{
    fmux_select__bitmap(ready, which)[fd / FMUX__WORD_BITS] |=
        1UL << (fd % FMUX__WORD_BITS);
}

static int fmux_select__refresh(fmux_ready_t *ready)
{
    int result = fmux_poll__refresh(ready);
    if (result < 0)
        return result;
    int highest = 0;
    for (uint32_t i = 1; i <= ready->copy_length; i++)
        if (ready->copy[i].fd > highest)
            highest = ready->copy[i].fd;
    ready->look_words = (uint32_t)(highest / FMUX__WORD_BITS + 1);
    if (ready->copy[0].fd > highest)
        highest = ready->copy[0].fd;
    ready->words = (uint32_t)(highest / FMUX__WORD_BITS + 1);
    if (ready->words > ready->words_size) {
        uint32_t size = ready->words + ready->words / 2;
        unsigned long *bits = realloc(ready->bits, 6 * size * sizeof *bits);
        if (bits == NULL)
            return -ENOMEM;
        ready->bits = bits;
        ready->words_size = size;
    }
    memset(ready->bits, 0, 3 * ready->words * sizeof *ready->bits);
    for (uint32_t i = 0; i <= ready->copy_length; i++) {
        int fd = ready->copy[i].fd;
        int events = ready->copy[i].events;
        if (events & POLLIN)
            fmux_select__ask_for(ready, 0, fd);
        if (events & POLLOUT)
            fmux_select__ask_for(ready, 1, fd);
        if (events & POLLPRI)
            fmux_select__ask_for(ready, 2, fd);
    }
    return 0;
}

static int fmux_select__ask(fmux_ready_t *ready, int64_t timeout_ns)
{
    unsigned long *maps[3] = {fmux_select__bitmap(ready, 3),
                              fmux_select__bitmap(ready, 4),
                              fmux_select__bitmap(ready, 5)};
    /* A look needs no pipe, which often has the highest number. */
    uint32_t words = timeout_ns == 0 ? ready->look_words : ready->words;
    for (int which = 0; which < 3; which++)
        memcpy(maps[which], fmux_select__bitmap(ready, which), words * sizeof **maps);
    int n = fmux_ask_select((int)words * FMUX__WORD_BITS, maps, timeout_ns);
    if (n < 0)
        return n;
    /* As after poll: copy[0] has the result for the pipe. */
    uint32_t fd = (uint32_t)ready->wake.read.fd, word = fd / FMUX__WORD_BITS;
    ready->copy[0].revents =
        word < words && (maps[0][word] >> (fd % FMUX__WORD_BITS) & 1) != 0;
    return n;
}

static uint32_t fmux_select__answer(const fmux_ready_t *ready, uint32_t i,
                                    int *n)
{
    static const uint32_t meaning[3] = {POLLIN, POLLOUT, POLLPRI};
    int fd = ready->copy[i].fd;
    uint32_t events = 0;
    for (int which = 0; which < 3; which++) {
        unsigned long word =
            fmux_select__bitmap(ready, which + 3)[fd / FMUX__WORD_BITS];
        if (word >> (fd % FMUX__WORD_BITS) & 1) {
            events |= meaning[which];
            --*n;
        }
    }
    return events;
}

/* ---- waiting ----------------------------------------------------------- */

/* Copy the kernel's n results to the ready array, except stale ones. If they do
 * not all fit, the next wait continues where this one was cut off, so nothing
 * starves. */
static int fmux_poll__collect(fmux_ready_t *ready, int n, int max_events,
                              const fmux_poll__call_t *call)
{
    fmux_t *mux = ready->mux;
    uint32_t length = ready->copy_length;
    uint32_t i = mux->cursor < length ? mux->cursor : 0;
    int rows = 0;
    mux->cursor = 0;
    n -= ready->copy[0].revents != 0;
    for (uint32_t left = length; left > 0 && n > 0; left--) {
        if (++i > length)
            i = 1;
        uint32_t events = call->answer(ready, i, &n);
        if (events == 0)
            continue;
        const fmux_entry_t *entry = fmux_entry(mux, ready->copy[i].fd);
        if (atomic_load(&entry->generation) != ready->copy_generations[i]) {
            fmux_count(&ready->counts.stale_events, 1);
            continue;
        }
        events &= entry->mask | POLLERR | POLLHUP | POLLNVAL;
        if (events == 0)
            continue;
        if (rows == max_events) {
            mux->cursor = i - 1;
            break;
        }
        fmux_report(ready, rows++, ready->copy[i].fd, events,
                    fmux_entry_tag(entry));
    }
    return rows;
}

static int fmux_poll__wait(fmux_ready_t *ready, int64_t timeout_ns,
                           int max_events, bool trying,
                           const fmux_poll__call_t *call)
{
    fmux_t *mux = ready->mux;
    int n = fmux_wait_begin(ready);
    if (n < 0)
        return n;
    int64_t now_ns = timeout_ns > 0 ? fmux_now_ns() : 0;
    /* A timeout that overflows the clock, after 292 years, is for ever. */
    if (timeout_ns > INT64_MAX - now_ns)
        timeout_ns = -1;
    int64_t deadline_ns = now_ns + timeout_ns;

    pthread_mutex_lock(&mux->lock);
    if (trying && mux->set_length - mux->set_holes > FMUX_FEW) {
        n = -EAGAIN; /* scanning many twice costs more than it saves */
        goto unlock;
    }
    while (atomic_load(&mux->state) == FMUX_OPERATIONAL) {
        if (timeout_ns != 0 && !fmux_pipe_is_ours(&ready->wake))
            fmux_pipe_close(&ready->wake); /* nothing could end the sleep */
        if (ready->wake.read.fd < 0) {
            n = fmux_pipe_open(&ready->wake);
            if (n < 0)
                break;
            ready->version = 0; /* the copy has another pipe */
        }
        if (ready->version != mux->version) {
            n = call->refresh(ready);
            if (n < 0)
                break;
            ready->version = mux->version;
        }
        bool woken = atomic_exchange(&mux->wake_pending, false);
        ready->waiting = true;
        ready->woken = false;
        pthread_mutex_unlock(&mux->lock);

        n = call->ask(ready, woken ? 0 : timeout_ns);
        if (timeout_ns > 0) {
            timeout_ns = deadline_ns - fmux_now_ns();
            if (timeout_ns < 0)
                timeout_ns = 0;
        }

        pthread_mutex_lock(&mux->lock);
        ready->waiting = false;
        bool same = ready->version == mux->version;
        if ((!same || ready->woken || n == -EBADF ||
             (n > 0 && ready->copy[0].revents != 0)) &&
            !fmux_pipe_drain(&ready->wake)) {
            fmux_pipe_close(&ready->wake); /* the program has closed it */
            same = false;
        }
        woken |= ready->woken;
        if (n == -EBADF && !same) {
            /* Removed first, then closed: no error of the caller. */
            mux->wake_pending |= woken;
            continue;
        }
        if (n >= 0)
            n = fmux_poll__collect(ready, n, max_events, call);
        else if (woken)
            n = 0;
        if (n == 0 && trying && !woken)
            n = -EAGAIN;
        if (n >= 0 && woken)
            fmux_count(&ready->counts.wakeups, 1);
        if (n != 0 || woken || timeout_ns == 0)
            break;
    }

unlock:
    pthread_mutex_unlock(&mux->lock);
    return fmux_wait_end(ready, n);
}

static const fmux_poll__call_t fmux_poll__call = {
    fmux_poll__refresh, fmux_poll__ask, fmux_poll__answer};

static int fmux_poll__look(fmux_ready_t *ready, int max_events, bool trying)
{
    return fmux_poll__wait(ready, 0, max_events, trying, &fmux_poll__call);
}

static int fmux_poll__sleep(fmux_ready_t *ready, int64_t timeout_ns,
                            int max_events)
{
    return fmux_poll__wait(ready, timeout_ns, max_events, false,
                           &fmux_poll__call);
}

static const fmux_poll__call_t fmux_select__call = {
    fmux_select__refresh, fmux_select__ask, fmux_select__answer};

static int fmux_select__look(fmux_ready_t *ready, int max_events, bool trying)
{
    return fmux_poll__wait(ready, 0, max_events, trying, &fmux_select__call);
}

static int fmux_select__sleep(fmux_ready_t *ready, int64_t timeout_ns,
                              int max_events)
{
    return fmux_poll__wait(ready, timeout_ns, max_events, false,
                           &fmux_select__call);
}

/* The two differ in look and sleep. */
#define FMUX__POLL_OR_SELECT(prefix)   \
    {                                  \
        .open = fmux_poll__open,       \
        .release = fmux_poll__release, \
        .add = fmux_poll__add,         \
        .modify = fmux_poll__modify,   \
        .remove = fmux_poll__remove,   \
        .wakeup = fmux_poll__wakeup,   \
        .kick = fmux_poll__changed,    \
        .forked = fmux_poll__forked,   \
        .look = prefix##__look,        \
        .sleep = prefix##__sleep,      \
    }

const fmux_mechanism_t fmux_poll = FMUX__POLL_OR_SELECT(fmux_poll);
const fmux_mechanism_t fmux_select = FMUX__POLL_OR_SELECT(fmux_select);
