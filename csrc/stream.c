/* stream.c - readiness and data in one call.
 *
 * A server that waits for its connections and then reads from each of those that
 * are ready goes into the kernel once for the wait and once for each read. It
 * has to; but a program in Python also goes back and forth between the
 * interpreter and C each time, with an object made for each step. Here one call
 * waits and then reads from every descriptor that is flagged for it, into one
 * piece of memory, and the interpreter finds everything done.
 *
 * What is read this way is out of the kernel, whatever becomes of the reader
 * before it is told: keeping it until it is wanted is up to the caller.
 */
#include "internal.h"

#include <sys/socket.h>

/* (A set that was adopted may report any number.) */
static bool fmux__flagged(const fmux_stream_t *stream, int fd)
{
    return fd >= 0 && fd < stream->flags_length && stream->flags[fd] != 0;
}

/* Read from those that are waiting for it, in turn, until enough has been read.
 * Returns the number of rows. */
static int fmux__read(fmux_stream_t *stream)
{
    int rows = 0, used = 0;
    while (stream->first < stream->last && used <= stream->enough) {
        int fd = stream->waiting[stream->first++];
        /* It may have been a while, and the number another file's by now. The
         * flag is true of that one, then; and MSG_DONTWAIT makes sure that
         * nothing else depends on it. */
        if (!fmux__flagged(stream, fd))
            continue;
        ssize_t got = recv(fd, stream->arena + used, (size_t)stream->chunk,
                           MSG_DONTWAIT);
        if (got < 0 &&
            (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            continue;
        stream->fds[rows] = fd;
        stream->lengths[rows++] = got < 0 ? -errno : (int32_t)got;
        if (got > 0)
            used += (int)got;
    }
    return rows;
}

/* Divide what a wait has found into what is to be read and the others. Returns how
 * many those are. */
static int fmux__divide(fmux_stream_t *stream, int n)
{
    fmux_ready_t *ready = stream->ready;
    int others = 0;
    stream->first = stream->last = 0;
    for (int i = 0; i < n; i++) {
        int fd = ready->fds[i];
        uint32_t events = ready->events[i];
        if (fmux__flagged(stream, fd)) {
            if ((events & ~(uint32_t)POLLOUT) != 0)
                stream->waiting[stream->last++] = fd;
            /* An error concerns who waits to write, too. */
            if ((events & (POLLOUT | POLLERR | POLLHUP)) == 0)
                continue;
            events = POLLOUT;
        }
        fmux_report(ready, others++, fd, events);
    }
    return others;
}

int fmux_stream_wait(fmux_stream_t *stream, int64_t timeout_ns)
{
    fmux_ready_t *ready = stream->ready;
    if (ready->capacity >= FMUX_OTHERS)
        return -EINVAL;
    /* Those come first, and no wait before them: the kernel would report all
     * again in the same order, so the last ones might never have their turn. */
    int rows = fmux__read(stream);
    if (rows > 0)
        return rows;
    int n = fmux_wait(ready, timeout_ns, ready->capacity);
    if (n <= 0)
        return n;
    int others = fmux__divide(stream, n < FMUX_ROWS ? 1 : n - FMUX_ROWS);
    atomic_store_explicit(ready->unread, 0, memory_order_release);
    return fmux__read(stream) + others * FMUX_OTHERS;
}
