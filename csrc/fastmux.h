/* fastmux.h - the contract of the C core.
 *
 * A mux watches file descriptors through one kernel mechanism. A ready array
 * receives the results of one wait. A mux may have several arrays, so that
 * several threads can wait on it at once, each with its own.
 *
 * Rules for every function:
 *   - The result is >= 0, or it is -errno. Nothing is printed, nothing aborts.
 *   - -ESHUTDOWN means: this mux is closed. Arguments that are invalid in
 *     themselves may be reported first.
 *   - Any thread may call any function at any time, except that a free function
 *     needs exclusive use of its handle: no other call with that handle may be
 *     in progress or follow. (close is safe while other threads wait, and a
 *     closed mux is safe to call.)
 *   - EINTR is never retried here: only the caller can run its signal handlers.
 *
 * python/build_ffi.py passes the block between the two markers to cffi as it
 * stands: it is both this header and the interface that Python sees. It holds
 * declarations only.
 */
#ifndef FASTMUX_H
#define FASTMUX_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* The kernel mechanism behind a mux. */
enum {
    FMUX_EPOLL = 0,
    FMUX_POLL = 1,
    FMUX_SELECT = 2
};

/* The operations of fmux_set_control: the values of EPOLL_CTL_*. */
enum {
    FMUX_SET_ADD = 1,
    FMUX_SET_REMOVE = 2,
    FMUX_SET_MODIFY = 3
};

/* Up to this many descriptors, poll and select try a zero timeout before they
 * sleep: usually cheaper than a clock, a deadline and the release of a lock. */
enum { FMUX_FEW = 64 };

/* A set of watched descriptors. Opaque; made by fmux_open. */
typedef struct fmux fmux_t;

/* A ready array and the state of the wait that fills it. Opaque; made by
 * fmux_ready_open. */
typedef struct fmux_ready fmux_ready_t;

/* The mechanisms of this build and this kernel: a set of 1 << FMUX_EPOLL,
 * 1 << FMUX_POLL and 1 << FMUX_SELECT. Never fails. */
int fmux_mechanisms(void);

/* 1 if epoll waits in nanoseconds (epoll_pwait2), 0 if the kernel or a sandbox
 * only offers milliseconds. Never fails. */
int fmux_epoll_nanoseconds(void);

/* Make a mux. Its descriptors are close-on-exec.
 * Returns 0 and sets *mux_out, or -EINVAL (no such mechanism here), -EMFILE or
 * -ENFILE (no descriptor left), -ENOMEM. */
int fmux_open(int mechanism, fmux_t **mux_out);

/* Set whether a forked child shares the set. shared = 0, the default: the first
 * use in the child makes a set of its own with the same registrations, and no
 * call in the child affects the parent. That use can fail as fmux_open does, and
 * be repeated. Files that the child has closed or replaced by then are not
 * watched. shared = 1: parent and child share the set, as the kernel leaves it, but
 * no wake-up and no close. poll and select share nothing.
 *
 * A mux whose epoll set the program has closed, in a child for example, is closed:
 * no number is closed, written to or replaced that may stand for another file.
 * Returns 0, or -ESHUTDOWN. */
int fmux_set_shared(fmux_t *mux, int shared);

/* Counters since fmux_open; in a child, the parent's part included. */
typedef struct {
    uint64_t waits;         /* completed, with or without events */
    uint64_t events;        /* reported */
    uint64_t stale_events;  /* from the kernel, dropped: their registration is
                             * gone */
    uint64_t control_calls; /* epoll_ctl calls */
    uint64_t wakeups;       /* waits ended by a wake-up */
    uint64_t interruptions; /* waits that returned -EINTR */
    uint64_t renewals;      /* sets made in a child of a fork */
} fmux_stats_t;

/* Copy the counters to *stats_out. Works on a closed mux. Returns 0. */
int fmux_stats(fmux_t *mux, fmux_stats_t *stats_out);

/* Close a mux: every wait in progress and every later call fails with
 * -ESHUTDOWN. The descriptors are released when the last wait has left the
 * kernel. Idempotent; returns 0. */
int fmux_close(fmux_t *mux);

/* Close the mux, and free its memory once its last ready array is gone. */
void fmux_free(fmux_t *mux);

/* Return the descriptor of the epoll set, or -EOPNOTSUPP (poll and select have
 * none), -ESHUTDOWN. */
int fmux_fileno(fmux_t *mux);

/* Watch fd for the events in mask (EPOLL* bits, which equal the POLL* bits; poll
 * and select ignore the ones that they lack, but outside Linux refuse EPOLLRDHUP).
 * Returns the tag of fd: a small number >= 0, one per descriptor that this mux
 * has ever watched, which waits report beside fd. Or -EEXIST (already watched
 * under this number), -EBADF (not open), -EPERM (epoll cannot watch regular
 * files and directories), -EINVAL (the set itself, or an impossible mask),
 * -ELOOP (epoll sets that watch each other), -ENOMEM, -ENOSPC (the user's watch
 * limit), -ESHUTDOWN. */
int fmux_add(fmux_t *mux, int fd, uint32_t mask);

/* Replace the mask of fd. On epoll this also re-arms a one-shot registration and
 * makes an edge-triggered one report again. (poll and select keep no file, so
 * they do not detect that it was closed.)
 * Returns the tag, or -ENOENT (not watched, or dropped by the kernel because the
 * file was closed; not watched any more), -EBADF (closed; likewise), -EPERM (the
 * number is a regular file now; likewise), -EINVAL (an impossible mask; the old
 * one stays), -ENOMEM, -ENOSPC, -ESHUTDOWN. */
int fmux_modify(fmux_t *mux, int fd, uint32_t mask);

/* Stop watching fd. A descriptor that is closed already is no error.
 * Returns the tag, or -ENOENT (not watched), -ESHUTDOWN. */
int fmux_remove(fmux_t *mux, int fd);

/* Return the tag of fd, or -ENOENT if it was never watched. */
int fmux_tag(fmux_t *mux, int fd);

/* End one wait: one in progress, else the next. Wake-ups that no wait has
 * consumed yet count as one. Returns 0, or -ESHUTDOWN. */
int fmux_wakeup(fmux_t *mux);

/* Return the size in bytes of a ready array for capacity events, or -EINVAL
 * (capacity below 1, or too large for an int). */
int fmux_ready_bytes(int capacity);

/* Make a ready array in memory that the caller owns and keeps until
 * fmux_ready_free: three columns of capacity 32-bit numbers each, for fds
 * (int32), events (uint32) and tags (int32), then scratch space for the kernel.
 * Row i of the three is one event.
 *
 * A private array serves only the thread that opened it. A shared array serves
 * any thread, one at a time: after a wait that returned rows it stays busy until
 * fmux_ready_release.
 * Returns 0 and sets *ready_out, or -EINVAL (memory too small or misaligned),
 * -ENOMEM, -ESHUTDOWN. */
int fmux_ready_open(fmux_t *mux, void *memory, int bytes, int capacity,
                    int shared, fmux_ready_t **ready_out);
void fmux_ready_free(fmux_ready_t *ready);

/* Attach a pointer that fmux_ready_rows returns; NULL at first. */
void fmux_ready_set_context(fmux_ready_t *ready, const void *context);

/* cffi: end */

/* ---- from here on: for callers in C ------------------------------------- */

/* Wait for events and write them to the ready array, at most max_events (1 to
 * the capacity). timeout_ns: 0 does not sleep, below 0 waits for ever.
 * Returns the number of rows; 0 after the timeout or a wake-up. Or -EBUSY (the
 * array is in use, or belongs to another thread), -EINTR (a signal, or a
 * timeout that is longer than one system call, only stale events, or a fork: run the
 * signal handlers, and call again with the rest of the time), -EINVAL
 * (max_events; or poll: more descriptors than RLIMIT_NOFILE), -EBADF (select: a
 * watched descriptor was closed), -EMFILE or -ENFILE (poll and select: no
 * descriptor left for a pipe; first wait only), -ENOMEM, -ESHUTDOWN. */
int fmux_wait(fmux_ready_t *ready, int64_t timeout_ns, int max_events);

/* Wait without sleeping, for a caller that will sleep if this finds nothing.
 * Returns as fmux_wait, but -EAGAIN if there is neither an event nor a wake-up
 * (and always on poll and select with more than FMUX_FEW descriptors). */
int fmux_try(fmux_ready_t *ready, int max_events);

/* Release a shared array after reading its rows. Another thread may own it as
 * soon as this returns. */
void fmux_ready_release(fmux_ready_t *ready);

/* Undo a wait whose result was lost: n is the number of its rows, still in the
 * array, and woken says whether it consumed a wake-up. Edge-triggered and one-shot
 * registrations report again, as after fmux_modify; the others do so anyway. */
void fmux_give_back(fmux_ready_t *ready, int n, int woken);

/* The columns, the capacity, the context and a counter of a ready array. */
typedef struct {
    const int32_t *fds;
    const uint32_t *events;
    const int32_t *tags;
    int capacity;
    const void *context; /* of fmux_ready_set_context */
    uint64_t wakeups;    /* consumed by waits with this array */
} fmux_rows_t;

fmux_rows_t fmux_ready_rows(const fmux_ready_t *ready);

/* One call of poll(2), in nanoseconds where the kernel can. There is no mux, no
 * table and no lock. timeout_ns is as for fmux_wait.
 * Returns the number of records with revents. Or -EINTR (a signal, or the
 * timeout is longer than one call), -EINVAL (more records than RLIMIT_NOFILE),
 * -ENOMEM. */
int fmux_poll_list(struct pollfd *records, int length, int64_t timeout_ns);

/* The descriptors of one call of select: the readable ones first, then the
 * writable, then the exceptional ones. */
typedef struct {
    int asked[3];           /* how many of each */
    int found[3];           /* out: how many of each are ready */
    struct pollfd *records; /* one per descriptor; only fd is read */
    int32_t *places;        /* out: one per ready descriptor: its place, counted
                             * from 0 in each of the three */
} fmux_select_list_t;

/* One call of select without FD_SETSIZE. Duplicates are reported as often as
 * they stand in the list.
 * Returns the number of places. Or -EINTR, -EINVAL as above, -EBADF (negative
 * or not open; below FD_SETSIZE as select(2) decides), -ENOMEM. */
int fmux_select_list(fmux_select_list_t *list, int64_t timeout_ns);

/* An epoll set without a mux: epoll_create1 (close-on-exec), epoll_ctl with fd as
 * epoll_data, and epoll_wait in nanoseconds where the kernel can.
 * Errors as of these calls; -EINTR also if timeout_ns is longer than one call,
 * -EINVAL without epoll in this build. */
int fmux_set_open(void);
int fmux_set_control(int set, int operation, int fd, uint32_t mask);

/* Write at most max events to the two columns. */
int fmux_set_wait(int set, int32_t *fds, uint32_t *events, int max,
                  int64_t timeout_ns);

/* Nanoseconds on the monotonic clock that deadlines use. */
int64_t fmux_now_ns(void);

#endif
