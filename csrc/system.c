/* system.c - clocks, and the eventfd by which one thread ends the wait of another
 * (a pipe where there is none).
 */
#include "internal.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/eventfd.h>
#endif

/* ---- clocks ------------------------------------------------------------ */

int64_t fmux_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int fmux_milliseconds(int64_t timeout_ns, bool *cut_out)
{
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    if (ms <= INT32_MAX)
        return (int)ms;
    *cut_out = true;
    return INT32_MAX;
}

/* ---- eventfds ---------------------------------------------------------- */

#if defined(__linux__)

int fmux_wake_open(int *read_out, int *write_out)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    *read_out = *write_out = fd;
    return 0;
}

#else

int fmux_wake_open(int *read_out, int *write_out)
{
    int ends[2];
    if (pipe(ends) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    *read_out = ends[0];
    *write_out = ends[1];
    return 0;
}

#endif

void fmux_wake_close(int read_fd, int write_fd)
{
    close(read_fd);
    if (write_fd != read_fd)
        close(write_fd);
}

void fmux_wake_write(int write_fd)
{
    /* Eight bytes, as an eventfd requires. EAGAIN means that it is full, and so
     * readable already. */
    uint64_t one = 1;
    ssize_t written;
    do
        written = write(write_fd, &one, sizeof one);
    while (written < 0 && errno == EINTR);
}

void fmux_wake_drain(int read_fd)
{
    uint64_t scratch[8];
    ssize_t got;
    do
        got = read(read_fd, scratch, sizeof scratch);
    while (got == (ssize_t)sizeof scratch || (got < 0 && errno == EINTR));
}
