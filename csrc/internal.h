/* internal.h - shared by the files of the core, private to it. */
#ifndef FASTMUX_INTERNAL_H
#define FASTMUX_INTERNAL_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fastmux.h"

#if defined(__linux__) && !defined(FMUX_NO_EPOLL)
#define FMUX_HAVE_EPOLL 1
#endif

/* A descriptor in the table of a mux. Entries never move and live as long as the
 * mux, so a wait may read one without a lock while it changes. */
typedef struct {
    _Atomic uint32_t generation; /* number of the registration; 0: none */
    uint32_t mask;               /* requested events; under mux->lock */
    uint32_t slot;               /* poll, select: index in mux->set; epoll:
                                  * FMUX_ABSENT or 0; under mux->lock */
    _Atomic int32_t tag;         /* tag + 1, once assigned; 0: none */
} fmux_entry_t;

/* The slot of a registration that the kernel's set lacks: a one-shot one that
 * had fired when a forked child made its own set. */
enum { FMUX_ABSENT = 1 };

/* The state of a mux. Everything but FMUX_OPERATIONAL puts a wait on the slow
 * path, so the fast path has a single check. */
enum {
    FMUX_OPERATIONAL = 0,
    FMUX_CLOSED, /* final */
    FMUX_FORKED, /* in a child; the first use makes a set of its own */
};

/* A descriptor of the core: the number, and the file for which it stood. */
typedef struct {
    int fd; /* -1: none */
    dev_t device;
    ino_t inode;
} fmux_file_t;

/* A pipe that ends a wait of poll or select. */
typedef struct {
    fmux_file_t read, write;
} fmux_pipe_t;

/* The table of entries, by fd: four chunks each of 16, 32, 64, ... entries, so 104
 * chunks cover every int, at most a fifth is unused, and growing moves nothing. */
enum { FMUX_CHUNKS = 104 };

/* The functions of a mechanism. open runs under the lock of the list of muxes, all
 * others but look and sleep under mux->lock.
 * For add, modify and remove the generation and mask of the entry are set
 * already, and are undone on failure. look and sleep begin and end the wait
 * themselves: after a system call every return is mispredicted, so the hot path
 * has few. */
typedef struct {
    int (*open)(fmux_t *mux);
    void (*release)(fmux_t *mux); /* close the descriptors; called once */
    int (*add)(fmux_t *mux, int fd, fmux_entry_t *entry);
    int (*modify)(fmux_t *mux, int fd, fmux_entry_t *entry, uint32_t old_mask);
    void (*remove)(fmux_t *mux, int fd, fmux_entry_t *entry);
    int (*wakeup)(fmux_t *mux); /* end one wait */
    void (*kick)(fmux_t *mux);  /* make every wait check mux->state */
    void (*fork)(fmux_t *mux);   /* before a fork, under all locks; or NULL */
    void (*forked)(fmux_t *mux); /* in a child: detach from the parent */
    int (*renew)(fmux_t *mux);  /* make the child's own descriptors */
    /* A wait without sleep; trying: see fmux_try. */
    int (*look)(fmux_ready_t *ready, int max_events, bool trying);
    int (*sleep)(fmux_ready_t *ready, int64_t timeout_ns, int max_events);
} fmux_mechanism_t;

struct fmux {
    const fmux_mechanism_t *mechanism; /* constant */
    pthread_mutex_t lock;              /* guards the fields that say so */
    _Atomic int state;                 /* written under lock */
    bool shared;                       /* with forked children; under lock */
    bool released;                     /* descriptors are closed; under lock */
    uint32_t handles;                  /* mux + ready arrays; under lock */
    _Atomic(fmux_entry_t *) chunks[FMUX_CHUNKS]; /* written under lock */
    int chunk_count; /* all later ones are NULL; under lock */
    uint32_t last_generation;                    /* under lock */
    int32_t tags;         /* number of tags assigned; under lock */
    fmux_t *next, **link; /* in the list of all; under its lock, see fork.c */

    int epoll_fd;         /* epoll: the set; constant until released */
    _Atomic int sleep_fd; /* epoll: the set in which waits sleep: epoll_fd, or one
                           * of this process, see fork_epoll.c; -1: none has slept */
    fmux_file_t wake;     /* epoll: the socket in sleep_fd; under lock */
    _Atomic bool wake_pending; /* a wake-up that no wait has consumed. On poll
                                * and select only if no wait was in progress,
                                * and under lock */

    /* poll and select: the set lives here, in the order of registration. A
     * removed descriptor leaves a hole (fd -1, which the kernel skips). */
    struct pollfd *set;      /* under lock, as all below */
    uint32_t set_length;     /* used part, holes included */
    uint32_t set_size;       /* allocated part */
    uint32_t set_holes;      /* number of holes */
    uint32_t cursor;         /* where in a copy a full result was cut off */
    uint64_t version;        /* counts changes of the set */
    fmux_ready_t *all_ready; /* every ready array of this mux; all mechanisms */

    /* Counters for fmux_stats; under lock. Of the waits, the part of freed ready
     * arrays. */
    fmux_stats_t stats;
};

/* Counters of the waits on one array. Written by the wait in progress, read by
 * any thread. */
typedef struct {
    _Atomic uint64_t waits;         /* completed */
    _Atomic uint64_t events;        /* reported */
    _Atomic uint64_t stale_events;  /* dropped */
    _Atomic uint64_t wakeups;       /* consumed */
    _Atomic uint64_t interruptions; /* waits that returned -EINTR */
} fmux_counts_t;

struct fmux_ready {
    fmux_t *mux;         /* constant, as all down to records */
    int capacity;        /* rows in each column */
    bool shared;         /* serves all threads, not only the owner */
    pthread_t owner;     /* the thread that opened it */
    int32_t *fds;        /* the three columns, in the caller's memory */
    uint32_t *events;    /*   "   */
    int32_t *tags;       /*   "   */
    void *records;       /* epoll: where epoll_wait writes */
    _Atomic bool inside; /* a wait with this array is in progress */
    _Atomic bool held;   /* shared: the rows of the last wait are being read */

    const void *context; /* the pointer of fmux_ready_set_context */
    fmux_counts_t counts;
    fmux_ready_t *next; /* in mux->all_ready; under mux->lock */

    /* poll and select: a copy of the set for this array's waits, which the kernel
     * may write to, refreshed only when the set has changed. */
    fmux_pipe_t wake;      /* readable ends the wait; under mux->lock */
    bool waiting;          /* in the kernel now; under mux->lock */
    bool woken;            /* chosen by a wake-up; under mux->lock */
    uint64_t version;      /* of the copy; used by the wait only, as all below */
    struct pollfd *copy;   /* poll: [0] is wake.read, then the set */
    uint32_t *copy_generations; /* of the registrations in copy */
    uint32_t copy_length;  /* number of records after [0]; no holes */
    uint32_t copy_size;    /* allocated part of copy */
    unsigned long *bits;   /* select: 3 bitmaps of requests, 3 of results */
    uint32_t words;        /* words of one bitmap in use */
    uint32_t look_words;   /* the same, without the pipe */
    uint32_t words_size;   /* words of one bitmap allocated */
};

#if defined(FMUX_HAVE_EPOLL)
extern const fmux_mechanism_t fmux_epoll;
#endif
extern const fmux_mechanism_t fmux_poll;
extern const fmux_mechanism_t fmux_select;

/* A number of 2^e and more, below 2^(e + 1), is in one of the chunks of 2^(e - 2)
 * entries; e is 6 or more. */
static inline uint32_t fmux__number(int fd)
{
    return (uint32_t)fd + 64;
}

static inline int fmux__exponent(int fd)
{
    return 31 - __builtin_clz(fmux__number(fd));
}

/* The chunk of fd, its place there, and the number of places. */
static inline int fmux_chunk(int fd)
{
    int e = fmux__exponent(fd);
    return 4 * (e - 6) + (int)(fmux__number(fd) >> (e - 2) & 3);
}

static inline size_t fmux_places(int chunk)
{
    return (size_t)16 << (chunk / 4);
}

static inline uint32_t fmux_place(int fd)
{
    return fmux__number(fd) & ((UINT32_C(1) << (fmux__exponent(fd) - 2)) - 1);
}

/* The descriptor of the first place of a chunk. */
static inline int64_t fmux_first(int chunk)
{
    return (int64_t)fmux_places(chunk) * (4 + chunk % 4) - 64;
}

/* The entry of fd, or NULL if its chunk was never needed. */
static inline fmux_entry_t *fmux_entry(fmux_t *mux, int fd)
{
    fmux_entry_t *chunk = atomic_load_explicit(&mux->chunks[fmux_chunk(fd)],
                                               memory_order_acquire);
    return chunk == NULL ? NULL : chunk + fmux_place(fd);
}

/* Add to a counter of the ready array that the caller has entered. */
static inline void fmux_count(_Atomic uint64_t *counter, uint64_t more)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + more, memory_order_relaxed);
}

/* Lock a mux that is open; in a child, make its own set first.
 * Returns 0, or -ESHUTDOWN, or an error of fmux_open. */
int fmux_lock(fmux_t *mux);

/* Release a handle, with the lock held; the last one frees the memory. */
void fmux_drop_handle(fmux_t *mux);

/* Close a mux, with the lock held. Also if the program has closed its set. */
void fmux_end(fmux_t *mux);

/* Finish closing, after a wait has left a closed mux. */
void fmux_leave_closed(fmux_t *mux);

/* The list of all muxes, for forked children. Its lock is taken before that of any
 * mux; add and disown need it. */
void fmux_list_lock(void);
void fmux_list_unlock(void);
void fmux_list_add(fmux_t *mux);
void fmux_list_remove(fmux_t *mux);

/* Close the mux that had an epoll set under this number, which has just become
 * another one's: the program has closed it. locked: the caller holds the lock of every
 * mux. Returns 0 or -ENOMEM. */
int fmux_list_disown(int fd, bool locked);

/* Leave the array. Another thread may enter it as soon as this returns.
 * Returns false if the mux is closed. */
static inline bool fmux_wait_leave(fmux_ready_t *ready)
{
    fmux_t *mux = ready->mux;
    atomic_exchange(&ready->inside, false);
    if (atomic_load(&mux->state) != FMUX_CLOSED)
        return true;
    fmux_leave_closed(mux);
    return false;
}

/* Slow path of fmux_wait_begin: a held array, a closed mux, a forked child. */
int fmux_wait_begin_slowly(fmux_ready_t *ready);

/* Enter the array, then check the mux; in this order, see fastmux.c.
 * Returns 0, or -EBUSY, or 1 (entered, but not ready to wait). */
static inline int fmux_wait_enter(fmux_ready_t *ready)
{
    if (!ready->shared && !pthread_equal(ready->owner, pthread_self()))
        return -EBUSY;
    if (atomic_exchange(&ready->inside, true))
        return -EBUSY;
    return atomic_load_explicit(&ready->held, memory_order_acquire) ||
           atomic_load(&ready->mux->state) != FMUX_OPERATIONAL;
}

/* Begin a wait. On failure fmux_wait_end must not be called. */
static inline int fmux_wait_begin(fmux_ready_t *ready)
{
    int result = fmux_wait_enter(ready);
    return result <= 0 ? result : fmux_wait_begin_slowly(ready);
}

/* End a wait; returns the result of the wait. */
static inline int fmux_wait_end(fmux_ready_t *ready, int result)
{
    if (result >= 0) {
        fmux_count(&ready->counts.waits, 1);
        fmux_count(&ready->counts.events, (uint64_t)result);
        if (ready->shared && result > 0)
            atomic_store_explicit(&ready->held, true, memory_order_relaxed);
    } else if (result == -EINTR) {
        fmux_count(&ready->counts.interruptions, 1);
    }
    return fmux_wait_leave(ready) ? result : -ESHUTDOWN;
}

/* Write row i of the ready array. */
static inline void fmux_report(fmux_ready_t *ready, int i, int fd,
                               uint32_t events, int32_t tag)
{
    ready->fds[i] = fd;
    ready->events[i] = events;
    ready->tags[i] = tag;
}

/* The tag of an entry. */
static inline int32_t fmux_entry_tag(const fmux_entry_t *entry)
{
    return atomic_load_explicit(&entry->tag, memory_order_relaxed) - 1;
}

/* Convert timeout_ns to milliseconds for poll and epoll_wait, rounded up: a wait
 * must not end early. Sets *cut_out to true if the int was too small. */
int fmux_milliseconds(int64_t timeout_ns, bool *cut_out);

/* pselect on bitmaps. Returns the number of bits, or -errno. */
int fmux_ask_select(int bits, unsigned long *maps[3], int64_t timeout_ns);

/* True if the number still stands for the file. */
bool fmux_is_ours(const fmux_file_t *file);

/* Make a pipe; close what is still ours of it. */
int fmux_pipe_open(fmux_pipe_t *wake);
void fmux_pipe_close(fmux_pipe_t *wake);

/* True if both ends are ours. */
bool fmux_pipe_is_ours(const fmux_pipe_t *wake);

/* Make the pipe readable, or not readable any more. Returns false if the program
 * has closed one of its ends. */
bool fmux_pipe_write(const fmux_pipe_t *wake);
bool fmux_pipe_drain(const fmux_pipe_t *wake);

/* Return the socket of this process by which waits on epoll sets are ended: always
 * writable, never written to. Made at the first call, and again if the program has
 * closed it. The caller holds the lock of a mux, so no fork comes in between. */
int fmux_wake_socket(fmux_file_t *wake_out);

#endif
