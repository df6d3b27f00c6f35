/* floor.c - the wait loop in C: what no Python program can be faster than.
 *
 * Built as a shared library, so that it runs in the measured process, on the
 * same sockets and in the same rounds as the others.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 1024 };

/* Here the compiler must deliver what was read, so it cannot skip the reading. */
static volatile uint64_t sink;

/* Returns an epoll set that watches n descriptors for input, or -errno. */
int floor_open(const int *fds, int n)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        if (epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event) < 0) {
            int error = errno;
            close(set);
            return -error;
        }
    }
    return set;
}

/* Asks so many times what is ready now, and reads each record. Returns the
 * nanoseconds of CPU time that this took, or -1 if a call does not find n events. */
int64_t floor_run(int set, int n, int64_t times)
{
    static struct epoll_event events[CAPACITY];
    struct timespec start, end;
    uint64_t sum = 0;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    for (int64_t i = 0; i < times; i++) {
        int found = epoll_wait(set, events, CAPACITY, 0);
        if (found != n)
            return -1;
        for (int k = 0; k < found; k++)
            sum += (uint64_t)events[k].data.fd + events[k].events;
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    sink = sum;
    return (int64_t)(end.tv_sec - start.tv_sec) * 1000000000 + (end.tv_nsec - start.tv_nsec);
}
