/* waits.c - waits on a ready array: arguments, signals, deadlines, results. */
#include "interpreter.h"

#include <errno.h>

/* An exception is set. */
enum { FMUX__RAISED = -EFAULT };

/* Wait until there are rows, or the time is over. Returns as fmux_wait, but never
 * -EINTR, or FMUX__RAISED if a signal handler raises. */
static int fmux__wait(fmux_ready_t *ready, int max_events,
                      fmux_deadline_t *deadline)
{
    int n = deadline->timeout_ns == 0 ? fmux_wait(ready, 0, max_events)
                                      : fmux_try(ready, max_events);
    while (n == -EAGAIN || n == -EINTR) {
        if (n == -EINTR && PyErr_CheckSignals() < 0)
            return FMUX__RAISED;
        int64_t left_ns = fmux_time_left(deadline);
        PyThreadState *state = PyEval_SaveThread();
        n = fmux_wait(ready, left_ns, max_events);
        PyEval_RestoreThread(state);
    }
    return n;
}

/* The kinds of results. */
typedef enum {
    FMUX__PAIRS,
    FMUX__KEYS,
    FMUX__SELECTOR
} fmux_kind_t;

/* Compiled for each kind and, where timeout_ns is constant, without deadlines. */
__attribute__((always_inline)) static inline fmux_object_t
fmux__list(fmux_ready_t *ready, int64_t timeout_ns, int max_events,
           fmux_kind_t kind)
{
    fmux_rows_t rows = fmux_ready_rows(ready);
    const fmux_context_t *context = rows.context;
    fmux_deadline_t deadline = {timeout_ns, 0};
    if (kind == FMUX__SELECTOR &&
        PyDict_Size(context->keys) > rows.capacity)
        return fmux_give_errno(-ENOBUFS);
    for (;;) {
        int n = fmux__wait(ready, max_events, &deadline);
        if (n == 0)
            return fmux_give(PyList_New(0));
        if (n < 0)
            return n == FMUX__RAISED ? fmux_give(NULL) : fmux_give_errno(n);
        PyObject *list =
            kind == FMUX__PAIRS
                ? fmux_pair_list(&rows, n, context->pairs)
                : fmux_key_list(&rows, n, context, kind == FMUX__SELECTOR);
        fmux_ready_release(ready);
        if (list == NULL || PyList_Size(list) > 0 || deadline.timeout_ns == 0)
            return fmux_give(list);
        /* Another thread has unregistered every reported descriptor. */
        Py_DECREF(list);
        if (fmux_time_left(&deadline) == 0)
            deadline.timeout_ns = 0;
    }
}

static fmux_object_t fmux__now(fmux_ready_t *ready, fmux_kind_t kind)
{
    if (ready == NULL)
        return fmux_give_errno(-EBUSY);
    return fmux__list(ready, 0, fmux_ready_rows(ready).capacity, kind);
}

static fmux_object_t fmux__timed(fmux_ready_t *ready, fmux_object_t timeout,
                                 const fmux_timeout_rule_t *rule,
                                 fmux_kind_t kind)
{
    int64_t ns = fmux_timeout(fmux_borrow(timeout), rule);
    if (ns == FMUX_UNUSUAL)
        return fmux_give_errno(-EDOM);
    if (ready == NULL)
        return fmux_give_errno(-EBUSY);
    return fmux__list(ready, ns, fmux_ready_rows(ready).capacity, kind);
}

static fmux_object_t fmux__some(fmux_ready_t *ready, fmux_object_t timeout,
                                fmux_object_t maxevents,
                                const fmux_timeout_rule_t *rule)
{
    if (ready == NULL)
        return fmux_give_errno(-EBUSY);
    PyObject *number = fmux_borrow(maxevents);
    int64_t ns = fmux_timeout(fmux_borrow(timeout), rule);
    if (ns == FMUX_UNUSUAL || !PyLong_CheckExact(number))
        return fmux_give_errno(-EDOM);
    int capacity = fmux_ready_rows(ready).capacity;
    int overflow;
    long most = PyLong_AsLongAndOverflow(number, &overflow);
    if (most == -1 && overflow == 0)
        most = capacity;
    if (most < 1 || most > capacity)
        return fmux_give_errno(-EDOM);
    return fmux__list(ready, ns, (int)most, FMUX__PAIRS);
}

fmux_object_t fmux_pairs_now(fmux_ready_t *ready)
{
    return fmux__now(ready, FMUX__PAIRS);
}

fmux_object_t fmux_pairs_wait(fmux_ready_t *ready, fmux_object_t timeout)
{
    return fmux__timed(ready, timeout, &fmux_poller_rule, FMUX__PAIRS);
}

fmux_object_t fmux_pairs_some(fmux_ready_t *ready, fmux_object_t timeout,
                              fmux_object_t maxevents)
{
    return fmux__some(ready, timeout, maxevents, &fmux_poller_rule);
}

fmux_object_t fmux_epoll_wait(fmux_ready_t *ready, fmux_object_t timeout)
{
    return fmux__timed(ready, timeout, &fmux_epoll_rule, FMUX__PAIRS);
}

fmux_object_t fmux_epoll_some(fmux_ready_t *ready, fmux_object_t timeout,
                              fmux_object_t maxevents)
{
    return fmux__some(ready, timeout, maxevents, &fmux_epoll_rule);
}

fmux_object_t fmux_keys_now(fmux_ready_t *ready)
{
    return fmux__now(ready, FMUX__KEYS);
}

fmux_object_t fmux_keys_wait(fmux_ready_t *ready, fmux_object_t timeout)
{
    return fmux__timed(ready, timeout, &fmux_poller_rule, FMUX__KEYS);
}

fmux_object_t fmux_selector_now(fmux_ready_t *ready)
{
    return fmux__now(ready, FMUX__SELECTOR);
}

fmux_object_t fmux_selector_wait(fmux_ready_t *ready, fmux_object_t timeout)
{
    return fmux__timed(ready, timeout, &fmux_selector_rule, FMUX__SELECTOR);
}

static fmux_object_t fmux__count(fmux_ready_t *ready, int64_t timeout_ns)
{
    fmux_deadline_t deadline = {timeout_ns, 0};
    if (timeout_ns == FMUX_UNUSUAL || ready == NULL)
        return fmux_give_errno(ready == NULL ? -EBUSY : -EDOM);
    int n = fmux__wait(ready, fmux_ready_rows(ready).capacity, &deadline);
    return n == FMUX__RAISED ? fmux_give(NULL) : fmux_give_errno(n);
}

fmux_object_t fmux_rows_now(fmux_ready_t *ready)
{
    return fmux__count(ready, 0);
}

fmux_object_t fmux_rows_wait(fmux_ready_t *ready, fmux_object_t timeout)
{
    return fmux__count(ready,
                       fmux_timeout(fmux_borrow(timeout), &fmux_poller_rule));
}

fmux_object_t fmux_selector_rows(fmux_ready_t *ready, int n)
{
    fmux_rows_t rows = fmux_ready_rows(ready);
    return fmux_give(fmux_key_list(&rows, n, rows.context, 1));
}
