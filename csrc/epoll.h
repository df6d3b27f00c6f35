/* epoll.h - shared by the two files of the epoll mechanism. */
#ifndef FASTMUX_EPOLL_H
#define FASTMUX_EPOLL_H

#include "internal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>

#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (UINT32_C(1) << 28)
#endif

/* epoll_data of the wake-up socket: no registration has number 0. */
#define FMUX_WAKE_DATA UINT64_C(0)

/* The kernel's record of a registration: the descriptor in the low half of
 * epoll_data, the generation in the high half. */
static inline struct epoll_event fmux_epoll_record(int fd, fmux_entry_t *entry)
{
    uint64_t generation =
        atomic_load_explicit(&entry->generation, memory_order_relaxed);
    return (struct epoll_event){
        .events = entry->mask,
        .data.u64 = generation << 32 | (uint32_t)fd,
    };
}

/* Add the wake-up socket of the mux to a set, or change its mask there. */
static inline int fmux_epoll_wake(fmux_t *mux, int epoll_fd, int operation,
                                  uint32_t mask)
{
    struct epoll_event record = {.events = mask, .data.u64 = FMUX_WAKE_DATA};
    return epoll_ctl(epoll_fd, operation, mux->wake.fd, &record) < 0 ? -errno
                                                                     : 0;
}

/* A set of ours is marked by the signal for asynchronous reports (F_SETSIG), which an
 * epoll set never sends: so this is the cheapest mark that a file can carry. No program
 * sets this signal for another file. Of two marked sets under one number, the older one
 * is closed, see fmux_list_disown. */
enum { FMUX_MARK = SIGXCPU };

/* Mark a set. Returns 0 or -ENOMEM. */
static inline int fmux_epoll_mark(int set)
{
    return fcntl(set, F_SETSIG, FMUX_MARK) < 0 ? -errno : 0;
}

/* True if the number still stands for a set of ours. */
static inline bool fmux_epoll_is_marked(int set)
{
    return fcntl(set, F_GETSIG) == FMUX_MARK;
}

/* End one wait. Returns false if the set or the socket is not ours any more: only the
 * set of this mux has the socket under this number. */
static inline bool fmux_epoll_kick(fmux_t *mux)
{
    return fmux_is_ours(&mux->wake) &&
           fmux_epoll_wake(mux, atomic_load(&mux->sleep_fd), EPOLL_CTL_MOD,
                           EPOLLOUT | EPOLLET) == 0;
}

/* See fmux_mechanism_t. */
void fmux_epoll_release(fmux_t *mux);
void fmux_epoll_fork(fmux_t *mux);
void fmux_epoll_forked(fmux_t *mux);
int fmux_epoll_renew(fmux_t *mux);

#endif
