/* turn.c - the loop's own state, its clock, and its turn.
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

PyTypeObject *fmux_loop_type;

enum {
    FMUX__MOST_CANCELLED = 100, /* timers, as in the standard loop */
    FMUX__LOOK_EVERY = 16       /* turns: whether handles are wrapped */
};

/* The longest sleep, as of the standard loop. */
#define FMUX__LONGEST_SLEEP (24.0 * 3600)
/* The resolution of the clock, which the standard loop adds to the time. */
#define FMUX__RESOLUTION 1e-9

PyObject *fmux_standard(PyObject *self, PyObject *name, PyObject *const *args,
                        Py_ssize_t count, PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    PyObject *method = PyObject_GetAttr(fmux_objects.standard, name);
    PyObject **all = PyMem_Malloc((size_t)(count + named + 1) * sizeof *all);
    PyObject *result = NULL;
    if (all == NULL)
        PyErr_NoMemory();
    if (all != NULL && method != NULL) {
        all[0] = self;
        for (Py_ssize_t i = 0; i < count + named; i++)
            all[i + 1] = args[i];
        result = fmux_python.vectorcall(method, all, (size_t)count + 1, kwnames);
    }
    PyMem_Free(all);
    Py_XDECREF(method);
    return result;
}

PyObject *fmux_keyword_context(PyObject *const *values, PyObject *kwnames,
                               bool *valid_out)
{
    Py_ssize_t count = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    *valid_out = count == 0 ||
                 (count == 1 && PyUnicode_CompareWithASCIIString(
                                    PyTuple_GetItem(kwnames, 0), "context") == 0);
    return count == 1 && *valid_out ? values[0] : NULL;
}

/* ---- time ------------------------------------------------------------------------ */

/* Whether time.monotonic is what it was at the import: fake clocks replace it. */
static bool fmux__is_monotonic(void)
{
    return PyDict_GetItemWithError(fmux_objects.time_dict,
                                   fmux_names.monotonic) ==
           fmux_objects.monotonic;
}

/* Whether the loop's time is that of the monotonic clock. */
static bool fmux__has_own_time(const fmux_loop_t *loop)
{
    if (loop->overridden || !fmux__is_monotonic())
        return false;
    PyObject *time =
        PyObject_GetAttr((PyObject *)Py_TYPE(loop), fmux_names.time);
    Py_XDECREF(time);
    PyErr_Clear();
    return time == fmux_objects.own_time;
}

static double fmux__now(void)
{
    return (double)fmux_now_ns() / 1e9;
}

static PyObject *fmux__time(PyObject *self, PyObject *unused)
{
    (void)unused;
    return fmux__is_monotonic()
               ? PyFloat_FromDouble(fmux__now())
               : fmux_standard(self, fmux_names.time, NULL, 0, NULL);
}

/* ---- queueing callbacks ------------------------------------------------------------ */

static PyObject *fmux__call_soon(PyObject *self, PyObject *const *args,
                                 Py_ssize_t count, PyObject *kwnames)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    bool valid;
    PyObject *context = fmux_keyword_context(args + count, kwnames, &valid);
    if (loop->closed || loop->debug || !valid || count < 1)
        return fmux_standard(self, fmux_names.call_soon, args, count, kwnames);
    PyObject *handle = fmux_handle_new(fmux_handle_type, self, args[0], args + 1,
                                       count - 1, context);
    if (handle != NULL && fmux_ring_push(loop->ready, handle) < 0)
        Py_CLEAR(handle);
    return handle;
}

static PyObject *fmux__schedule(fmux_loop_t *loop, double when,
                                PyObject *when_object, PyObject *const *args,
                                Py_ssize_t count, PyObject *context)
{
    PyObject *timer = fmux_handle_new(fmux_timer_type, (PyObject *)loop, args[0],
                                      args + 1, count - 1, context);
    if (timer == NULL)
        return NULL;
    fmux_handle_t *handle = fmux_handle(timer);
    handle->when = when;
    if (when_object != NULL && !PyFloat_CheckExact(when_object)) {
        Py_INCREF(when_object);
        handle->when_object = when_object;
    }
    if (fmux_heap_push(loop->scheduled, timer) < 0)
        Py_CLEAR(timer);
    else
        handle->scheduled = 1;
    return timer;
}

/* Whether number is exactly a float or an int; *out is its value. */
static bool fmux__plain_number(PyObject *number, double *out)
{
    if (!PyFloat_CheckExact(number) && !PyLong_CheckExact(number))
        return false;
    *out = PyFloat_AsDouble(number);
    if (*out != -1.0 || PyErr_Occurred() == NULL)
        return true;
    PyErr_Clear(); /* too large */
    return false;
}

static PyObject *fmux__call_timed(PyObject *self, PyObject *name,
                                  PyObject *const *args, Py_ssize_t count,
                                  PyObject *kwnames)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    bool later = name == fmux_names.call_later, valid;
    double when = 0.0;
    PyObject *context = fmux_keyword_context(args + count, kwnames, &valid);
    if (loop->closed || loop->debug || !valid || count < 2 ||
        !PyList_CheckExact(loop->scheduled) ||
        !fmux__plain_number(args[0], &when) || isnan(when) ||
        (later && !fmux__has_own_time(loop))) {
        loop->foreign = 1; /* a timer of the standard class, NaN perhaps */
        return fmux_standard(self, name, args, count, kwnames);
    }
    if (later)
        when += fmux__now();
    return fmux__schedule(loop, when, later ? NULL : args[0], args + 1,
                          count - 1, context);
}

static PyObject *fmux__call_later(PyObject *self, PyObject *const *args,
                                  Py_ssize_t count, PyObject *kwnames)
{
    return fmux__call_timed(self, fmux_names.call_later, args, count, kwnames);
}

static PyObject *fmux__call_at(PyObject *self, PyObject *const *args,
                               Py_ssize_t count, PyObject *kwnames)
{
    return fmux__call_timed(self, fmux_names.call_at, args, count, kwnames);
}

/* End the sleep of the loop's thread, if it sleeps: it checks the queue before, and
 * that check, this one and all changes of the queue happen with the interpreter
 * lock. Several callbacks need one wake-up. */
static int fmux__wake(fmux_loop_t *loop)
{
    if (loop->standard || loop->array == NULL) {
        PyObject *none = fmux_standard((PyObject *)loop,
                                       fmux_names._write_to_self, NULL, 0, NULL);
        Py_XDECREF(none);
        return none == NULL ? -1 : 0;
    }
    if (loop->sleeping && !loop->woken) {
        loop->woken = 1;
        (void)fmux_wakeup(loop->context->mux); /* closed: nothing sleeps */
    }
    return 0;
}

static PyObject *fmux__write_to_self(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (fmux__wake((fmux_loop_t *)self) < 0)
        return NULL;
    return fmux_none();
}

static PyObject *fmux__call_soon_threadsafe(PyObject *self,
                                            PyObject *const *args,
                                            Py_ssize_t count, PyObject *kwnames)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    bool valid;
    PyObject *context = fmux_keyword_context(args + count, kwnames, &valid);
    if (loop->closed || loop->debug || !valid || count < 1) {
        return fmux_standard(self, fmux_names.call_soon_threadsafe, args, count,
                             kwnames);
    }
    PyObject *handle = fmux_handle_new(fmux_handle_type, self, args[0], args + 1,
                                       count - 1, context);
    if (handle != NULL && (fmux_ring_push(loop->ready, handle) < 0 ||
                           fmux__wake(loop) < 0))
        Py_CLEAR(handle);
    return handle;
}

/* ---- tasks and futures --------------------------------------------------------------- */

/* type(*args, loop=self, **keywords), for a type in a module. */
static PyObject *fmux__construct(PyObject *module_dict, PyObject *name,
                                 PyObject *self, PyObject *const *args,
                                 Py_ssize_t count, PyObject *kwnames)
{
    enum { MOST = 8 };
    PyObject *all[MOST + 2] = {NULL};
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    PyObject *type = PyDict_GetItemWithError(module_dict, name);
    if (type == NULL || count + named > MOST) {
        if (PyErr_Occurred() == NULL)
            PyErr_SetString(PyExc_TypeError, "unexpected arguments");
        return NULL;
    }
    PyObject *names = PyTuple_New(named + 1);
    if (names == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        all[i + 1] = args[i];
    all[count + 1] = self;
    PyObject *loop_name = PyUnicode_InternFromString("loop");
    (void)PyTuple_SetItem(names, 0, loop_name);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *keyword = PyTuple_GetItem(kwnames, i);
        Py_INCREF(keyword);
        (void)PyTuple_SetItem(names, i + 1, keyword);
        all[count + 2 + i] = args[count + i];
    }
    Py_INCREF(type);
    PyObject *result =
        loop_name == NULL
            ? NULL
            : fmux_python.vectorcall(type, all + 1,
                                     (size_t)count | FMUX_PLACE_BEFORE, names);
    Py_DECREF(type);
    Py_DECREF(names);
    return result;
}

static PyObject *fmux__create_task(PyObject *self, PyObject *const *args,
                                   Py_ssize_t count, PyObject *kwnames)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    bool factory =
        loop->task_factory != NULL && loop->task_factory != Py_None;
    if (factory || loop->debug || loop->closed || count != 1 ||
        (kwnames != NULL && PyTuple_Size(kwnames) > 4))
        return fmux_standard(self, fmux_names.create_task, args, count, kwnames);
    return fmux__construct(fmux_objects.tasks_dict, fmux_names.Task, self, args,
                           count, kwnames);
}

static PyObject *fmux__create_future(PyObject *self, PyObject *unused)
{
    (void)unused;
    return fmux__construct(fmux_objects.futures_dict, fmux_names.Future, self,
                           NULL, 0, NULL);
}

/* ---- the turn ---------------------------------------------------------------------------- */

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
           isnan(fmux_handle(first)->when) || !fmux__has_own_time(loop);
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
        PyObject *kept = PyList_New(0); /* may run the garbage collector */
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
    double left = fmux_handle(first)->when - fmux__now();
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
    if (fmux_is_handle(handle) && !fmux_handle(handle)->cancelled)
        return fmux_ring_push(loop->ready, handle);
    PyObject *cancelled = PyObject_GetAttr(handle, fmux_names._cancelled);
    int truth = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    if (truth < 0)
        return -1;
    if (truth == 0)
        return fmux_ring_push(loop->ready, handle);
    PyObject *args[] = {NULL, (PyObject *)loop, PyTuple_GetItem(key, 0)};
    PyObject *result = fmux_call_method(remove, args + 1, 2);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
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
        PyObject *none = PyObject_CallFunction(fmux_objects.fail, "i", n);
        Py_XDECREF(none);
        result = none == NULL ? -1 : 0;
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
    double end = fmux__now() + FMUX__RESOLUTION;
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
        Py_DECREF(handle);
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

static PyObject *fmux__run_once(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_loop_t *loop = (fmux_loop_t *)self;
    if (fmux__is_standard(loop))
        return fmux__flush(loop, fmux__standard_turn(loop));
    bool complete = fmux__remove_cancelled(loop) == 0 &&
                    fmux__wait(loop, fmux__timeout(loop)) == 0 &&
                    fmux__queue_due(loop) == 0 && fmux__run_queued(loop) == 0;
    return fmux__flush(loop, complete ? fmux_none() : NULL);
}

/* ---- attributes ------------------------------------------------------------------------------ */

static PyObject *fmux__get_ready(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *ready = (PyObject *)((fmux_loop_t *)self)->ready;
    Py_INCREF(ready);
    return ready;
}

/* loop._ready = deque: another queue with the same items. */
static int fmux__set_ready(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    fmux_loop_t *loop = (fmux_loop_t *)self;
    PyObject *ring, *none;
    if (value != NULL && PyObject_TypeCheck(value, fmux_ring_type)) {
        Py_INCREF(value);
        ring = value;
    } else {
        ring = PyObject_CallNoArgs(fmux_objects.queue);
        if (ring == NULL)
            return -1;
        none = PyObject_CallMethod(ring, "extend", "O",
                                   value == NULL ? Py_None : value);
        if (none == NULL) {
            Py_DECREF(ring);
            return -1;
        }
        Py_DECREF(none);
    }
    PyObject *old = (PyObject *)loop->ready;
    loop->ready = (fmux_ring_t *)ring;
    Py_DECREF(old);
    return 0;
}

static PyObject *fmux__get_scheduled(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *scheduled = ((fmux_loop_t *)self)->scheduled;
    Py_INCREF(scheduled);
    return scheduled;
}

static int fmux__set_scheduled(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    fmux_loop_t *loop = (fmux_loop_t *)self;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_scheduled");
        return -1;
    }
    PyObject *old = loop->scheduled;
    Py_INCREF(value);
    loop->scheduled = value;
    Py_DECREF(old);
    return 0;
}

static PyObject *fmux__get_selector(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *selector = ((fmux_loop_t *)self)->selector;
    if (selector == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_selector");
        return NULL;
    }
    Py_INCREF(selector);
    return selector;
}

static void fmux__drop_array(fmux_loop_t *loop)
{
    loop->array = NULL;
    loop->context = NULL;
    Py_CLEAR(loop->selector_dict);
    Py_CLEAR(loop->array_context);
    Py_CLEAR(loop->array_owner);
}

/* Waits use the mux of a fastmux.selectors.EpollSelector. */
static int fmux__set_selector(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    fmux_loop_t *loop = (fmux_loop_t *)self;
    PyObject *opened = NULL, *old = loop->selector;
    if (value != NULL && value != Py_None) {
        PyObject *args[] = {NULL, value};
        opened = fmux_python.vectorcall(fmux_objects.open_array, args + 1,
                                        1 | FMUX_PLACE_BEFORE, NULL);
        if (opened == NULL)
            return -1;
    }
    fmux__drop_array(loop);
    Py_XINCREF(value);
    loop->selector = value;
    Py_XDECREF(old);
    int result = 0;
    if (opened != NULL && opened != Py_None) {
        unsigned long long address;
        PyObject *owner, *context, *dict;
        if (PyArg_ParseTuple(opened, "KOOO", &address, &owner, &context, &dict)) {
            loop->array = (fmux_ready_t *)(uintptr_t)address;
            loop->context = fmux_ready_rows(loop->array).context;
            Py_INCREF(owner);
            loop->array_owner = owner;
            Py_INCREF(context);
            loop->array_context = context;
            Py_INCREF(dict);
            loop->selector_dict = dict;
        } else {
            result = -1;
        }
    }
    Py_XDECREF(opened);
    return result;
}

/* Whether turns are those of this file, unless something is replaced. */
static PyObject *fmux__uses_core(PyObject *self, void *unused)
{
    (void)unused;
    fmux_loop_t *loop = (fmux_loop_t *)self;
    return PyBool_FromLong(loop->array != NULL && !loop->overridden);
}

static PyObject *fmux__get_flag(PyObject *self, void *offset)
{
    return PyBool_FromLong(*((char *)self + (uintptr_t)offset));
}

/* As in an attribute of Python, any object may be assigned. */
static int fmux__set_flag(PyObject *self, PyObject *value, void *offset)
{
    int truth = value == NULL ? 0 : PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    *((char *)self + (uintptr_t)offset) = (char)truth;
    return 0;
}

/* Methods that the standard turn would call on the loop. If a program replaces one,
 * the standard turn runs. (A name is compared only when an attribute is set.) */
static const char *const fmux__turn_methods[] = {
    "__class__",
    "time",
    "_process_events",
    "_add_callback",
};

static int fmux__setattr(PyObject *self, PyObject *name, PyObject *value)
{
    for (size_t i = 0; i < 4; i++) {
        if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(
                                         name, fmux__turn_methods[i]) == 0)
            ((fmux_loop_t *)self)->overridden = 1;
    }
    return PyObject_GenericSetAttr(self, name, value);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static PyObject *fmux__new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args;
    (void)keywords;
    PyObject *self = PyType_GenericAlloc(type, 0);
    if (self == NULL)
        return NULL;
    fmux_loop_t *loop = (fmux_loop_t *)self;
    loop->ready = (fmux_ring_t *)PyObject_CallNoArgs(fmux_objects.queue);
    loop->scheduled = PyList_New(0);
    loop->gathered = PyList_New(0);
    if (loop->ready == NULL || loop->scheduled == NULL || loop->gathered == NULL)
        Py_CLEAR(self);
    return self;
}

static int fmux__traverse(PyObject *self, visitproc visit, void *arg)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(loop->ready);
    Py_VISIT(loop->scheduled);
    Py_VISIT(loop->selector);
    Py_VISIT(loop->selector_dict);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->gathered);
    return 0;
}

/* Keeps the queue and the heap, which every method uses. */
static int fmux__clear(PyObject *self)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    PyObject *none = PyObject_CallMethod((PyObject *)loop->ready, "clear", NULL);
    if (none == NULL)
        PyErr_Clear();
    Py_XDECREF(none);
    if (PyList_CheckExact(loop->scheduled))
        (void)PyList_SetSlice(loop->scheduled, 0, PyList_Size(loop->scheduled),
                              NULL);
    Py_CLEAR(loop->task_factory);
    (void)PyList_SetSlice(loop->gathered, 0, PyList_Size(loop->gathered), NULL);
    Py_CLEAR(loop->selector);
    fmux__drop_array(loop);
    return 0;
}

static void fmux__dealloc(PyObject *self)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(loop->ready);
    Py_CLEAR(loop->scheduled);
    Py_CLEAR(loop->gathered);
    Py_CLEAR(loop->selector);
    Py_CLEAR(loop->task_factory);
    fmux__drop_array(loop);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

#define FMUX__FLAG(name, field)                     \
    {                                               \
        name, fmux__get_flag, fmux__set_flag, NULL, \
        (void *)offsetof(fmux_loop_t, field)}

static PyGetSetDef fmux__attributes[] = {
    {"_ready", fmux__get_ready, fmux__set_ready, NULL, NULL},
    {"_scheduled", fmux__get_scheduled, fmux__set_scheduled, NULL, NULL},
    {"_selector", fmux__get_selector, fmux__set_selector, NULL, NULL},
    FMUX__FLAG("_stopping", stopping),
    FMUX__FLAG("_debug", debug),
    FMUX__FLAG("_closed", closed),
    FMUX__FLAG("_overridden", overridden),
    FMUX__FLAG("_gathers", gathers),
    {"_uses_core", fmux__uses_core, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef fmux__members[] = {
    FMUX_MEMBER("_task_factory", T_OBJECT, 0, fmux_loop_t, task_factory),
    FMUX_MEMBER("_timer_cancelled_count", T_PYSSIZET, 0, fmux_loop_t,
                timer_cancelled_count),
    {NULL, 0, 0, 0, NULL},
};

#define FMUX__FAST (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef fmux__methods[] = {
    FMUX_METHOD("call_soon", fmux__call_soon, FMUX__FAST,
                "Call callback(*args) in the next turn, in this context or a copy "
                "of the current one."),
    FMUX_METHOD("call_soon_threadsafe", fmux__call_soon_threadsafe, FMUX__FAST,
                "call_soon() for other threads and signal handlers."),
    FMUX_METHOD("call_later", fmux__call_later, FMUX__FAST,
                "Call callback(*args) after delay seconds."),
    FMUX_METHOD("call_at", fmux__call_at, FMUX__FAST,
                "Call callback(*args) when time() is when, in seconds."),
    FMUX_METHOD("create_task", fmux__create_task, FMUX__FAST,
                "Return a new task that runs a coroutine."),
    FMUX_METHOD("create_future", fmux__create_future, METH_NOARGS,
                "Return a new future of this loop."),
    FMUX_METHOD("time", fmux__time, METH_NOARGS,
                "Return the time of the loop's clock, in seconds."),
    FMUX_METHOD("_add_reader", fmux_add_reader, FMUX__FAST, NULL),
    FMUX_METHOD("_add_writer", fmux_add_writer, FMUX__FAST, NULL),
    FMUX_METHOD("_remove_reader", fmux_remove_reader, METH_O, NULL),
    FMUX_METHOD("_remove_writer", fmux_remove_writer, METH_O, NULL),
    FMUX_METHOD("_write_to_self", fmux__write_to_self, METH_NOARGS, NULL),
    FMUX_METHOD("_run_once", fmux__run_once, METH_NOARGS, NULL),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot fmux__slots[] = {
    {Py_tp_doc, "The state of an event loop, in front of the standard one."},
    {Py_tp_new, fmux__new},
    {Py_tp_methods, fmux__methods},
    {Py_tp_getset, fmux__attributes},
    {Py_tp_members, fmux__members},
    {Py_tp_setattro, fmux__setattr},
    {Py_tp_traverse, fmux__traverse},
    {Py_tp_clear, fmux__clear},
    {Py_tp_dealloc, fmux__dealloc},
    {0, NULL},
};

static PyType_Spec fmux__spec = {
    .name = "fastmux._loop.LoopCore",
    .basicsize = sizeof(fmux_loop_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = fmux__slots,
};

int fmux_turn_init(PyObject *module)
{
    fmux_loop_type = fmux_make_type(module, &fmux__spec, NULL);
    if (fmux_loop_type != NULL)
        fmux_objects.own_time =
            PyObject_GetAttr((PyObject *)fmux_loop_type, fmux_names.time);
    return fmux_objects.own_time == NULL ? -1 : 0;
}
