/* epoll.c - the epoll mechanism.
 *
 * Some facts about epoll
 * ======================
 *
 * Cost. An epoll set is a kernel object with two lists: the interest list
 * (epoll_ctl adds, changes and deletes its entries) and the ready list. When
 * data arrives, the driver or protocol calls back into every set that watches
 * the file, and the entry goes on the ready list. So epoll_wait never visits
 * idle descriptors: its cost grows with the number of ready ones, while poll
 * and select visit every watched descriptor at every call.
 *
 * Copies. Epoll does not share memory with the kernel, although this is often
 * said: epoll_wait copies one struct epoll_event per ready descriptor out to
 * the caller. Compared with poll, it saves the copy IN (the interest list
 * stays in the kernel) and the copy out of all that is not ready. The
 * ready array saves work on this side of the call: no allocation and no
 * clearing per wait, and no second copy from a temporary buffer. The kernel
 * writes its records into the array, and fmux_epoll__collect copies them to
 * its columns.
 *
 * Level-triggered, the default, means: reported by every wait while the
 * condition holds. The kernel puts each reported entry back on the tail of the
 * ready list; the next wait polls the file again, and drops the entry if it is
 * no longer ready. It follows that a small array starves no descriptor: the
 * next wait begins with the entries that did not fit in this one.
 *
 * Edge-triggered (EPOLLET) means: reported once after each call-back of the
 * file, that is, when something NEW happens; the entry is not put back. A
 * reader that stops before EAGAIN gets no report of the rest. Every arrival of
 * data is a new edge. Edges before a wait are merged, so one report may stand
 * for several arrivals; and there may be several reports of data that one read
 * receives. EPOLL_CTL_MOD polls the file: it reports the condition again if it
 * still holds.
 *
 * One-shot (EPOLLONESHOT) disarms the registration after one report; it stays
 * in the set with an empty mask until EPOLL_CTL_MOD re-arms it. EPOLLEXCLUSIVE
 * is for several SETS that watch one file, such as a listening socket in
 * several processes: an event wakes at least one of them instead of all. It
 * cannot be changed by EPOLL_CTL_MOD, nor combined with EPOLLONESHOT, so a
 * change here is a delete and an add.
 *
 * Errors and hang-ups (EPOLLERR, EPOLLHUP) are always reported; no mask
 * suppresses them. Half-close by the peer (EPOLLRDHUP) must be requested.
 *
 * Identity. An entry of a set is not a descriptor. It is the pair of an open
 * file (the object that dup and fork share) and the number that it had when it
 * was added. A file leaves all sets when its last reference is closed; while a
 * duplicate of it is open, here or in a child, closing the number leaves the
 * entry in the set. It is still reported, under a number that is closed by now or
 * stands for another file, and it cannot be deleted: epoll_ctl looks the number
 * up first, and returns EBADF or ENOENT. Only a new set is free of it.
 *
 * Hence the generation. epoll_data carries 64 bits of ours. The low half is
 * the descriptor, the high half the number of its registration. A report is
 * stale, and dropped, if its registration is not the current one of the
 * descriptor. This also covers a batch that one thread has read while another
 * closes and reuses a descriptor.
 *
 * Regular files and directories get EPERM. A read of them never waits for a
 * peer, so the kernel gives them no poll function, and epoll has no call-back
 * to rely on. poll and select accept them, and always report them as ready.
 *
 * Timeouts. epoll_wait counts milliseconds; epoll_pwait2 (Linux 5.11) takes
 * nanoseconds. Sandboxes with a list of known calls may refuse the newer one
 * with EPERM, old kernels with ENOSYS. The fallback is milliseconds, rounded
 * up: a wait that ends before its deadline makes its caller spin.
 *
 * Wake-ups. A wait is ended by EPOLL_CTL_MOD: it polls the file again, and for an
 * edge-triggered one that is ready it reports a new edge. The file is a socket that is
 * always writable, see wakeup.c. All sets of a process share it, under one number,
 * because nothing is ever written to it. An edge wakes one waiter only, and stays
 * pending for the next wait if there is none. Closing the epoll descriptor wakes no
 * waiter. A set gets the socket before the first wait that sleeps, or the first wake-up:
 * adding it takes longer than opening the set. If the kernel refuses it (no memory, no
 * watch, no descriptor left), waits sleep for a tenth of a second at a time.
 *
 * The same call tells whether a number is still the set: epoll_ctl returns EBADF,
 * EINVAL or ENOENT if the program has closed the set and opened another file under
 * its number, and changes nothing. Where no wake-up is meant, a mark tells it, see
 * epoll.h.
 *
 * A descriptor can be added while another thread waits on the set. If it is
 * ready, that thread wakes.
 *
 * Sources: epoll(7), epoll_ctl(2), epoll_wait(2), and the tests of this project.
 */
#include "internal.h"

#if defined(FMUX_HAVE_EPOLL)

#include "epoll.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The headers of the oldest system on which wheels are built lack this number. It
 * is the same on all architectures for which wheels are built. */
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

/* The bits that epoll_ctl(2) allows in a mask with EPOLLEXCLUSIVE. */
#define FMUX__BESIDE_EXCLUSIVE                                           \
    ((uint32_t)(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | \
                EPOLLET | EPOLLEXCLUSIVE))

/* The longest sleep of a wait that no wake-up can end. */
enum { FMUX__UNARMED_NS = 100000000 };

/* Records that fmux_set_wait keeps on the stack: the default of epoll.poll(). */
enum { FMUX__FEW_RECORDS = 1023 };

/* Set once epoll_pwait2 has been refused. Process-wide, because it is a property
 * of the kernel or the sandbox. A race costs one more try. */
static _Atomic bool fmux_epoll__coarse;

static int fmux_epoll__ctl(fmux_t *mux, int operation, int fd,
                           fmux_entry_t *entry)
{
    struct epoll_event record = fmux_epoll_record(fd, entry);
    mux->stats.control_calls++;
    return epoll_ctl(mux->epoll_fd, operation, fd, &record) < 0 ? -errno : 0;
}

static int fmux_epoll__add(fmux_t *mux, int fd, fmux_entry_t *entry)
{
    if (fd == mux->wake.fd && fmux_is_ours(&mux->wake))
        return -EBADF; /* open, but the wake-up socket */
    entry->slot = 0;
    int result = fmux_epoll__ctl(mux, EPOLL_CTL_ADD, fd, entry);
    if (result == -EEXIST) {
        /* In the set but not in the table: a file that was closed and removed
         * while a duplicate stayed open, and has its old number again. */
        (void)fmux_epoll__ctl(mux, EPOLL_CTL_DEL, fd, entry);
        result = fmux_epoll__ctl(mux, EPOLL_CTL_ADD, fd, entry);
    }
    return result;
}

static void fmux_epoll__remove(fmux_t *mux, int fd, fmux_entry_t *entry)
{
    /* EBADF and ENOENT are no error: the file is closed, and its entry has left the
     * set or cannot be deleted. Its generation is stale from now on. */
    (void)fmux_epoll__ctl(mux, EPOLL_CTL_DEL, fd, entry);
}

static int fmux_epoll__modify(fmux_t *mux, int fd, fmux_entry_t *entry,
                              uint32_t old_mask)
{
    uint32_t mask = entry->mask;
    if (entry->slot == FMUX_ABSENT) {
        int result = fmux_epoll__ctl(mux, EPOLL_CTL_ADD, fd, entry);
        if (result == 0)
            entry->slot = 0;
        if (result != -EEXIST)
            return result;
        entry->slot = 0; /* the renewal failed: the old set has the entry */
    }
    if (((mask | old_mask) & EPOLLEXCLUSIVE) == 0)
        return fmux_epoll__ctl(mux, EPOLL_CTL_MOD, fd, entry);
    /* Checked before the delete: adding the old mask again, after the kernel has
     * refused the new one, would re-arm it. */
    if ((mask & EPOLLEXCLUSIVE) != 0 && (mask & ~FMUX__BESIDE_EXCLUSIVE) != 0)
        return -EINVAL;
    int result = fmux_epoll__ctl(mux, EPOLL_CTL_DEL, fd, entry);
    if (result < 0)
        return result;
    result = fmux_epoll__ctl(mux, EPOLL_CTL_ADD, fd, entry);
    if (result < 0) {
        entry->mask = old_mask;
        if (fmux_epoll__ctl(mux, EPOLL_CTL_ADD, fd, entry) < 0)
            result = -ENOENT; /* now neither mask is watched */
    }
    return result;
}

/* Add the wake-up socket to the set. */
static int fmux_epoll__arm(fmux_t *mux)
{
    if (atomic_load(&mux->sleep_fd) >= 0)
        return 0;
    if (!fmux_epoll_is_marked(mux->epoll_fd)) {
        fmux_end(mux);
        return -ESHUTDOWN;
    }
    uint32_t pending = atomic_load(&mux->wake_pending) ? EPOLLOUT : 0;
    int result = fmux_wake_socket(&mux->wake);
    if (result == 0)
        result = fmux_epoll_wake(mux, mux->epoll_fd, EPOLL_CTL_ADD,
                                 EPOLLET | pending);
    if (result == -EEXIST) /* by another process that shares the set */
        result = 0;
    if (result == 0)
        atomic_store(&mux->sleep_fd, mux->epoll_fd);
    return result;
}

static int fmux_epoll__wakeup(fmux_t *mux)
{
    int result = fmux_epoll__arm(mux);
    if (result == -ESHUTDOWN)
        return result;
    atomic_store(&mux->wake_pending, true);
    if (result < 0 || fmux_epoll_kick(mux))
        return 0;
    fmux_end(mux);
    return -ESHUTDOWN;
}

static void fmux_epoll__kick(fmux_t *mux)
{
    (void)fmux_epoll_kick(mux);
}

static int fmux_epoll__open(fmux_t *mux)
{
    mux->epoll_fd = fmux_set_open();
    if (mux->epoll_fd < 0)
        return mux->epoll_fd;
    /* Before it is marked: a mux that lost this number would take the new set for its
     * own. */
    int result = fmux_list_disown(mux->epoll_fd, false);
    if (result == 0)
        result = fmux_epoll_mark(mux->epoll_fd);
    if (result < 0)
        close(mux->epoll_fd);
    return result;
}

/* The system call with the finest clock available. Sets *cut_out if the timeout
 * is longer than one call can wait. */
static int fmux_epoll__call(int epoll_fd, struct epoll_event *records, int max,
                            int64_t timeout_ns, bool *cut_out)
{
    if (timeout_ns > 0 && !atomic_load_explicit(&fmux_epoll__coarse,
                                                memory_order_relaxed)) {
        /* The layout of this call, on 32-bit systems as well. */
        struct {
            int64_t seconds, nanoseconds;
        } timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
        long n = syscall(SYS_epoll_pwait2, epoll_fd, records, max, &timeout,
                         NULL, (size_t)0);
        if (n >= 0)
            return (int)n;
        if (errno != ENOSYS && errno != EPERM)
            return -errno;
        atomic_store_explicit(&fmux_epoll__coarse, true, memory_order_relaxed);
    }
    int timeout_ms =
        timeout_ns <= 0 ? -(timeout_ns < 0)
                        : fmux_milliseconds(timeout_ns, cut_out);
    int n = epoll_wait(epoll_fd, records, max, timeout_ms);
    return n < 0 ? -errno : n;
}

int fmux_epoll_nanoseconds(void)
{
    /* The kernel checks that the call exists before it checks the set. */
    struct epoll_event record;
    bool cut = false;
    (void)fmux_epoll__call(-1, &record, 1, 1, &cut);
    return !atomic_load_explicit(&fmux_epoll__coarse, memory_order_relaxed);
}

/* Consume a pending wake-up. There is none after a kick. */
static bool fmux_epoll__take_wakeup(fmux_ready_t *ready)
{
    bool woken = atomic_exchange(&ready->mux->wake_pending, false);
    fmux_count(&ready->counts.wakeups, woken);
    return woken;
}

/* Copy n records to rows, without stale ones. Sets *woken_out if one was a
 * wake-up. */
static int fmux_epoll__collect(fmux_ready_t *ready, int n, bool *woken_out)
{
    const struct epoll_event *records = ready->records;
    int rows = 0;
    uint32_t stale = 0;
    for (int i = 0; i < n; i++) {
        struct epoll_event record; /* the row may overwrite it, see ready.c */
        memcpy(&record, &records[i], sizeof record);
        uint64_t data = record.data.u64;
        int fd = (int)(data & INT_MAX);
        if (data == FMUX_WAKE_DATA) {
            *woken_out |= fmux_epoll__take_wakeup(ready);
            continue;
        }
        const fmux_entry_t *entry = fmux_entry(ready->mux, fd);
        if (entry != NULL && atomic_load_explicit(&entry->generation,
                                                  memory_order_acquire) ==
                                 data >> 32)
            fmux_report(ready, rows++, fd, record.events,
                        fmux_entry_tag(entry));
        else
            stale++;
    }
    if (stale != 0)
        fmux_count(&ready->counts.stale_events, stale);
    return rows;
}

/* Before a wait that sleeps: see fmux_epoll__arm. */
static int fmux_epoll__prepare(fmux_t *mux)
{
    if (atomic_load_explicit(&mux->sleep_fd, memory_order_acquire) >= 0)
        return 0;
    int result = fmux_lock(mux);
    if (result < 0)
        return result;
    result = fmux_epoll__arm(mux);
    pthread_mutex_unlock(&mux->lock);
    return result;
}

/* True if another process shares the set, so that waits sleep in one of their own. (Or
 * if no wait has slept: then there is no wake-up to take.) */
static bool fmux_epoll__forked(fmux_t *mux)
{
    return atomic_load_explicit(&mux->sleep_fd, memory_order_acquire) !=
           mux->epoll_fd;
}

static int fmux_epoll__look(fmux_ready_t *ready, int max_events, bool trying)
{
    bool woken = false;
    int n = fmux_wait_begin(ready);
    if (n < 0)
        return n;
    n = epoll_wait(ready->mux->epoll_fd, ready->records, max_events, 0);
    if (n < 0)
        return fmux_wait_end(ready, -errno);
    if (n > 0)
        n = fmux_epoll__collect(ready, n, &woken);
    if (fmux_epoll__forked(ready->mux))
        woken |= fmux_epoll__take_wakeup(ready);
    return fmux_wait_end(ready, n == 0 && trying && !woken ? -EAGAIN : n);
}

/* Sleep in the set of this process, which has the wake-up socket and the shared set.
 * Then take the events of the latter: none, if another process was faster. */
static int fmux_epoll__sleep_apart(fmux_ready_t *ready, int64_t timeout_ns,
                                   int max_events, bool *cut_out,
                                   bool *woken_out)
{
    struct epoll_event two[2];
    int found = fmux_epoll__call(atomic_load(&ready->mux->sleep_fd), two, 2,
                                 timeout_ns, cut_out);
    if (found < 0)
        return found;
    *woken_out = fmux_epoll__take_wakeup(ready);
    int n = epoll_wait(ready->mux->epoll_fd, ready->records, max_events, 0);
    if (n < 0)
        return -errno;
    *cut_out |= n == 0 && found > 0;
    return n;
}

static int fmux_epoll__sleep(fmux_ready_t *ready, int64_t timeout_ns,
                             int max_events)
{
    bool cut = false;
    bool woken = false;
    int armed = fmux_epoll__prepare(ready->mux);
    int n = armed == -ESHUTDOWN ? armed : fmux_wait_begin(ready);
    if (n < 0)
        return n;
    if (armed < 0 && (timeout_ns < 0 || timeout_ns > FMUX__UNARMED_NS)) {
        timeout_ns = FMUX__UNARMED_NS;
        cut = true;
    }
    if (armed == 0 && fmux_epoll__forked(ready->mux))
        n = fmux_epoll__sleep_apart(ready, timeout_ns, max_events, &cut, &woken);
    else
        n = fmux_epoll__call(ready->mux->epoll_fd, ready->records, max_events,
                             timeout_ns, &cut);
    if (armed < 0)
        woken = fmux_epoll__take_wakeup(ready);
    if (n > 0) {
        n = fmux_epoll__collect(ready, n, &woken);
        /* Stale reports alone do not end a wait. The caller continues it, because
         * there may be signals to handle. */
        if (n == 0 && !woken)
            n = -EINTR;
    } else if (woken) {
        n = 0; /* the wake-up is consumed, even if the call failed */
    } else if (n == 0 && cut) {
        n = -EINTR;
    }
    return fmux_wait_end(ready, n);
}

const fmux_mechanism_t fmux_epoll = {
    .open = fmux_epoll__open,
    .release = fmux_epoll_release,
    .add = fmux_epoll__add,
    .modify = fmux_epoll__modify,
    .remove = fmux_epoll__remove,
    .wakeup = fmux_epoll__wakeup,
    .kick = fmux_epoll__kick,
    .fork = fmux_epoll_fork,
    .forked = fmux_epoll_forked,
    .renew = fmux_epoll_renew,
    .look = fmux_epoll__look,
    .sleep = fmux_epoll__sleep,
};

/* ---- a set without a mux --------------------------------------------------- */

int fmux_set_open(void)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    return set < 0 ? -errno : set;
}

int fmux_set_control(int set, int operation, int fd, uint32_t mask)
{
    struct epoll_event record = {.events = mask, .data.fd = fd};
    return epoll_ctl(set, operation, fd, &record) < 0 ? -errno : 0;
}

int fmux_set_wait(int set, int32_t *fds, uint32_t *events, int max,
                  int64_t timeout_ns)
{
    struct epoll_event few[FMUX__FEW_RECORDS], *records = few;
    if (max > FMUX__FEW_RECORDS) {
        records = malloc((size_t)max * sizeof *records);
        if (records == NULL)
            return -ENOMEM;
    }
    bool cut = false;
    int n = fmux_epoll__call(set, records, max, timeout_ns, &cut);
    for (int i = 0; i < n; i++) {
        fds[i] = records[i].data.fd;
        events[i] = records[i].events;
    }
    if (records != few)
        free(records);
    return n == 0 && cut ? -EINTR : n;
}

#else

int fmux_epoll_nanoseconds(void)
{
    return 0;
}

int fmux_set_open(void)
{
    return -EINVAL;
}

int fmux_set_control(int set, int operation, int fd, uint32_t mask)
{
    (void)set, (void)operation, (void)fd, (void)mask;
    return -EINVAL;
}

int fmux_set_wait(int set, int32_t *fds, uint32_t *events, int max,
                  int64_t timeout_ns)
{
    (void)set, (void)fds, (void)events, (void)max, (void)timeout_ns;
    return -EINVAL;
}

#endif
