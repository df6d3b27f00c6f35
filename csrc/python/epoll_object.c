/* epoll_object.c - select.epoll: an epoll set without a mux, so that it behaves as the
 * standard object does.
 */
#include "interpreter.h"

#include <stdlib.h>
#include <unistd.h>

/* The default of maxevents in the standard object: FD_SETSIZE - 1. */
enum { FMUX__DEFAULT = 1023 };

/* The content of a set. */
typedef struct {
    int fd; /* -1: closed */
    PyObject *pairs; /* borrowed: the cache of (fd, events) */
} fmux_set_t;

static fmux_set_t *fmux__set(fmux_object_t set)
{
    return (void *)PyByteArray_AsString(fmux_borrow(set));
}

/* A closed set is -ESHUTDOWN, not -EBADF. */
static int fmux__result(fmux_object_t set, int result)
{
    return result == -EBADF && fmux__set(set)->fd < 0 ? -ESHUTDOWN : result;
}

fmux_object_t fmux_epoll_open(fmux_object_t object, int fd, fmux_object_t pairs)
{
    fmux_set_t content = {fd < 0 ? fmux_set_open() : fd, fmux_borrow(pairs)};
    if (content.fd < 0)
        return fmux_give_errno(content.fd);
    PyObject *set =
        PyByteArray_FromStringAndSize((const char *)&content, sizeof content);
    /* A signal handler that raises after this call would lose it. */
    if (set != NULL && PyObject_SetAttrString(fmux_borrow(object), "_set", set) < 0)
        Py_CLEAR(set);
    if (set == NULL && fd < 0)
        close(content.fd);
    return fmux_give(set);
}

int fmux_epoll_close(fmux_object_t set)
{
    int fd = fmux__set(set)->fd;
    fmux__set(set)->fd = -1;
    return fd < 0 || close(fd) == 0 ? 0 : -errno;
}

int fmux_epoll_fileno(fmux_object_t set)
{
    int fd = fmux__set(set)->fd;
    return fd < 0 ? -ESHUTDOWN : fd;
}

int fmux_epoll_control(fmux_object_t set, int operation, int fd, uint32_t mask)
{
    return fmux__result(
        set, fmux_set_control(fmux__set(set)->fd, operation, fd, mask));
}

/* One wait. The columns have room for max events. */
typedef struct {
    int set;
    int max;
    int32_t *fds;
    uint32_t *events;
} fmux_set_wait_t;

static int fmux__ask_set(void *call, int64_t timeout_ns)
{
    const fmux_set_wait_t *wait = call;
    return fmux_set_wait(wait->set, wait->fds, wait->events, wait->max,
                         timeout_ns);
}

static fmux_object_t fmux__wait_set(fmux_object_t set, int max,
                                    int64_t timeout_ns)
{
    int32_t few[2 * FMUX__DEFAULT], *columns = few;
    if (max > FMUX__DEFAULT) {
        columns = malloc((size_t)max * 2 * sizeof *columns);
        if (columns == NULL)
            return fmux_give(PyErr_NoMemory());
    }
    fmux_set_wait_t wait = {fmux__set(set)->fd, max, columns,
                            (uint32_t *)columns + max};
    int n = fmux_ask(fmux__ask_set, &wait, timeout_ns, 1);
    fmux_rows_t rows = {.fds = wait.fds, .events = wait.events};
    PyObject *result = NULL;
    if (n >= 0)
        result = fmux_pair_list(&rows, n, fmux__set(set)->pairs);
    else if (n != FMUX_RAISED)
        result = PyLong_FromLong(fmux__result(set, n));
    if (columns != few)
        free(columns);
    return fmux_give(result);
}

fmux_object_t fmux_epoll_now(fmux_object_t set)
{
    return fmux__wait_set(set, FMUX__DEFAULT, 0);
}

fmux_object_t fmux_epoll_wait(fmux_object_t set, fmux_object_t timeout)
{
    return fmux_epoll_some(set, timeout, FMUX__DEFAULT);
}

fmux_object_t fmux_epoll_some(fmux_object_t set, fmux_object_t timeout,
                              int maxevents)
{
    int64_t ns = fmux_timeout(fmux_borrow(timeout), &fmux_epoll_rule);
    return ns == FMUX_UNUSUAL ? fmux_give_errno(-EDOM)
                              : fmux__wait_set(set, maxevents, ns);
}
