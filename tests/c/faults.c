/* faults.c - see faults.h. */
#include "faults.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

static _Thread_local struct {
    int kinds;
    int first, last;        /* calls that fail, counted from 1 */
    int error;              /* their errno */
    void (*action)(void *); /* or NULL; runs before the call instead */
    void *argument;         /* of the action */
    int calls;              /* counted so far */
    int struck;             /* failed, or with the action before them */
} armed;

void fault_arm(int kinds, int first, int times, int error)
{
    armed.kinds = kinds;
    armed.first = first;
    armed.last = first + times - 1;
    armed.error = error;
    armed.action = NULL;
    armed.calls = armed.struck = 0;
}

void fault_meanwhile(int kinds, void (*action)(void *), void *argument)
{
    fault_arm(kinds, 1, 1, 0);
    armed.action = action;
    armed.argument = argument;
}

int fault_disarm(void)
{
    armed.kinds = 0;
    return armed.struck;
}

/* Count a call. Returns true if it has to fail, with errno set. */
static bool strikes(int kind)
{
    if ((armed.kinds & kind) == 0)
        return false;
    armed.calls++;
    if (armed.calls < armed.first || armed.calls > armed.last)
        return false;
    armed.struck++;
    if (armed.action != NULL) {
        armed.kinds = 0;
        armed.action(armed.argument);
        return false;
    }
    errno = armed.error;
    return true;
}

/* The wrapper that the linker puts in place of name. */
#define WRAP(kind, failure, type, name, parameters, arguments)      \
    type __real_##name parameters;                                  \
    type __wrap_##name parameters;                                  \
    type __wrap_##name parameters                                   \
    {                                                               \
        return strikes(kind) ? (failure) : __real_##name arguments; \
    }

WRAP(FAULT_MEMORY, NULL, void *, malloc, (size_t size), (size))
WRAP(FAULT_MEMORY, NULL, void *, calloc, (size_t count, size_t size),
     (count, size))
WRAP(FAULT_MEMORY, NULL, void *, realloc, (void *old, size_t size),
     (old, size))
WRAP(FAULT_MUTEX, errno, int, pthread_mutex_init,
     (pthread_mutex_t * mutex, const pthread_mutexattr_t *attributes),
     (mutex, attributes))
WRAP(FAULT_EPOLL_CREATE, -1, int, epoll_create1, (int flags), (flags))
WRAP(FAULT_PIPE, -1, int, pipe, (int ends[2]), (ends))
WRAP(FAULT_SOCKET, -1, int, socket, (int domain, int type, int protocol),
     (domain, type, protocol))
WRAP(FAULT_EPOLL_CTL, -1, int, epoll_ctl,
     (int set, int operation, int fd, struct epoll_event *event),
     (set, operation, fd, event))
WRAP(FAULT_FCNTL, -1, int, fcntl, (int fd, int operation, long argument),
     (fd, operation, argument))
WRAP(FAULT_EPOLL_WAIT, -1, int, epoll_wait,
     (int set, struct epoll_event *events, int max, int timeout),
     (set, events, max, timeout))
WRAP(FAULT_EPOLL_WAIT, -1, long, syscall,
     (long number, long a, long b, long c, long d, long e, long f),
     (number, a, b, c, d, e, f))
WRAP(FAULT_POLL, -1, int, poll,
     (struct pollfd * records, nfds_t length, int timeout),
     (records, length, timeout))
WRAP(FAULT_PPOLL, -1, int, ppoll,
     (struct pollfd * records, nfds_t length, const struct timespec *timeout,
      const sigset_t *signals),
     (records, length, timeout, signals))
WRAP(FAULT_PSELECT, -1, int, pselect,
     (int bits, fd_set *reads, fd_set *writes, fd_set *others,
      const struct timespec *timeout, const sigset_t *signals),
     (bits, reads, writes, others, timeout, signals))
WRAP(FAULT_FOPEN, NULL, FILE *, fopen, (const char *path, const char *mode),
     (path, mode))
WRAP(FAULT_RECV, -1, ssize_t, recv, (int fd, void *buffer, size_t size, int flags),
     (fd, buffer, size, flags))
