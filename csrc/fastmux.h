/* fastmux.h - the contract of the C core.
 *
 * A mux watches file descriptors through one kernel mechanism. A ready array is
 * the place where one wait leaves its results; a mux may have several, so that
 * several threads can wait on it at once, each with an array of its own.
 *
 * Rules that hold for every function:
 *   - The result is >= 0, or it is -errno. Nothing is printed, nothing aborts.
 *   - -ESHUTDOWN from any function means: this mux has been closed. Arguments
 *     that are wrong in themselves may be found first.
 *   - Every function may be called from any thread at any time, but a free
 *     function needs its handle to itself: nobody may be in a call with it, or
 *     call anything later. (close is not free: it is for use while others wait,
 *     and a closed mux is safe to call.)
 *   - EINTR is never retried here: only the caller can run its signal handlers.
 *
 * The block between the two markers is read by build_ffi.py as it stands: it is
 * both this header and what Python sees. It holds declarations, nothing else.
 */
#ifndef FASTMUX_H
#define FASTMUX_H

#include <stddef.h>
#include <stdint.h>

/* cffi: begin */

/* The kernel mechanism behind a mux. FMUX_BARE_EPOLL is an epoll set with
 * nothing of ours around it: see fmux_adopt. */
enum {
    FMUX_EPOLL = 0,
    FMUX_POLL = 1,
    FMUX_SELECT = 2,
    FMUX_BARE_EPOLL = 3
};

/* An index is fd * 4 + code, a small number to look up what the caller keeps
 * for this descriptor and these events: code 1 is EPOLLIN alone, 2 EPOLLOUT
 * alone, 3 the two together. All else has the index FMUX_UNKNOWN, greater than
 * any other.
 *
 * A wait on a shared array returns the index itself if there is one event only
 * and it has an index, and FMUX_ROWS + n for n rows in the array. */
enum {
    FMUX_ROWS = 1 << 29,
    FMUX_UNKNOWN = FMUX_ROWS - 1
};

/* So many descriptors poll and select may be asked about twice, first without
 * sleeping, where that mostly saves more than it costs. */
enum { FMUX_FEW = 64 };

/* A set of watched descriptors. Opaque; made by fmux_open. */
typedef struct fmux fmux_t;

/* A ready array and the state of the one wait that fills it. Opaque; made by
 * fmux_ready_open. */
typedef struct fmux_ready fmux_ready_t;

/* Which mechanisms this build and this kernel have: a set of 1 << FMUX_EPOLL,
 * 1 << FMUX_POLL and 1 << FMUX_SELECT. Bare sets are there where epoll is.
 * Never fails. */
int fmux_mechanisms(void);

/* Whether there is epoll_pwait2, and so waits by epoll in nanoseconds: 1, or 0
 * where the kernel or a sandbox has only milliseconds. Never fails. */
int fmux_epoll_nanoseconds(void);

/* Make a mux. Its descriptors are close-on-exec.
 * Returns 0 and sets *mux_out, or -EINVAL (no such mechanism here), -EMFILE or
 * -ENFILE (no descriptor left), -ENOMEM. */
int fmux_open(int mechanism, fmux_t **mux_out);

/* Make a bare epoll mux around the descriptor of a set that exists, or of anything
 * else: what is wrong with it shows at the first use.
 *
 * A bare mux keeps no table and adds nothing to the set. add, modify and remove
 * are epoll_ctl with the errors of epoll_ctl. Whatever the kernel reports is
 * reported, under the low 32 bits of epoll_data. There is no wake-up, and
 * closing wakes nobody: a wait in progress ends when it would have ended.
 * Returns 0 and sets *mux_out, or -EINVAL (no epoll in this build), -ENOMEM. */
int fmux_adopt(int epoll_fd, fmux_t **mux_out);

/* After a fork, a child has the parent's descriptors, and an epoll set is one and
 * the same in both: what the child removes is removed for the parent, too. So a
 * mux in a child gets a set of its own, with the same registrations, at its first
 * use; nothing that the child does reaches the parent. That use can fail with
 * what fmux_open can fail with, and be repeated. What was closed or replaced in
 * the child before that is not watched any more.
 *
 * shared = 1 has parent and child share the set instead, and the wake-up with it. A
 * bare mux is always shared. poll and select share nothing.
 * Returns 0, or -ESHUTDOWN. */
int fmux_set_shared(fmux_t *mux, int shared);

/* What a mux has done since it was opened; in a child, its parent's part included. */
typedef struct {
    uint64_t waits;            /* that came to an end: with events, or without */
    uint64_t events;           /* that they reported */
    uint64_t stale_events;     /* that came from the kernel and were dropped,
                                * because their registration was gone */
    uint64_t control_calls;    /* to change the kernel's set: epoll */
    uint64_t control_calls_avoided; /* changes that needed none */
    uint64_t wakeups;          /* waits that a wake-up has ended */
    uint64_t interruptions;    /* waits that returned -EINTR */
    uint64_t renewals;         /* new sets in place of the old one: after a
                                * fork, or to be rid of what is stale */
} fmux_stats_t;

/* Leave the counters in *stats_out. Also of a closed mux. Returns 0. */
int fmux_stats(fmux_t *mux, fmux_stats_t *stats_out);

/* Close a mux: every wait in progress ends with -ESHUTDOWN, and so does every
 * later call. The descriptors are released when the last wait has left the
 * kernel. Returns 0, the first time and every other time. */
int fmux_close(fmux_t *mux);

/* Close the mux, and release its memory as soon as no ready array needs it. */
void fmux_free(fmux_t *mux);

/* The descriptor of the epoll set.
 * Returns it, or -EOPNOTSUPP (poll and select have none), -ESHUTDOWN. */
int fmux_fileno(fmux_t *mux);

/* Watch fd for the events in mask (EPOLL* bits, which are the POLL* bits; poll
 * and select ignore those that they do not have).
 * Returns 0, or -EEXIST (already watched, under this number: also if the file
 * was closed since, and the number is another's now), -EBADF (not open), -EPERM (a file
 * that epoll cannot watch: a regular file or a directory), -EINVAL (the set
 * itself, or an impossible mask), -ELOOP (epoll sets watching each other),
 * -ENOMEM, -ENOSPC (the user's watch limit), -ESHUTDOWN. */
int fmux_add(fmux_t *mux, int fd, uint32_t mask);

/* Replace the events that fd is watched for. On epoll this also re-arms a
 * one-shot registration and asks an edge-triggered one to report again. Nothing
 * to change means nothing to do, and nothing can fail then. (poll and select
 * keep no file, so they do not notice that one was closed.)
 * Returns 0, or -ENOENT (not watched, or the kernel has dropped it because the
 * file was closed; then it is not watched any more), -EBADF (closed; likewise),
 * -EPERM (the number is a file by now that epoll cannot watch; likewise),
 * -EINVAL (an impossible mask; the old one stays), -ENOMEM, -ENOSPC,
 * -ESHUTDOWN. */
int fmux_modify(fmux_t *mux, int fd, uint32_t mask);

/* Stop watching fd. A descriptor that was closed meanwhile is no error.
 * Returns 0, or -ENOENT (not watched), -ESHUTDOWN. */
int fmux_remove(fmux_t *mux, int fd);

/* End one wait: one that is in progress, or else the next one to begin. Several
 * calls that no wait has answered yet count as one. Returns 0, or -ESHUTDOWN.
 * (epoll makes its wake-up descriptor for the first wait that may sleep, or the
 * first wake-up. Where none is to be had, a wait looks up now and then: -EINTR.) */
int fmux_wakeup(fmux_t *mux);

/* How many bytes of memory a ready array for capacity events needs.
 * Returns it, or -EINVAL (capacity below 1 or above what an int can count). */
int fmux_ready_bytes(int capacity);

/* Make a ready array in memory that the caller owns and keeps until
 * fmux_ready_free. Byte 0 is a flag, see below. From byte 16 on there are three
 * columns, each of capacity 32-bit numbers: indices (int32), descriptors
 * (int32), events (uint32). What follows them is scratch space of the
 * kernel's. Row i of the three is one event.
 *
 * A private array serves the thread that opened it. A shared one serves any
 * thread, one at a time: a wait that leaves rows in it sets the flag to 1, and
 * it is free again when the reader has set it to 0. (A byte in memory, because
 * that is cheaper for Python to write than any call.)
 * Returns 0 and sets *ready_out, or -EINVAL (memory too small or misaligned),
 * -ENOMEM, -ESHUTDOWN. */
int fmux_ready_open(fmux_t *mux, void *memory, int bytes, int capacity,
                    int shared, fmux_ready_t **ready_out);
void fmux_ready_free(fmux_ready_t *ready);

/* Wait for events; each leaves the results in the ready array.
 *   fmux_wait          up to timeout_ns nanoseconds (below 0: for ever), for at
 *                      most max_events (1 to the capacity)
 *   fmux_wait_now      without waiting
 *   fmux_wait_try      without waiting, for a caller who would wait if need be: if
 *                      there is neither an event nor a wake-up, it is -EAGAIN (and
 *                      always where poll or select have many to look at)
 *   fmux_wait_forever  until something happens
 * The short forms exist because a call with one argument is the cheapest call
 * that a Python binding can make. Trying first pays, too: under load there is
 * always something, and no deadline to keep.
 * Returns the number of rows, or for a shared array an index or FMUX_ROWS plus
 * the number of rows; 0 after the time has passed or a wake-up. Or -EBUSY (an
 * array that is in use, or another thread's, or NULL instead of one), -EINTR (a
 * signal, or only stale events came, or the time is longer than one call can
 * wait: run the signal handlers, and call again with what is left of the time),
 * -EINVAL (max_events; or poll: more is watched than RLIMIT_NOFILE), -EBADF (select: a watched descriptor was closed),
 * -EMFILE or -ENFILE (poll and select: no descriptor left for the wake-up; at the
 * first wait only), -ENOMEM, -ESHUTDOWN. */
int fmux_wait(fmux_ready_t *ready, int64_t timeout_ns, int max_events);
int fmux_wait_now(fmux_ready_t *ready);
int fmux_wait_try(fmux_ready_t *ready);
int fmux_wait_try_some(fmux_ready_t *ready, int max_events);
int fmux_wait_forever(fmux_ready_t *ready);

/* One call of poll or select on a list that the caller keeps: no mux, no table,
 * no lock. The memory is an array of 32-bit numbers, of the caller's:
 *
 *   [0]  in its first byte, 0: free. 1: a call is in progress. 2: poll has left
 *        rows that are still to be read; whoever has read them sets it to 0
 *   [1]  the capacity: how many descriptors there is room for
 *   [2], [3], [4]  how many descriptors are asked about: for poll [2] alone, for
 *        select readable, writable and exceptional ones
 *   [5], [6], [7]  select: how many of each are ready
 *   [8]  from here on the question, and behind it the answer
 *
 * The question is a struct pollfd for each descriptor (room for capacity of them;
 * for poll, for one more).
 *
 * fmux_poll_once: the answer is three columns as in a ready array. It returns
 * what a wait on a shared ready array returns. As ever with poll, a descriptor
 * that is not open is reported with POLLNVAL, and a negative one is skipped.
 * wake_fd, unless it is negative, is one more to wait for; it ends the wait when it
 * can be read, and is not reported.
 *
 * fmux_select_once: only the descriptors are looked at, the readable ones first. The
 * answer is the places, counted from 0 in each kind, of those that are ready: in the
 * order of the question, as often as they stand there. It returns how many.
 *
 * timeout_ns is as for fmux_wait. Both return -EBUSY (the memory is not free),
 * -EINTR (a signal, or the time is longer than one call can wait), -EINVAL
 * (more descriptors than RLIMIT_NOFILE), -EBADF (select: one that is negative, or
 * not open; below FD_SETSIZE as select(2) finds it), -ENOMEM. */
int fmux_poll_once(int32_t *memory, int64_t timeout_ns, int wake_fd);
int fmux_poll_once_now(int32_t *memory); /* the same for 0 and -1 */
int fmux_select_once(int32_t *memory, int64_t timeout_ns);

/* How many 32-bit numbers such memory holds, for poll or for select.
 * Returns it, or -EINVAL (a capacity below 1 or above what an int can count). */
int fmux_once_size(int mechanism, int capacity);

/* A wait that also reads: what a loop over many sockets needs, which would go on
 * to read from those that are readable anyway.
 *
 * The structure and all that it points to are the caller's. flags is a byte for each
 * descriptor below flags_length: one that is not 0 asks for the descriptor, a
 * socket, to be read when it is ready. flags may be changed between calls.
 *
 * The arena holds what was read, one row's bytes right behind the other's. chunk is
 * the most that is read from one descriptor, and once more than enough has been
 * read, the rest waits for the next call; so the arena has room for enough + chunk.
 * (Not one large arena: it is better to work on what is still in the cache.)
 *
 * The three columns have room for the capacity of the ready array, which must be a
 * shared one that nobody else uses. One thread at a time may use all this. */
typedef struct {
    fmux_ready_t *ready;
    uint8_t *flags;
    int flags_length;
    int enough; /* at least 0 */
    int chunk;  /* at least 1 */
    char *arena;
    int32_t *fds;       /* of what was read, row by row */
    int32_t *lengths;   /* how much that is; 0: the end of the stream; or -errno */
    int32_t *waiting;   /* descriptors that the next call begins with, in */
    int first, last;    /* these places; both are 0 in the beginning */
} fmux_stream_t;

/* See fmux_stream_wait. No ready array with as many rows as this can be used. */
enum { FMUX_OTHERS = 1 << 15 };

/* Wait as fmux_wait does, then read from what is flagged. Everything else is left in
 * the columns of the ready array, which is free again at once. A descriptor that is
 * flagged and may be written to, or that has an error, is among the others, too: as
 * EPOLLOUT, and nothing else.
 *
 * If the last call has left something to be read, there is no wait.
 * Returns how many were read from, plus FMUX_OTHERS times the number of others; or
 * what fmux_wait returns, and -EINVAL if the ready array is too long. */
int fmux_stream_wait(fmux_stream_t *stream, int64_t timeout_ns);

/* Nanoseconds on the clock that deadlines are kept on. */
int64_t fmux_now_ns(void);

/* cffi: end */

#endif
