/* turn.c - one round of run_forever().
 *
 * A turn is the standard loop's: wait, without sleeping if callbacks are queued;
 * queue what the wait has found behind them, then the timers that are due; run all
 * that is queued now. What these callbacks queue belongs to the next turn.
 *
 * Whenever a program has changed something that the standard turn would use, such
 * as the selector's select() or the clock, that one runs instead: fmux__is_standard.
 * The two share all state, so each turn can be the one or the other.
 */
#include "loop.h"

#include <math.h>

enum {
    FMUX__MOST_CANCELLED = 100, /* timers, as in the standard loop */
    FMUX__LOOK_EVERY = 16,      /* turns: whether handles are wrapped */
    FMUX__MOST_TURNS = 16       /* of one call by run_forever() */
};

/* The longest sleep, as of the standard loop. */
#define FMUX__LONGEST_SLEEP (24.0 * 3600)
/* The resolution of the clock, which the standard loop adds to the time. */
#define FMUX__RESOLUTION 1e-9

/* Whether this turn must be the standard one. */
static bool fmux__is_standard(fmux_loop_t *loop)
{
    if (loop->array == NULL || loop->debug || loop->overridden ||
        !PyList_CheckExact(loop->scheduled))
        return true;
    if (loop->turns++ % FMUX__LOOK_EVERY == 0)
        loop->wrapped = fmux_handle_is_wrapped();
    if (loop->wrapped ||
        PyDict_GetItemWithError(loop->selector_dict, fmux_names.select) != NULL)
        return true;
    if (PyList_Size(loop->scheduled) == 0) {
        loop->foreign = 0;
        return false;
    }
    PyObject *first = PyList_GetItem(loop->scheduled, 0);
    return loop->foreign || Py_TYPE(first) != fmux_timer_type ||
           isnan(fmux_handle(first)->when) || !fmux_has_own_time(loop);
}

static PyObject *fmux__standard_turn(fmux_loop_t *loop)
{
    char nested = loop->standard;
    loop->standard = 1;
    PyObject *none = fmux_standard((PyObject *)loop, fmux_names._run_once, NULL, 0,
                                   NULL);
    loop->standard = nested;
    return none;
}

/* Remove cancelled timers: the first ones, and all if they are many. */
static int fmux__remove_cancelled(fmux_loop_t *loop)
{
    PyObject *heap = loop->scheduled;
    if (loop->timer_cancelled_count > FMUX__MOST_CANCELLED &&
        2 * loop->timer_cancelled_count > PyList_Size(heap)) {
        PyObject *kept = PyList_New(0); /* may run the garbage collector, and so any code */
        if (kept == NULL || loop->scheduled != heap || !PyList_CheckExact(heap)) {
            Py_XDECREF(kept);
            return kept == NULL ? -1 : 0;
        }
        Py_ssize_t length = PyList_Size(heap);
        for (Py_ssize_t i = 0; kept != NULL && i < length; i++) {
            PyObject *timer = PyList_GetItem(heap, i);
            if (Py_TYPE(timer) != fmux_timer_type) {
                Py_DECREF(kept);
                return 0; /* some day it is the first, in a standard turn */
            }
            if (!fmux_handle(timer)->cancelled && PyList_Append(kept, timer) < 0)
                Py_CLEAR(kept);
        }
        if (kept == NULL)
            return -1;
        for (Py_ssize_t i = 0; i < length; i++) {
            fmux_handle_t *handle = fmux_handle(PyList_GetItem(heap, i));
            handle->scheduled = handle->scheduled && !handle->cancelled;
        }
        loop->scheduled = kept;
        loop->timer_cancelled_count = 0;
        int result = fmux_heap_order(kept);
        Py_DECREF(heap); /* may run destructors */
        return result;
    }
    while (PyList_Size(heap) > 0) {
        PyObject *first = PyList_GetItem(heap, 0);
        if (Py_TYPE(first) != fmux_timer_type || !fmux_handle(first)->cancelled)
            break;
        first = fmux_heap_pop(heap);
        if (first == NULL)
            return -1;
        loop->timer_cancelled_count--;
        fmux_handle(first)->scheduled = 0;
        Py_DECREF(first);
        if (loop->scheduled != heap)
            break;
    }
    return 0;
}

/* The nanoseconds that the wait of this turn may sleep; -1: for ever. */
static int64_t fmux__timeout(const fmux_loop_t *loop)
{
    if (loop->ready->count > 0 || loop->stopping)
        return 0;
    /* A destructor may have changed it: the next turn is a standard one. */
    if (!PyList_CheckExact(loop->scheduled))
        return 0;
    if (PyList_Size(loop->scheduled) == 0)
        return -1;
    PyObject *first = PyList_GetItem(loop->scheduled, 0);
    if (Py_TYPE(first) != fmux_timer_type)
        return 0;
    double left = fmux_handle(first)->when - fmux_loop_now();
    if (!(left > 0)) /* also NaN */
        return 0;
    return left >= FMUX__LONGEST_SLEEP ? (int64_t)(FMUX__LONGEST_SLEEP * 1e9)
                                       : (int64_t)ceil(left * 1e9);
}

/* Queue a handle that the wait has found, or stop watching for a cancelled one. */
static int fmux__queue(fmux_loop_t *loop, PyObject *key, PyObject *handle,
                       PyObject *remove)
{
    if (handle == NULL || handle == Py_None)
        return 0;
    int cancelled = fmux_handle_is_cancelled(handle);
    if (cancelled < 0)
        return -1;
    if (cancelled == 0)
        return fmux_ring_push(loop->ready, handle);
    return fmux_done(fmux_python.vectorcall_method(
        remove, FMUX_PASS((PyObject *)loop, PyTuple_GetItem(key, 0))));
}

/* Queue the reader and the writer of row i. */
static int fmux__queue_row(fmux_loop_t *loop, const fmux_rows_t *rows, int i)
{
    PyObject *key = loop->context == NULL
                        ? NULL /* closed meanwhile */
                        : fmux_row_key(rows, i, loop->context);
    if (key == NULL)
        return PyErr_Occurred() == NULL ? 0 : -1;
    uint32_t mask = rows->events[i];
    long asked = PyLong_AsLong(PyTuple_GetItem(key, 2));
    PyObject *handles = PyTuple_GetItem(key, 3);
    int result = 0;
    if (asked == -1 && PyErr_Occurred() != NULL) {
        result = -1;
    } else if (PyTuple_CheckExact(handles) && PyTuple_Size(handles) == 2) {
        Py_INCREF(handles);
        if ((mask & ~(uint32_t)POLLOUT) != 0 && (asked & 1) != 0)
            result = fmux__queue(loop, key, PyTuple_GetItem(handles, 0),
                                 fmux_names._remove_reader);
        if (result == 0 && (mask & ~(uint32_t)POLLIN) != 0 && (asked & 2) != 0)
            result = fmux__queue(loop, key, PyTuple_GetItem(handles, 1),
                                 fmux_names._remove_writer);
        Py_DECREF(handles);
    }
    Py_DECREF(key);
    return result;
}

/* Wait, and queue the handles of ready files. */
static int fmux__wait(fmux_loop_t *loop, int64_t timeout_ns)
{
    fmux_rows_t rows = fmux_ready_rows(loop->array);
    fmux_ready_t *array = loop->array;
    PyObject *owner = loop->array_owner; /* a signal handler may close the loop */
    Py_INCREF(owner);
    int n;
    if (timeout_ns == 0) {
        n = fmux_wait(array, 0, rows.capacity);
    } else {
        loop->sleeping = 1;
        PyThreadState *state = PyEval_SaveThread();
        n = fmux_wait(array, timeout_ns, rows.capacity);
        PyEval_RestoreThread(state);
        loop->sleeping = loop->woken = 0;
    }
    int result = 0;
    if (n == -EINTR) {
        result = PyErr_CheckSignals();
    } else if (n < 0) {
        result = fmux_done(PyObject_CallFunction(fmux_objects.fail, "i", n));
    } else if (n > 0) {
        for (int i = 0; result == 0 && i < n; i++)
            result = fmux__queue_row(loop, &rows, i);
        fmux_ready_release(array);
    }
    Py_DECREF(owner);
    return result;
}

/* Queue the timers that are due. */
static int fmux__queue_due(fmux_loop_t *loop)
{
    if (!PyList_CheckExact(loop->scheduled) || PyList_Size(loop->scheduled) == 0)
        return 0;
    double end = fmux_loop_now() + FMUX__RESOLUTION;
    while (PyList_CheckExact(loop->scheduled) && PyList_Size(loop->scheduled) > 0) {
        PyObject *first = PyList_GetItem(loop->scheduled, 0);
        if (Py_TYPE(first) != fmux_timer_type ||
            fmux_handle(first)->when >= end)
            break;
        first = fmux_heap_pop(loop->scheduled);
        if (first == NULL)
            return -1;
        fmux_handle(first)->scheduled = 0;
        int result = fmux_ring_push(loop->ready, first);
        Py_DECREF(first);
        if (result < 0)
            return -1;
    }
    return 0;
}

static int fmux__run_queued(fmux_loop_t *loop)
{
    fmux_ring_t *ring = loop->ready;
    int result = 0;
    Py_INCREF(ring); /* a callback may replace it */
    for (Py_ssize_t left = ring->count; result == 0 && left > 0; left--) {
        PyObject *handle = fmux_ring_take(ring);
        if (handle == NULL)
            break; /* a callback has cleared the queue */
        result = fmux_handle_run(handle);
        fmux_handle_leave(handle);
    }
    Py_DECREF(ring);
    return result;
}

/* Send what the transports have gathered, also if an exception ends the turn. */
static PyObject *fmux__flush(fmux_loop_t *loop, PyObject *result)
{
    PyObject *type, *value, *traceback, *list = loop->gathered;
    if (PyList_Size(list) == 0)
        return result;
    PyErr_Fetch(&type, &value, &traceback);
    while (PyList_Size(list) > 0) {
        PyObject *transport = PyList_GetItem(list, PyList_Size(list) - 1);
        Py_INCREF(transport);
        (void)PyList_SetSlice(list, PyList_Size(list) - 1, PyList_Size(list), NULL);
        if (fmux_stream_flush(transport) < 0) {
            Py_CLEAR(result);
            if (type == NULL)
                PyErr_Fetch(&type, &value, &traceback);
            else
                PyErr_Clear();
        }
        Py_DECREF(transport);
    }
    PyErr_Restore(type, value, traceback);
    return result;
}

static PyObject *fmux__turn(fmux_loop_t *loop)
{
    if (fmux__is_standard(loop))
        return fmux__flush(loop, fmux__standard_turn(loop));
    bool complete = fmux__remove_cancelled(loop) == 0 &&
                    fmux__wait(loop, fmux__timeout(loop)) == 0 &&
                    fmux__queue_due(loop) == 0 && fmux__run_queued(loop) == 0;
    return fmux__flush(loop, complete ? fmux_none() : NULL);
}

/* One turn; several for run_forever(), which would do no more in between than to look
 * at _stopping. The interpreter runs signal handlers between the calls, so a turn that
 * may sleep is the first of a call. */
PyObject *fmux_run_once(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_loop_t *loop = (fmux_loop_t *)self;
    char repeats = loop->repeats;
    int left = repeats ? FMUX__MOST_TURNS : 1;
    PyObject *result;
    loop->repeats = 0; /* if a callback calls _run_once() */
    while ((result = fmux__turn(loop)) != NULL && --left > 0 && !loop->stopping &&
           !loop->overridden && loop->ready->count > 0)
        Py_DECREF(result);
    loop->repeats = repeats;
    return result;
}
