/* wakeup.c - the descriptors by which one thread ends the wait of another: a pipe per
 * wait of poll and select, a socket for all epoll sets.
 *
 * A descriptor number is not a file. A program may close any number (daemons close
 * all) and open another file under it. So each file here is one that fstat(2) can
 * identify: a pipe or a socket has an inode of its own, which no other file gets
 * while it is open. (All eventfds and epoll sets share one inode; sets are marked, see
 * epoll.h.) A number is written to, read or closed only if it still stands for the file.
 *
 * Sources: fstat(2), inode(7).
 */
#include "internal.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void fmux__identify(fmux_file_t *file, int fd)
{
    struct stat status = {0};
    (void)fstat(fd, &status);
    *file = (fmux_file_t){fd, status.st_dev, status.st_ino};
}

bool fmux_is_ours(const fmux_file_t *file)
{
    struct stat status;
    return file->fd >= 0 && fstat(file->fd, &status) == 0 &&
           status.st_ino == file->inode && status.st_dev == file->device;
}

/* ---- pipes ------------------------------------------------------------------ */

int fmux_pipe_open(fmux_pipe_t *wake)
{
    int ends[2];
    if (pipe(ends) < 0)
        return -errno;
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
    }
    fmux__identify(&wake->read, ends[0]);
    fmux__identify(&wake->write, ends[1]);
    return 0;
}

void fmux_pipe_close(fmux_pipe_t *wake)
{
    if (fmux_is_ours(&wake->read))
        close(wake->read.fd);
    if (fmux_is_ours(&wake->write))
        close(wake->write.fd);
    wake->read.fd = wake->write.fd = -1;
}

bool fmux_pipe_is_ours(const fmux_pipe_t *wake)
{
    return fmux_is_ours(&wake->read) && fmux_is_ours(&wake->write);
}

bool fmux_pipe_write(const fmux_pipe_t *wake)
{
    /* Without a reader, the write would raise SIGPIPE. */
    if (!fmux_pipe_is_ours(wake))
        return false;
    ssize_t written;
    do
        written = write(wake->write.fd, "", 1); /* EAGAIN: full, so readable */
    while (written < 0 && errno == EINTR);
    return true;
}

bool fmux_pipe_drain(const fmux_pipe_t *wake)
{
    char scratch[64];
    ssize_t got;
    if (!fmux_pipe_is_ours(wake))
        return false;
    do
        got = read(wake->read.fd, scratch, sizeof scratch);
    while (got == (ssize_t)sizeof scratch || (got < 0 && errno == EINTR));
    return true;
}

/* ---- the socket of the epoll sets --------------------------------------------- */

#if defined(FMUX_HAVE_EPOLL)

int fmux_wake_socket(fmux_file_t *wake_out)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static fmux_file_t wake = {.fd = -1};
    int result = 0;
    pthread_mutex_lock(&lock);
    if (!fmux_is_ours(&wake)) {
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0)
            fmux__identify(&wake, fd);
        else
            result = -errno;
    }
    if (result == 0)
        *wake_out = wake;
    pthread_mutex_unlock(&lock);
    return result;
}

#endif
