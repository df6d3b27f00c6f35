/* core.c - the type LoopCore: the state of a loop, which hides that of the standard
 * loop, and its life.
 */
#include "loop.h"

PyTypeObject *fmux_loop_type;

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
    PyObject *ring;
    if (value != NULL && PyObject_TypeCheck(value, fmux_ring_type)) {
        Py_INCREF(value);
        ring = value;
    } else {
        ring = PyObject_CallNoArgs(fmux_objects.queue);
        if (ring == NULL)
            return -1;
        if (fmux_done(FMUX_CALL_METHOD(extend, ring, value == NULL ? Py_None : value)) < 0) {
            Py_DECREF(ring);
            return -1;
        }
    }
    PyObject *old = (PyObject *)loop->ready;
    loop->ready = (fmux_ring_t *)ring;
    fmux_ring_track((fmux_ring_t *)old); /* the program may keep it */
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
        opened = FMUX_CALL(fmux_objects.open_array, value);
        if (opened == NULL)
            return -1;
    }
    fmux__drop_array(loop);
    Py_CLEAR(loop->options); /* a cycle: the loop is perhaps being closed */
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

/* Every future asks for it. */
static PyObject *fmux__get_debug(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((fmux_loop_t *)self)->debug);
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

/* _repeats = value, at the start and the end of run_forever(). */
static int fmux__set_repeats(PyObject *self, PyObject *value, void *offset)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    if (fmux__set_flag(self, value, offset) < 0)
        return -1;
    loop->untracked = loop->repeats;
    if (!loop->untracked)
        fmux_ring_track(loop->ready);
    return 0;
}

/* Methods that the standard turn would call on the loop. If a program replaces one,
 * the standard turn runs. (A name is compared only when an attribute is set.) */
static const char *const fmux__turn_methods[] = {
    "__class__",
    "_run_once",
    "time",
    "_process_events",
    "_add_callback",
};

static int fmux__setattr(PyObject *self, PyObject *name, PyObject *value)
{
    for (size_t i = 0; i < 5; i++) {
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
    if (loop->ready == NULL || loop->scheduled == NULL || loop->gathered == NULL) {
        loop->closed = 1; /* for __del__ */
        Py_CLEAR(self);
    }
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
    Py_VISIT(loop->array_context);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->options);
    Py_VISIT(loop->gathered);
    return 0;
}

/* Keeps the queue and the heap, which every method uses. */
static int fmux__clear(PyObject *self)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    if (fmux_done(FMUX_CALL_METHOD(clear, (PyObject *)loop->ready)) < 0)
        PyErr_Clear();
    if (PyList_CheckExact(loop->scheduled))
        (void)PyList_SetSlice(loop->scheduled, 0, PyList_Size(loop->scheduled),
                              NULL);
    Py_CLEAR(loop->task_factory);
    Py_CLEAR(loop->options);
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
    Py_CLEAR(loop->options);
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
    {"_repeats", fmux__get_flag, fmux__set_repeats, NULL,
     (void *)offsetof(fmux_loop_t, repeats)},
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
    FMUX_METHOD("call_soon", fmux_call_soon, FMUX__FAST,
                "Call callback(*args) in the next turn, in this context or a copy "
                "of the current one."),
    FMUX_METHOD("call_soon_threadsafe", fmux_call_soon_threadsafe, FMUX__FAST,
                "call_soon() for other threads and signal handlers."),
    FMUX_METHOD("call_later", fmux_call_later, FMUX__FAST,
                "Call callback(*args) after delay seconds."),
    FMUX_METHOD("call_at", fmux_call_at, FMUX__FAST,
                "Call callback(*args) when time() is when, in seconds."),
    FMUX_METHOD("create_task", fmux_create_task, FMUX__FAST,
                "Return a new task that runs a coroutine."),
    FMUX_METHOD("create_future", fmux_create_future, METH_NOARGS,
                "Return a new future of this loop."),
    FMUX_METHOD("time", fmux_time, METH_NOARGS,
                "Return the time of the loop's clock, in seconds."),
    FMUX_METHOD("get_debug", fmux__get_debug, METH_NOARGS,
                "Return whether debug mode is on."),
    FMUX_METHOD("_add_reader", fmux_add_reader, FMUX__FAST, NULL),
    FMUX_METHOD("_add_writer", fmux_add_writer, FMUX__FAST, NULL),
    FMUX_METHOD("_remove_reader", fmux_remove_reader, METH_O, NULL),
    FMUX_METHOD("_remove_writer", fmux_remove_writer, METH_O, NULL),
    FMUX_METHOD("_readable", fmux_readable, METH_O,
                "Return an awaitable that waits until a descriptor is readable."),
    FMUX_METHOD("_writable", fmux_writable, METH_O, "The same for writing."),
    FMUX_METHOD("_write_to_self", fmux_write_to_self, METH_NOARGS, NULL),
    FMUX_METHOD("_run_once", fmux_run_once, METH_NOARGS, NULL),
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

int fmux_core_init(PyObject *module)
{
    fmux_loop_type = fmux_make_type(module, &fmux__spec, NULL);
    if (fmux_loop_type != NULL)
        fmux_objects.own_time =
            PyObject_GetAttr((PyObject *)fmux_loop_type, fmux_names.time);
    return fmux_objects.own_time == NULL ? -1 : 0;
}
