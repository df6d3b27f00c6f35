/* waits.c - waits on a ready array: arguments, signals, deadlines, results. */
#include "interpreter.h"

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

/* Wait and build the list. Inlined, so that each kind has its own code, without a
 * deadline where timeout_ns is constant. */
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
        int n = fmux__wait(ready, max_events, &deadline, &rows);
        if (n == FMUX_RAISED)
            return fmux_give(NULL);
        if (n == -EBUSY && deadline.end_ns != 0)
            return fmux_give(PyFloat_FromDouble(
                (double)fmux_time_left(&deadline) / 1e9));
        if (n < 0)
            return fmux_give_errno(n);
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
            return fmux_give(list);
        /* A Poller goes on. The kernel may report the same at once, so the other
         * thread has to get the lock. */
        Py_DECREF(list);
        PyThreadState *state = PyEval_SaveThread();
        PyEval_RestoreThread(state);
        if (PyErr_CheckSignals() < 0)
            return fmux_give(NULL);
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

fmux_object_t fmux_pairs_now(fmux_ready_t *ready)
{
    return fmux__now(ready, FMUX__PAIRS);
}

fmux_object_t fmux_pairs_wait(fmux_ready_t *ready, fmux_object_t timeout)
{
    return fmux__timed(ready, timeout, &fmux_poller_rule, FMUX__PAIRS);
}

fmux_object_t fmux_pairs_some(fmux_ready_t *ready, fmux_object_t timeout,
                              int maxevents)
{
    int64_t ns = fmux_timeout(fmux_borrow(timeout), &fmux_poller_rule);
    if (ns == FMUX_UNUSUAL || ready == NULL)
        return fmux_give_errno(ready == NULL ? -EBUSY : -EDOM);
    int capacity = fmux_ready_rows(ready).capacity;
    int all = maxevents < 0 || maxevents > capacity;
    return fmux__list(ready, ns, all ? capacity : maxevents, FMUX__PAIRS);
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
    fmux_rows_t rows;
    int n = fmux__wait(ready, fmux_ready_rows(ready).capacity, &deadline,
                       &rows);
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
