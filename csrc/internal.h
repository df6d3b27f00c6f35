/* internal.h - what the files of the core share, and nobody else sees. */
#ifndef FASTMUX_INTERNAL_H
#define FASTMUX_INTERNAL_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastmux.h"

#if defined(__linux__) && !defined(FMUX_NO_EPOLL)
#define FMUX_HAVE_EPOLL 1
#endif

/* One watched descriptor. Entries never move and are never freed before the
 * mux, so a wait may read one without a lock while it is being changed. */
typedef struct {
    _Atomic uint32_t generation; /* which registration of this fd; 0: none */
    uint32_t mask;               /* events asked for; under mux->lock */
    uint32_t slot;               /* poll, select: place in mux->set; epoll:
                                  * FMUX_ABSENT or 0; under mux->lock */
} fmux_entry_t;

/* The slot of what is registered, but not in the kernel's set: a one-shot
 * registration that had fired when the set was renewed. */
enum { FMUX_ABSENT = 1 };

/* What has become of a mux. Everything but FMUX_OPERATIONAL sends a wait the
 * slow way, so that the fast one has a single thing to check. */
enum {
    FMUX_OPERATIONAL = 0,
    FMUX_CLOSED,   /* for ever */
    FMUX_FORKED,   /* in a child; its first use will renew the set */
    FMUX_RENEWING, /* a thread waits for all waits to leave the set */
};

/* The time-out of fmux_wait_try. */
#define FMUX_TRY INT64_MIN

/* The table of entries, by fd: chunk k holds 64 << k of them, so 26 chunks
 * reach every int, small programs need one, and growing moves nothing. */
enum { FMUX_CHUNKS = 26 };

/* What a mechanism must provide. All but open and wait run under mux->lock. For
 * add, modify and remove the entry's generation and mask are set already, and
 * are undone if they fail. wait begins and ends the wait by itself: after a
 * system call every return is mispredicted, so the hot path has few. */
typedef struct {
    bool bare; /* no table, no wake-up; add, modify and remove as they come */
    int (*open)(fmux_t *mux);
    void (*release)(fmux_t *mux); /* close the mux's descriptors; once */
    int (*add)(fmux_t *mux, int fd, fmux_entry_t *entry);
    int (*modify)(fmux_t *mux, int fd, fmux_entry_t *entry, uint32_t old_mask);
    int (*remove)(fmux_t *mux, int fd, fmux_entry_t *entry); /* bare: may fail */
    int (*wakeup)(fmux_t *mux); /* end one wait */
    void (*kick)(fmux_t *mux);  /* have all waits look at mux->state */
    void (*forked)(fmux_t *mux); /* in a child: part from the parent */
    int (*renew)(fmux_t *mux);  /* have a set that nobody shares */
    int (*wait)(fmux_ready_t *ready, int64_t timeout_ns, int max_events);
} fmux_mechanism_t;

struct fmux {
    const fmux_mechanism_t *mechanism; /* constant */
    pthread_mutex_t lock;              /* guards what says so */
    _Atomic int state;                 /* written under lock */
    bool shared;                       /* with children; under lock */
    bool released;                     /* descriptors are gone; under lock */
    uint32_t handles;                  /* its own + ready arrays; under lock */
    _Atomic(fmux_entry_t *) chunks[FMUX_CHUNKS]; /* written under lock */
    uint32_t last_generation;                    /* under lock */
    fmux_t *next, **link; /* in the list of all; under its lock, see fork.c */

    int epoll_fd;        /* epoll: the set; constant until released */
    _Atomic int wake_fd; /* epoll: the eventfd in it, or -1; set under lock */
    _Atomic bool wake_pending; /* a wake-up that no wait has answered. On poll
                                * and select only if it found nobody waiting,
                                * and under lock */

    /* poll and select: the set lives here, in the order of registration. A
     * removed descriptor leaves a hole (fd -1, which the kernel skips). */
    struct pollfd *set;      /* under lock, as all below */
    uint32_t set_length;     /* used part, holes included */
    uint32_t set_size;       /* allocated part */
    uint32_t set_holes;      /* how many are holes */
    uint32_t cursor;         /* where in a copy a full result was cut off */
    uint64_t version;        /* counts changes of the set */
    fmux_ready_t *all_ready; /* every ready array of this mux; all mechanisms */

    /* What fmux_stats tells; under lock. Of the waits that is the part of ready
     * arrays that are gone. */
    fmux_stats_t stats;
};

/* What waits on one array have done. Written by whoever is inside, read by anybody. */
typedef struct {
    _Atomic uint64_t waits;         /* that came to an end */
    _Atomic uint64_t events;        /* that they reported */
    _Atomic uint64_t stale_events;  /* that they did not report */
    _Atomic uint64_t wakeups;       /* that they answered */
    _Atomic uint64_t interruptions; /* waits that returned -EINTR */
} fmux_counts_t;

struct fmux_ready {
    fmux_t *mux;         /* constant, as all down to records */
    int capacity;        /* rows in each column */
    bool shared;         /* serves all threads, not only the owner */
    pthread_t owner;     /* who opened it */
    int32_t *indices;    /* the three columns, in the caller's memory */
    int32_t *fds;        /*   "   */
    uint32_t *events;    /*   "   */
    void *records;       /* epoll: where epoll_wait writes */
    _Atomic uint8_t *unread; /* shared: the flag in byte 0 of the memory */
    _Atomic bool inside;     /* a wait with this array is in progress */

    fmux_counts_t counts;
    uint32_t stale_waits; /* epoll: in a row that were told of something stale;
                           * of whoever is inside */

    /* poll and select: the waiter's own copy of the set, which the kernel may
     * write to, refreshed only when the set has changed. */
    fmux_ready_t *next;    /* in mux->all_ready; under mux->lock */
    int wake_read;         /* becomes readable to end this wait */
    int wake_write;        /* its other end (the same for an eventfd) */
    bool waiting;          /* in the kernel now; under mux->lock */
    bool woken;            /* picked by a wake-up; under mux->lock */
    uint64_t version;      /* of the copy; the waiter's own, as all below */
    struct pollfd *copy;   /* poll: [0] is wake_read, then the set */
    uint32_t *copy_generations; /* of the registrations in copy */
    uint32_t copy_length;  /* how many come after [0]; no holes */
    uint32_t copy_size;    /* allocated part of copy */
    unsigned long *bits;   /* select: 3 bitmaps to ask, 3 for the answer */
    uint32_t words;        /* words of one bitmap in use */
    uint32_t words_size;   /* words of one bitmap allocated */
};

#if defined(FMUX_HAVE_EPOLL)
extern const fmux_mechanism_t fmux_epoll;
extern const fmux_mechanism_t fmux_bare_epoll;
#endif
extern const fmux_mechanism_t fmux_poll;
extern const fmux_mechanism_t fmux_select;

/* The entry of fd, or NULL if its chunk was never needed. */
static inline fmux_entry_t *fmux_entry(fmux_t *mux, int fd)
{
    uint32_t block = ((uint32_t)fd >> 6) + 1;
    int k = 31 - __builtin_clz(block);
    fmux_entry_t *chunk =
        atomic_load_explicit(&mux->chunks[k], memory_order_acquire);
    if (chunk == NULL)
        return NULL;
    return chunk + ((uint32_t)fd - (((UINT32_C(1) << k) - 1) << 6));
}

/* Add to a counter of the ready array that the caller is inside of. */
static inline void fmux_count(_Atomic uint64_t *counter, uint64_t more)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + more, memory_order_relaxed);
}

/* Take the lock of a mux that is open; in a child, have it part from the parent.
 * Returns 0, or -ESHUTDOWN, or what fmux_open can fail with. */
int fmux_lock(fmux_t *mux);

/* Give up a handle, with the lock held; the last one frees the memory. */
void fmux_drop_handle(fmux_t *mux);

/* What remains to be done once a wait has left a mux that is closed. */
void fmux_leave_closed(fmux_t *mux);

/* Exchange the set of a mux for a new one, when all waits have left it. */
void fmux_renew(fmux_t *mux);

/* The list of all, for the sake of children. */
void fmux_list_add(fmux_t *mux);
void fmux_list_remove(fmux_t *mux);

/* Leave the array. Not to be undone: from here on it may be another's. */
static inline bool fmux_wait_leave(fmux_ready_t *ready)
{
    fmux_t *mux = ready->mux;
    atomic_exchange(&ready->inside, false);
    if (atomic_load(&mux->state) != FMUX_CLOSED)
        return true;
    fmux_leave_closed(mux);
    return false;
}

/* A wait that could not begin at once: have it begin nevertheless, or say why not. */
int fmux_wait_begin_slowly(fmux_ready_t *ready);

/* Take the array, and see that the mux is operational; in this order, see
 * fastmux.c. Returns 0, or -EBUSY, or 1 if that is not how it is; the array is ours
 * then as well. */
static inline int fmux_wait_enter(fmux_ready_t *ready)
{
    if (!ready->shared && !pthread_equal(ready->owner, pthread_self()))
        return -EBUSY;
    if (atomic_exchange(&ready->inside, true))
        return -EBUSY;
    return atomic_load_explicit(ready->unread, memory_order_acquire) != 0 ||
           atomic_load(&ready->mux->state) != FMUX_OPERATIONAL;
}

/* Begin a wait. If it fails, fmux_wait_end must not be called. */
static inline int fmux_wait_begin(fmux_ready_t *ready)
{
    int result = fmux_wait_enter(ready);
    return result <= 0 ? result : fmux_wait_begin_slowly(ready);
}

/* End it; returns what the wait is to return. */
static inline int fmux_wait_end(fmux_ready_t *ready, int result)
{
    if (result >= 0) {
        fmux_count(&ready->counts.waits, 1);
        fmux_count(&ready->counts.events, (uint64_t)result);
    } else if (result == -EINTR) {
        fmux_count(&ready->counts.interruptions, 1);
    }
    if (ready->shared && result > 0) {
        if (result == 1 && ready->indices[0] != FMUX_UNKNOWN) {
            result = ready->indices[0];
        } else {
            result += FMUX_ROWS;
            atomic_store_explicit(ready->unread, 1, memory_order_relaxed);
        }
    }
    return fmux_wait_leave(ready) || ready->mux->mechanism->bare ? result
                                                                 : -ESHUTDOWN;
}

/* The index of these events of fd, see fastmux.h. */
static inline int32_t fmux_index(int fd, uint32_t events)
{
    /* POLLIN is bit 0 and POLLOUT bit 2, everywhere. */
    uint32_t code = (events & POLLIN) | (events & POLLOUT) >> 1;
    bool indexed = (events & ~(uint32_t)(POLLIN | POLLOUT)) == 0 &&
                   events != 0 && (uint32_t)fd < FMUX_UNKNOWN / 4;
    return indexed ? (int32_t)((uint32_t)fd << 2 | code) : FMUX_UNKNOWN;
}

/* Write row i of the ready array. */
static inline void fmux_report(fmux_ready_t *ready, int i, int fd,
                               uint32_t events)
{
    ready->indices[i] = fmux_index(fd, events);
    ready->fds[i] = fd;
    ready->events[i] = events;
}

/* timeout_ns as milliseconds for poll and epoll_wait: rounded up, because a
 * wait must not end early. Sets *cut_out to true if the int was too small. */
int fmux_milliseconds(int64_t timeout_ns, bool *cut_out);

/* ppoll and pselect in nanoseconds; fmux_ask_poll by the milliseconds of poll where
 * ppoll is refused. Results as of fmux_poll_once. */
int fmux_ask_poll(struct pollfd *records, nfds_t length, int64_t timeout_ns);
int fmux_ask_select(int bits, unsigned long *maps[3], int64_t timeout_ns);

/* A pair of descriptors, the second of which makes the first readable. */
int fmux_wake_open(int *read_out, int *write_out);
void fmux_wake_close(int read_fd, int write_fd);
void fmux_wake_write(int write_fd);
void fmux_wake_drain(int read_fd);

#endif
