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

/* No read begins with less room than this, unless the arena is smaller: a
 * stream that is read in crumbs costs a call for each. */
enum { FMUX__ROOM = 16 * 1024 };

/* Read what is there into row number row. Returns how many bytes of the arena that
 * took, or -EAGAIN: there was nothing, and so there is no such row. */
static int fmux__read(fmux_stream_t *stream, int row, int fd, int used,
                      int room)
{
    /* MSG_DONTWAIT, because the caller promises a socket, not that it is a
     * non-blocking one. */
    ssize_t got = recv(fd, stream->arena + used, (size_t)room, MSG_DONTWAIT);
    if (got < 0 &&
        (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return -EAGAIN;
    stream->fds[row] = fd;
    stream->lengths[row] = got < 0 ? -errno : (int32_t)got;
    return got < 0 ? 0 : (int)got;
}

int fmux_stream_wait(fmux_stream_t *stream, int64_t timeout_ns)
{
    fmux_ready_t *ready = stream->ready;
    if (ready->capacity >= FMUX_OTHERS)
        return -EINVAL;
    int n = fmux_wait(ready, timeout_ns, ready->capacity);
    if (n <= 0)
        return n;
    n = n < FMUX_ROWS ? 1 : n - FMUX_ROWS;

    int rows = 0, others = 0, used = 0;
    int least = stream->chunk < FMUX__ROOM ? stream->chunk : FMUX__ROOM;
    for (int i = 0; i < n; i++) {
        int fd = ready->fds[i];
        uint32_t events = ready->events[i];
        if (fd < stream->flags_length && stream->flags[fd] != 0) {
            int room = stream->arena_bytes - used;
            if (room > stream->chunk)
                room = stream->chunk;
            /* Whoever finds no room is reported again by the next wait, before
             * those who were reported now. */
            if ((events & ~(uint32_t)POLLOUT) != 0 && room >= least) {
                int got = fmux__read(stream, rows, fd, used, room);
                if (got >= 0) {
                    rows++;
                    used += got;
                }
            }
            /* An error concerns who waits to write, too. */
            if ((events & (POLLOUT | POLLERR | POLLHUP)) == 0)
                continue;
            events = POLLOUT;
        }
        fmux_report(ready, others++, fd, events);
    }
    atomic_store_explicit(ready->unread, 0, memory_order_release);
    return rows + others * FMUX_OTHERS;
}
