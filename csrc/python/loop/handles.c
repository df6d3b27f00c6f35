/* handles.c - Handle and TimerHandle: subclasses of the standard ones, with C fields.
 *
 * Most handles live for one turn, so freed ones are kept for the next: making one
 * takes no allocation and no clearing.
 */
#include "loop.h"

PyTypeObject *fmux_handle_type, *fmux_timer_type;
Py_ssize_t fmux_handle_offset;
static Py_ssize_t fmux__weakrefs_offset;

enum { FMUX__KEPT = 1024 };

/* Freed handles of one type. Used with the interpreter lock only. */
typedef struct {
    PyObject *objects[FMUX__KEPT];
    int count;
} fmux_kept_t;

static fmux_kept_t fmux__kept_handles, fmux__kept_timers;

static inline fmux_kept_t *fmux__kept(PyTypeObject *type)
{
    return type == fmux_handle_type ? &fmux__kept_handles : &fmux__kept_timers;
}

PyObject *fmux_handle_new(PyTypeObject *type, PyObject *loop,
                          PyObject *callback, PyObject *const *args,
                          Py_ssize_t count, PyObject *context)
{
    fmux_kept_t *kept = fmux__kept(type);
    PyObject *object, *packed = NULL;
    if (context == NULL || context == Py_None)
        context = fmux_python.context_copy();
    else
        Py_INCREF(context);
    if (context == NULL)
        return NULL;
    if (count > FMUX_ARGS) {
        packed = PyTuple_New(count);
        for (Py_ssize_t i = 0; packed != NULL && i < count; i++) {
            Py_INCREF(args[i]);
            (void)PyTuple_SetItem(packed, i, args[i]);
        }
        if (packed == NULL) {
            Py_DECREF(context);
            return NULL;
        }
    }
    if (kept->count > 0) {
        object = PyObject_Init(kept->objects[--kept->count], type);
        memset(fmux_handle(object), 0, sizeof(fmux_handle_t));
    } else {
        object = PyType_GenericAlloc(type, 0);
        if (object == NULL) {
            Py_DECREF(context);
            Py_XDECREF(packed);
            return NULL;
        }
        PyObject_GC_UnTrack(object);
    }
    fmux_handle_t *handle = fmux_handle(object);
    Py_INCREF(callback);
    Py_INCREF(loop);
    handle->callback = callback;
    handle->loop = loop;
    handle->context = context;
    if (packed != NULL) {
        handle->args[0] = packed;
        handle->count = FMUX_ARGS_TUPLE;
    } else {
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_INCREF(args[i]);
            handle->args[i] = args[i];
        }
        handle->count = (uint8_t)count;
    }
    return object;
}

void fmux_handle_track(PyObject *object)
{
    if (fmux_is_handle(object) && !PyObject_GC_IsTracked(object))
        PyObject_GC_Track(object);
}

void fmux_handle_leave(PyObject *object)
{
    if (Py_REFCNT(object) > 1)
        fmux_handle_track(object);
    Py_DECREF(object);
}

static void fmux__drop_args(fmux_handle_t *handle)
{
    handle->count = 0;
    for (int i = 0; i < FMUX_ARGS; i++)
        Py_CLEAR(handle->args[i]);
}

/* Without the type, which is never freed: the garbage collector visits every queued
 * handle several times. */
static int fmux__traverse(PyObject *self, visitproc visit, void *arg)
{
    fmux_handle_t *handle = fmux_handle(self);
    Py_VISIT(handle->callback);
    Py_VISIT(handle->context);
    Py_VISIT(handle->loop);
    for (int i = 0; i < FMUX_ARGS; i++)
        Py_VISIT(handle->args[i]);
    Py_VISIT(handle->source_traceback);
    Py_VISIT(handle->when_object);
    return 0;
}

static int fmux__clear(PyObject *self)
{
    fmux_handle_t *handle = fmux_handle(self);
    Py_CLEAR(handle->callback);
    Py_CLEAR(handle->context);
    Py_CLEAR(handle->loop);
    fmux__drop_args(handle);
    Py_CLEAR(handle->repr);
    Py_CLEAR(handle->source_traceback);
    Py_CLEAR(handle->when_object);
    return 0;
}

static void fmux__free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    fmux_kept_t *kept = fmux__kept(type);
    fmux_handle_t *handle = fmux_handle(self);
    Py_XDECREF(handle->callback);
    Py_XDECREF(handle->context);
    Py_XDECREF(handle->loop);
    for (int i = 0; i < FMUX_ARGS; i++)
        Py_XDECREF(handle->args[i]);
    Py_XDECREF(handle->repr);
    Py_XDECREF(handle->source_traceback);
    Py_XDECREF(handle->when_object);
    if (kept->count < FMUX__KEPT)
        kept->objects[kept->count++] = self;
    else
        PyObject_GC_Del(self);
    Py_DECREF(type);
}

enum { FMUX__DEEPEST = 50 };

/* A handle may be an argument of a handle, and so on. Freeing a long chain by
 * recursion would overflow the stack: from a depth on, the outermost call does it. */
static int fmux__depth;
static PyObject *fmux__later;

static void fmux__dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    if (*(PyObject **)((char *)self + fmux__weakrefs_offset) != NULL)
        PyObject_ClearWeakRefs(self);
    if (fmux__depth == FMUX__DEEPEST) {
        fmux_handle(self)->next = fmux__later;
        fmux__later = self;
        return;
    }
    fmux__depth++;
    fmux__free(self);
    while (fmux__depth == 1 && (self = fmux__later) != NULL) {
        fmux__later = fmux_handle(self)->next;
        fmux__free(self);
    }
    fmux__depth--;
}

/* ---- running -------------------------------------------------------------------- */

bool fmux_handle_is_wrapped(void)
{
    PyObject *run = PyObject_GetAttr(fmux_objects.handle_type, fmux_names._run);
    Py_XDECREF(run);
    if (run == NULL)
        PyErr_Clear();
    return run != fmux_objects.handle_run;
}

/* The arguments as a tuple. Allocating it may run the garbage collector, and so code
 * that cancels the handle. */
static PyObject *fmux__pack_args(fmux_handle_t *handle)
{
    PyObject *held[FMUX_ARGS];
    int count = handle->count;
    if (count == FMUX_ARGS_TUPLE) {
        Py_INCREF(handle->args[0]);
        return handle->args[0];
    }
    for (int i = 0; i < count; i++) {
        held[i] = handle->args[i];
        Py_INCREF(held[i]);
    }
    PyObject *args = PyTuple_New(count);
    for (int i = 0; i < count; i++) {
        if (args != NULL)
            (void)PyTuple_SetItem(args, i, held[i]);
        else
            Py_DECREF(held[i]);
    }
    return args;
}

/* context.run(callback, *args), for a context of another class. Finding its method
 * may cancel the handle. */
static PyObject *fmux__run_in(fmux_handle_t *handle, PyObject *context)
{
    PyObject *callback = handle->callback, *result = NULL;
    Py_INCREF(callback);
    PyObject *args = fmux__pack_args(handle);
    PyObject *first = args == NULL ? NULL : PyTuple_Pack(1, callback);
    PyObject *all = first == NULL ? NULL : PySequence_Concat(first, args);
    PyObject *run = all == NULL ? NULL : PyObject_GetAttr(context, fmux_names.run);
    if (run != NULL)
        result = PyObject_CallObject(run, all);
    Py_XDECREF(run);
    Py_XDECREF(all);
    Py_XDECREF(first);
    Py_XDECREF(args);
    Py_DECREF(callback);
    return result;
}

static PyObject *fmux__call(fmux_handle_t *handle)
{
    /* The callback may cancel its handle, which drops the arguments. */
    PyObject *callback = handle->callback;
    PyObject *args[FMUX_ARGS + 1], *result;
    int count = handle->count;
    Py_INCREF(callback);
    if (count == FMUX_ARGS_TUPLE) {
        PyObject *packed = handle->args[0];
        Py_INCREF(packed);
        result = PyObject_CallObject(callback, packed);
        Py_DECREF(packed);
    } else {
        for (int i = 0; i < count; i++) {
            args[i + 1] = handle->args[i];
            Py_INCREF(args[i + 1]);
        }
        result = fmux_python.vectorcall(
            callback, args + 1, (size_t)count | FMUX_PLACE_BEFORE, NULL);
        for (int i = 0; i < count; i++)
            Py_DECREF(args[i + 1]);
    }
    Py_DECREF(callback);
    return result;
}

/* Report the exception that is set, unless it ends the program. */
static int fmux__report(PyObject *self)
{
    if (fmux_is_exit())
        return -1;
    PyObject *exception = fmux_take_exception();
    int result = fmux_done(FMUX_CALL(fmux_objects.report, self, exception));
    Py_XDECREF(exception);
    return result;
}

/* Run a handle of this module as the standard one runs itself. */
static int fmux__run(PyObject *self)
{
    fmux_handle_t *handle = fmux_handle(self);
    PyObject *context = handle->context, *result = NULL;
    if (handle->callback == NULL || context == NULL) {
        PyErr_SetString(PyExc_TypeError, "'NoneType' object is not callable");
        return fmux__report(self);
    }
    Py_INCREF(context);
    if ((PyObject *)Py_TYPE(context) != fmux_objects.context_type) {
        result = fmux__run_in(handle, context);
    } else if (fmux_python.context_enter(context) == 0) {
        result = fmux__call(handle);
        if (fmux_python.context_exit(context) < 0)
            Py_CLEAR(result);
    }
    Py_DECREF(context);
    if (result == NULL)
        return fmux__report(self);
    Py_DECREF(result);
    return 0;
}

int fmux_handle_is_cancelled(PyObject *object)
{
    if (fmux_is_handle(object))
        return fmux_handle(object)->cancelled;
    PyObject *cancelled = PyObject_GetAttr(object, fmux_names._cancelled);
    int truth = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);
    Py_XDECREF(cancelled);
    return truth;
}

int fmux_handle_run(PyObject *object)
{
    int cancelled = fmux_handle_is_cancelled(object);
    if (cancelled != 0)
        return cancelled < 0 ? -1 : 0;
    return fmux_is_handle(object) ? fmux__run(object)
                                  : fmux_done(FMUX_CALL_METHOD(_run, object));
}

/* ---- methods ---------------------------------------------------------------------- */

static PyObject *fmux__run_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (fmux_handle_is_wrapped()) {
        PyObject *run =
            PyObject_GetAttr(fmux_objects.handle_type, fmux_names._run);
        PyObject *result = run == NULL ? NULL : FMUX_CALL(run, self);
        Py_XDECREF(run);
        return result;
    }
    if (fmux__run(self) < 0)
        return NULL;
    return fmux_none();
}

/* Count a cancelled timer, as loop._timer_handle_cancelled() does. */
static int fmux__count_cancelled(PyObject *self, fmux_handle_t *handle)
{
    if (handle->loop == NULL)
        return 0;
    if (PyObject_TypeCheck(handle->loop, fmux_loop_type) &&
        !((fmux_loop_t *)handle->loop)->overridden) {
        ((fmux_loop_t *)handle->loop)->timer_cancelled_count +=
            handle->scheduled;
        return 0;
    }
    return fmux_done(FMUX_CALL_METHOD(_timer_handle_cancelled, handle->loop, self));
}

/* In debug mode, keep the text of a handle for the log. */
static int fmux__keep_repr(PyObject *self, fmux_handle_t *handle)
{
    if (handle->loop == NULL)
        return 0;
    if (PyObject_TypeCheck(handle->loop, fmux_loop_type) &&
        !((fmux_loop_t *)handle->loop)->debug)
        return 0;
    PyObject *debug = FMUX_CALL_METHOD(get_debug, handle->loop);
    int truth = debug == NULL ? -1 : PyObject_IsTrue(debug);
    Py_XDECREF(debug);
    if (truth <= 0)
        return truth;
    PyObject *text = PyObject_Repr(self);
    PyObject *old = handle->repr;
    handle->repr = text;
    Py_XDECREF(old);
    return text == NULL ? -1 : 0;
}

static PyObject *fmux__cancel(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_handle_t *handle = fmux_handle(self);
    if (handle->cancelled)
        return fmux_none();
    if (Py_TYPE(self) == fmux_timer_type &&
        fmux__count_cancelled(self, handle) < 0)
        return NULL;
    handle->cancelled = 1;
    if (fmux__keep_repr(self, handle) < 0)
        return NULL;
    PyObject *callback = handle->callback;
    handle->callback = NULL;
    fmux__drop_args(handle);
    Py_XDECREF(callback);
    return fmux_none();
}

static PyObject *fmux__cancelled(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(fmux_handle(self)->cancelled);
}

static PyObject *fmux__get_context(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *context = fmux_handle(self)->context;
    if (context == NULL)
        context = Py_None;
    Py_INCREF(context);
    return context;
}

/* ---- attributes -------------------------------------------------------------------- */

static PyObject *fmux__get_args(PyObject *self, void *unused)
{
    (void)unused;
    fmux_handle_t *handle = fmux_handle(self);
    return handle->callback == NULL ? fmux_none() : fmux__pack_args(handle);
}

static int fmux__set_args(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    fmux_handle_t *handle = fmux_handle(self);
    PyObject *args = NULL;
    if (value != NULL && value != Py_None &&
        (args = PySequence_Tuple(value)) == NULL)
        return -1;
    fmux__drop_args(handle);
    if (args != NULL) {
        PyObject *other = handle->args[0]; /* set by a destructor */
        handle->args[0] = args;
        handle->count = FMUX_ARGS_TUPLE;
        Py_XDECREF(other);
    }
    return 0;
}

static PyObject *fmux__get_when(PyObject *self, void *unused)
{
    (void)unused;
    fmux_handle_t *handle = fmux_handle(self);
    if (handle->when_object == NULL)
        return PyFloat_FromDouble(handle->when);
    Py_INCREF(handle->when_object);
    return handle->when_object;
}

static int fmux__set_when(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    fmux_handle_t *handle = fmux_handle(self);
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_when");
        return -1;
    }
    double when = PyFloat_AsDouble(value);
    if (PyErr_Occurred() != NULL)
        return -1;
    PyObject *old = handle->when_object;
    handle->when = when;
    handle->when_object = NULL;
    if (!PyFloat_CheckExact(value)) {
        Py_INCREF(value);
        handle->when_object = value;
    }
    Py_XDECREF(old);
    return 0;
}

static PyObject *fmux__when(PyObject *self, PyObject *unused)
{
    (void)unused;
    return fmux__get_when(self, NULL);
}

/* The first entry of each table is for timers only. */
static PyMethodDef fmux__methods[] = {
    {"when", fmux__when, METH_NOARGS,
     "Return the time of the call, on the loop's clock in seconds."},
    {"_run", fmux__run_method, METH_NOARGS, NULL},
    {"cancel", fmux__cancel, METH_NOARGS, "Cancel the call."},
    {"cancelled", fmux__cancelled, METH_NOARGS,
     "Return True if the call was cancelled."},
    {"get_context", fmux__get_context, METH_NOARGS,
     "Return the context in which the callback runs."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef fmux__attributes[] = {
    {"_when", fmux__get_when, fmux__set_when, NULL, NULL},
    {"_args", fmux__get_args, fmux__set_args, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* The offsets are relative until the size of the standard class is known. */
static PyMemberDef fmux__members[] = {
    FMUX_MEMBER("_scheduled", T_BOOL, 0, fmux_handle_t, scheduled),
    FMUX_MEMBER("_callback", T_OBJECT, 0, fmux_handle_t, callback),
    FMUX_MEMBER("_context", T_OBJECT, 0, fmux_handle_t, context),
    FMUX_MEMBER("_loop", T_OBJECT, 0, fmux_handle_t, loop),
    FMUX_MEMBER("_repr", T_OBJECT, 0, fmux_handle_t, repr),
    FMUX_MEMBER("_source_traceback", T_OBJECT, 0, fmux_handle_t, source_traceback),
    FMUX_MEMBER("_cancelled", T_BOOL, 0, fmux_handle_t, cancelled),
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject *fmux__make(PyObject *module, const char *name,
                                PyObject *base, int skip)
{
    PyType_Slot slots[] = {
        {Py_tp_methods, fmux__methods + skip},
        {Py_tp_getset, fmux__attributes + skip},
        {Py_tp_members, fmux__members + skip},
        {Py_tp_traverse, fmux__traverse},
        {Py_tp_clear, fmux__clear},
        {Py_tp_dealloc, fmux__dealloc},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)(fmux_handle_offset + (Py_ssize_t)sizeof(fmux_handle_t)),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    return fmux_make_type(module, &spec, base);
}

int fmux_handles_init(PyObject *module)
{
    PyObject *events = PyImport_ImportModule("asyncio.events");
    PyObject *base =
        events == NULL ? NULL : PyObject_GetAttrString(events, "TimerHandle");
    PyObject *size =
        base == NULL ? NULL : PyObject_GetAttrString(base, "__basicsize__");
    PyObject *weakrefs =
        base == NULL ? NULL : PyObject_GetAttrString(base, "__weakrefoffset__");
    Py_XDECREF(events);
    if (size != NULL && weakrefs != NULL) {
        fmux__weakrefs_offset = PyLong_AsSsize_t(weakrefs);
        /* One offset for both: the larger one. */
        fmux_handle_offset = PyLong_AsSsize_t(size);
        for (PyMemberDef *member = fmux__members; member->name != NULL; member++)
            member->offset += fmux_handle_offset;
        fmux_timer_type =
            fmux__make(module, "fastmux._loop.TimerHandle", base, 0);
        if (fmux_timer_type != NULL)
            fmux_handle_type = fmux__make(module, "fastmux._loop.Handle",
                                          fmux_objects.handle_type, 1);
    }
    Py_XDECREF(weakrefs);
    Py_XDECREF(size);
    Py_XDECREF(base);
    return fmux_handle_type == NULL ? -1 : 0;
}
