/* waits.c - waits: arguments, ready arrays, signals, deadlines, results. */
#include "interpreter.h"

#include <limits.h>

int fmux_ask(fmux_ask_t ask, void *call, int64_t timeout_ns, int quick)
{
    fmux_deadline_t deadline = {timeout_ns, 0};
    if (quick) {
        int n = ask(call, 0);
        if (n != -EINTR && (n != 0 || timeout_ns == 0))
            return n;
    }
    for (;;) {
        int64_t left_ns = fmux_time_left(&deadline);
        PyThreadState *state = PyEval_SaveThread();
        int n = ask(call, left_ns);
        PyEval_RestoreThread(state);
        if (n != -EINTR)
            return n;
        if (PyErr_CheckSignals() < 0)
            return FMUX_RAISED;
    }
}

/* Whether waits with the array have consumed a wake-up since this view of it. */
static int fmux__woken(fmux_ready_t *ready, const fmux_rows_t *before)
{
    return fmux_ready_rows(ready).wakeups != before->wakeups;
}

/* Run signal handlers after a wait that has slept and has n rows. Left to the
 * interpreter, a handler that raises would lose them.
 * Returns n, or FMUX_RAISED. */
static int fmux__handle_signals(fmux_ready_t *ready, int n,
                                const fmux_rows_t *before)
{
    int woken = fmux__woken(ready, before);
    if (PyErr_CheckSignals() == 0)
        return n;
    fmux_give_back(ready, n, woken);
    if (n > 0)
        fmux_ready_release(ready);
    return FMUX_RAISED;
}

/* Wait until there are rows, or the time is over; continue after -EINTR. Sets *rows
 * to a view of the array before the wait.
 * Returns as fmux_wait, or FMUX_RAISED if a signal handler raises. */
static int fmux__wait(fmux_ready_t *ready, int max_events,
                      fmux_deadline_t *deadline, fmux_rows_t *rows)
{
    *rows = fmux_ready_rows(ready);
    int n = deadline->timeout_ns == 0 ? fmux_wait(ready, 0, max_events)
                                      : fmux_try(ready, max_events);
    while (n == -EAGAIN || n == -EINTR) {
        if (n == -EINTR && PyErr_CheckSignals() < 0)
            return FMUX_RAISED;
        *rows = fmux_ready_rows(ready);
        int64_t left_ns = fmux_time_left(deadline);
        PyThreadState *state = PyEval_SaveThread();
        n = fmux_wait(ready, left_ns, max_events);
        PyEval_RestoreThread(state);
        if (n >= 0)
            n = fmux__handle_signals(ready, n, rows);
    }
    return n;
}

/* The kinds of results. */
typedef enum {
    FMUX__PAIRS,
    FMUX__KEYS,
    FMUX__SELECTOR
} fmux_kind_t;

/* Wait with an array and build the list. Inlined, so that each kind has its own code,
 * without a deadline where timeout_ns is constant. */
__attribute__((always_inline)) static inline PyObject *
fmux__list_in(const fmux_context_t *context, fmux_array_t *array,
              int64_t timeout_ns, int max_events, fmux_kind_t kind)
{
    fmux_ready_t *ready = array->ready;
    fmux_deadline_t deadline = {timeout_ns, 0};
    if (max_events > array->rows)
        max_events = array->rows;
    for (;;) {
        fmux_rows_t rows;
        int n = fmux__wait(ready, max_events, &deadline, &rows);
        if (n < 0)
            return n == FMUX_RAISED ? NULL : PyLong_FromLong(n);
        PyObject *list =
            n == 0 ? PyList_New(0)
            : kind == FMUX__PAIRS
                ? fmux_pair_list(&rows, n, context->pairs)
                : fmux_key_list(&rows, n, context, kind == FMUX__SELECTOR);
        int ends = n == 0 || list == NULL || PyList_Size(list) > 0;
        int woken = (list == NULL || !ends) && fmux__woken(ready, &rows);
        if (list == NULL)
            fmux_give_back(ready, n, woken);
        if (n > 0)
            fmux_ready_release(ready);
        /* A report without a key: another thread or the code that a signal handler
         * has interrupted is unregistering it. The standard selectors return. */
        if (ends || woken || deadline.timeout_ns == 0 || kind == FMUX__SELECTOR)
            return list;
        /* A Poller goes on. The kernel may report the same at once, so the other
         * thread has to get the lock. */
        Py_DECREF(list);
        PyThreadState *state = PyEval_SaveThread();
        PyEval_RestoreThread(state);
        if (PyErr_CheckSignals() < 0)
            return NULL;
        if (fmux_time_left(&deadline) == 0)
            deadline.timeout_ns = 0;
    }
}

/* The same with an array of the context. */
__attribute__((always_inline)) static inline fmux_object_t
fmux__list(fmux_object_t object, int64_t timeout_ns, int max_events,
           fmux_kind_t kind)
{
    fmux_context_t *context = fmux_borrow_context(object);
    int error = 0;
    if (timeout_ns == FMUX_UNUSUAL || context == NULL)
        return fmux_give_errno(-EDOM);
    fmux_array_t *array = fmux_take_array(context, &error);
    if (array == NULL)
        return error < 0 ? fmux_give_errno(error) : fmux_give(NULL);
    PyObject *result =
        fmux__list_in(context, array, timeout_ns, max_events, kind);
    array->busy = 0;
    return fmux_give(result);
}

fmux_object_t fmux_pairs_now(fmux_object_t context)
{
    return fmux__list(context, 0, INT_MAX, FMUX__PAIRS);
}

fmux_object_t fmux_pairs_some(fmux_object_t context, fmux_object_t timeout,
                              int maxevents)
{
    return fmux__list(context,
                      fmux_timeout(fmux_borrow(timeout), &fmux_poller_rule),
                      maxevents, FMUX__PAIRS);
}

fmux_object_t fmux_pairs_wait(fmux_object_t context, fmux_object_t timeout)
{
    return fmux_pairs_some(context, timeout, INT_MAX);
}

fmux_object_t fmux_keys_now(fmux_object_t context)
{
    return fmux__list(context, 0, INT_MAX, FMUX__KEYS);
}

fmux_object_t fmux_keys_wait(fmux_object_t context, fmux_object_t timeout)
{
    return fmux__list(context,
                      fmux_timeout(fmux_borrow(timeout), &fmux_poller_rule),
                      INT_MAX, FMUX__KEYS);
}

fmux_object_t fmux_selector_now(fmux_object_t context)
{
    return fmux__list(context, 0, INT_MAX, FMUX__SELECTOR);
}

fmux_object_t fmux_selector_wait(fmux_object_t context, fmux_object_t timeout)
{
    return fmux__list(context,
                      fmux_timeout(fmux_borrow(timeout), &fmux_selector_rule),
                      INT_MAX, FMUX__SELECTOR);
}

static fmux_object_t fmux__count(fmux_ready_t *ready, int64_t timeout_ns)
{
    fmux_deadline_t deadline = {timeout_ns, 0};
    if (timeout_ns == FMUX_UNUSUAL || ready == NULL)
        return fmux_give_errno(ready == NULL ? -EBUSY : -EDOM);
    fmux_rows_t rows = fmux_ready_rows(ready);
    const fmux_context_t *context = rows.context;
    if (context->capacity > rows.capacity)
        return fmux_give_errno(-EBUSY);
    int n = fmux__wait(ready, rows.capacity, &deadline, &rows);
    PyObject *number = n == FMUX_RAISED ? NULL : PyLong_FromLong(n);
    if (number == NULL && n >= 0)
        fmux_give_back(ready, n, fmux__woken(ready, &rows));
    return fmux_give(number);
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
