/* epoll.h - shared by the two files of the epoll mechanism. */
#ifndef FASTMUX_EPOLL_H
#define FASTMUX_EPOLL_H

#include "internal.h"

#include <sys/epoll.h>

#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (UINT32_C(1) << 28)
#endif

/* epoll_data of the eventfd: no registration has number 0. */
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

/* Add the eventfd to a set. Returns 0 or -errno. */
static inline int fmux_epoll_add_wake(int epoll_fd, int wake_fd)
{
    struct epoll_event record = {
        .events = EPOLLIN | EPOLLET,
        .data.u64 = FMUX_WAKE_DATA,
    };
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &record) < 0 ? -errno
                                                                    : 0;
}

/* See fmux_mechanism_t. */
int fmux_epoll_renew(fmux_t *mux);

#endif
