/* epoll_loop.c - the wait loop in C, a lower bound for every Python program.
 *
 * Built as a shared library, so that it runs in the measured process, on the
 * same sockets and in the same rounds as the other candidates.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { CAPACITY = 1024 };

/* Volatile, so that the compiler cannot optimize the reads away. */
static volatile uint64_t sink;

/* Returns an epoll set that watches n descriptors for input, or -errno. */
int epoll_loop_open(const int *fds, int n)
{
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        if (epoll_ctl(epfd, EPOLL_CTL_ADD, fds[i], &event) < 0) {
            int error = errno;
            close(epfd);
            return -error;
        }
    }
    return epfd;
}

/* Waits with timeout 0 and reads each record, times times. Returns the CPU
 * time in nanoseconds, or -1 if a call does not return n events. */
int64_t epoll_loop_run(int epfd, int n, int64_t times)
{
    static struct epoll_event events[CAPACITY];
    struct timespec start, end;
    uint64_t sum = 0;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    for (int64_t i = 0; i < times; i++) {
        int count = epoll_wait(epfd, events, CAPACITY, 0);
        if (count != n)
            return -1;
        for (int k = 0; k < count; k++)
            sum += (uint64_t)events[k].data.fd + events[k].events;
    }
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    sink = sum;
    return (int64_t)(end.tv_sec - start.tv_sec) * 1000000000 + (end.tv_nsec - start.tv_nsec);
}
