/* callbacks.c - queueing callbacks: call_soon() and its relatives, tasks and futures, and
 * the loop's clock.
 *
 * Each handles the usual case. Debug mode, a closed loop and unusual arguments go to the
 * method of the standard loop.
 */
#include "loop.h"

#include <math.h>

enum { FMUX__MOST_KEYWORDS = 4 }; /* of create_task() that C passes on */

PyObject *fmux_call_of(PyObject *class, PyObject *self, PyObject *name,
                       PyObject *const *args, Py_ssize_t count, PyObject *kwnames)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    PyObject *method = PyObject_GetAttr(class, name);
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
    *valid_out = true;
    if (kwnames == NULL || PyTuple_Size(kwnames) == 0)
        return NULL;
    PyObject *name = PyTuple_GetItem(kwnames, 0);
    *valid_out = PyTuple_Size(kwnames) == 1 &&
                 (name == fmux_names.context ||
                  PyUnicode_CompareWithASCIIString(name, "context") == 0);
    return *valid_out ? values[0] : NULL;
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
bool fmux_has_own_time(const fmux_loop_t *loop)
{
    if (loop->overridden || !fmux__is_monotonic())
        return false;
    PyObject *time =
        PyObject_GetAttr((PyObject *)Py_TYPE(loop), fmux_names.time);
    Py_XDECREF(time);
    PyErr_Clear();
    return time == fmux_objects.own_time;
}

double fmux_loop_now(void)
{
    return (double)fmux_now_ns() / 1e9;
}

PyObject *fmux_time(PyObject *self, PyObject *unused)
{
    (void)unused;
    return fmux__is_monotonic()
               ? PyFloat_FromDouble(fmux_loop_now())
               : fmux_standard(self, fmux_names.time, NULL, 0, NULL);
}

/* ---- queueing callbacks ------------------------------------------------------------ */

static int fmux__queue(fmux_loop_t *loop, PyObject *handle)
{
    if (!loop->untracked)
        fmux_handle_track(handle);
    return fmux_ring_push(loop->ready, handle);
}

PyObject *fmux_call_soon(PyObject *self, PyObject *const *args,
                         Py_ssize_t count, PyObject *kwnames)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    bool valid;
    PyObject *context = fmux_keyword_context(args + count, kwnames, &valid);
    if (loop->closed || loop->debug || !valid || count < 1)
        return fmux_standard(self, fmux_names.call_soon, args, count, kwnames);
    PyObject *handle = fmux_handle_new(fmux_handle_type, self, args[0], args + 1,
                                       count - 1, context);
    if (handle != NULL && fmux__queue(loop, handle) < 0)
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
    fmux_handle_track(timer);
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
        (later && !fmux_has_own_time(loop))) {
        loop->foreign = 1; /* a timer of the standard class, NaN perhaps */
        return fmux_standard(self, name, args, count, kwnames);
    }
    if (later)
        when += fmux_loop_now();
    return fmux__schedule(loop, when, later ? NULL : args[0], args + 1,
                          count - 1, context);
}

PyObject *fmux_call_later(PyObject *self, PyObject *const *args,
                          Py_ssize_t count, PyObject *kwnames)
{
    return fmux__call_timed(self, fmux_names.call_later, args, count, kwnames);
}

PyObject *fmux_call_at(PyObject *self, PyObject *const *args,
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
        return fmux_done(fmux_standard((PyObject *)loop,
                                       fmux_names._write_to_self, NULL, 0, NULL));
    }
    if (loop->sleeping && !loop->woken) {
        loop->woken = 1;
        (void)fmux_wakeup(loop->context->mux); /* closed: nothing sleeps */
    }
    return 0;
}

PyObject *fmux_write_to_self(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (fmux__wake((fmux_loop_t *)self) < 0)
        return NULL;
    return fmux_none();
}

PyObject *fmux_call_soon_threadsafe(PyObject *self,
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
    if (handle != NULL && (fmux__queue(loop, handle) < 0 || fmux__wake(loop) < 0))
        Py_CLEAR(handle);
    return handle;
}

/* ---- tasks and futures --------------------------------------------------------------- */

/* A new reference to a type in a module, which a program may replace. */
static PyObject *fmux__find_type(PyObject *module_dict, PyObject *name)
{
    PyObject *type = PyDict_GetItemWithError(module_dict, name);
    if (type == NULL && PyErr_Occurred() == NULL)
        PyErr_SetObject(PyExc_NameError, name);
    Py_XINCREF(type);
    return type;
}

/* type(*args, loop=self). The keywords are made once per loop. */
static PyObject *fmux__construct(PyObject *type, PyObject *args, fmux_loop_t *loop)
{
    if (loop->options == NULL && (loop->options = PyDict_New()) != NULL &&
        PyDict_SetItem(loop->options, fmux_names.loop, (PyObject *)loop) < 0)
        Py_CLEAR(loop->options);
    PyObject *options = loop->options, *result = NULL;
    if (options != NULL && args != NULL) {
        Py_INCREF(options); /* a destructor may close the loop */
        result = PyObject_Call(type, args, options);
        Py_DECREF(options);
    }
    if (loop->closed)
        Py_CLEAR(loop->options); /* no cycle remains */
    return result;
}

/* type(coroutine, loop=self, **keywords) */
static PyObject *fmux__construct_with(PyObject *type, PyObject *self,
                                      PyObject *const *args, PyObject *kwnames)
{
    PyObject *all[FMUX__MOST_KEYWORDS + 3] = {NULL, args[0], self};
    Py_ssize_t named = PyTuple_Size(kwnames);
    PyObject *names = PyTuple_New(named + 1);
    if (names == NULL)
        return NULL;
    Py_INCREF(fmux_names.loop);
    (void)PyTuple_SetItem(names, 0, fmux_names.loop);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *keyword = PyTuple_GetItem(kwnames, i);
        Py_INCREF(keyword);
        (void)PyTuple_SetItem(names, i + 1, keyword);
        all[3 + i] = args[1 + i];
    }
    PyObject *result =
        fmux_python.vectorcall(type, all + 1, 1 | FMUX_PLACE_BEFORE, names);
    Py_DECREF(names);
    return result;
}

PyObject *fmux_create_task(PyObject *self, PyObject *const *args,
                           Py_ssize_t count, PyObject *kwnames)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    bool factory =
        loop->task_factory != NULL && loop->task_factory != Py_None;
    if (factory || loop->debug || loop->closed || count != 1 ||
        named > FMUX__MOST_KEYWORDS)
        return fmux_standard(self, fmux_names.create_task, args, count, kwnames);
    PyObject *type = fmux__find_type(fmux_objects.tasks_dict, fmux_names.Task), *task;
    if (type == NULL)
        return NULL;
    /* asyncio.create_task() passes name=None, which is the default. */
    if (named == 0 ||
        (named == 1 && args[1] == Py_None && type == fmux_objects.task_type &&
         PyTuple_GetItem(kwnames, 0) == fmux_names.name)) {
        PyObject *only = PyTuple_Pack(1, args[0]);
        task = fmux__construct(type, only, loop);
        Py_XDECREF(only);
    } else {
        task = fmux__construct_with(type, self, args, kwnames);
    }
    Py_DECREF(type);
    return task;
}

PyObject *fmux_create_future(PyObject *self, PyObject *unused)
{
    (void)unused;
    static PyObject *no_args;
    PyObject *type = fmux__find_type(fmux_objects.futures_dict, fmux_names.Future);
    if (type == NULL || (no_args == NULL && (no_args = PyTuple_New(0)) == NULL)) {
        Py_XDECREF(type);
        return NULL;
    }
    PyObject *future = fmux__construct(type, no_args, (fmux_loop_t *)self);
    Py_DECREF(type);
    return future;
}
