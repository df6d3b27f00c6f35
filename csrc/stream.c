/* stream.c - readiness and data in one call.
 *
 * A server enters the kernel once to wait and once for each socket that it then
 * receives from. A Python program also crosses between the interpreter and C for
 * each of these steps, and makes objects on the way. This call waits and then
 * receives from every flagged descriptor into one piece of memory.
 *
 * The data has left the kernel when this returns. So the caller must keep it, even
 * if the reader has gone.
 */
#include "internal.h"

#include <sys/socket.h>

static bool fmux__flagged(const fmux_stream_t *stream, int fd)
{
    return fd < stream->flags_length && stream->flags[fd] != 0;
}

/* Receive from the waiting descriptors in turn, until enough bytes are there.
 * Returns the number of rows. */
static int fmux__read(fmux_stream_t *stream)
{
    int rows = 0, used = 0;
    while (stream->first < stream->last && used <= stream->enough) {
        int fd = stream->waiting[stream->first++];
        /* The number may stand for another file by now. The flag is then about
         * that file, and MSG_DONTWAIT makes a wrong guess harmless. */
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

/* Split the rows of a wait into descriptors to receive from and others. Returns
 * the number of others. */
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
            /* An error is reported to the writer, too. */
            if ((events & (POLLOUT | POLLERR | POLLHUP)) == 0)
                continue;
            events = POLLOUT;
        }
        fmux_report(ready, others++, fd, events, ready->tags[i]);
    }
    return others;
}

int fmux_stream_wait(fmux_stream_t *stream, int64_t timeout_ns)
{
    fmux_ready_t *ready = stream->ready;
    if (ready->capacity >= FMUX_OTHERS)
        return -EINVAL;
    /* Leftovers come first, without a wait: the kernel would report all again in
     * the same order, and starve the last ones. */
    int rows = fmux__read(stream);
    if (rows > 0)
        return rows;
    int n = fmux_wait(ready, timeout_ns, ready->capacity);
    if (n <= 0)
        return n;
    int others = fmux__divide(stream, n);
    fmux_ready_release(ready);
    return fmux__read(stream) + others * FMUX_OTHERS;
}
