/* ring.c - the queue of callbacks, with the methods of collections.deque that asyncio
 * calls on loop._ready. core.py adds the others.
 */
#include "loop.h"

PyTypeObject *fmux_ring_type;

static inline PyObject **fmux__place(fmux_ring_t *ring, Py_ssize_t index)
{
    return &ring->items[(ring->head + index) & (ring->size - 1)];
}

/* Double the memory. */
static int fmux__grow(fmux_ring_t *ring)
{
    Py_ssize_t size = ring->size == 0 ? 64 : 2 * ring->size;
    PyObject **items = PyMem_Malloc((size_t)size * sizeof *items);
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < ring->count; i++)
        items[i] = *fmux__place(ring, i);
    PyMem_Free(ring->items);
    ring->items = items;
    ring->size = size;
    ring->head = 0;
    return 0;
}

int fmux_ring_push(fmux_ring_t *ring, PyObject *item)
{
    if (ring->count == ring->size && fmux__grow(ring) < 0)
        return -1;
    Py_INCREF(item);
    *fmux__place(ring, ring->count++) = item;
    return 0;
}

PyObject *fmux_ring_take(fmux_ring_t *ring)
{
    if (ring->count == 0)
        return NULL;
    PyObject *item = *fmux__place(ring, 0);
    ring->head = (ring->head + 1) & (ring->size - 1);
    ring->count--;
    return item;
}

void fmux_ring_track(fmux_ring_t *ring)
{
    for (Py_ssize_t i = 0; i < ring->count; i++)
        fmux_handle_track(*fmux__place(ring, i));
}

/* ---- methods --------------------------------------------------------------------- */

static PyObject *fmux__append(PyObject *self, PyObject *item)
{
    if (fmux_ring_push((fmux_ring_t *)self, item) < 0)
        return NULL;
    return fmux_none();
}

static PyObject *fmux__extend(PyObject *self, PyObject *iterable)
{
    PyObject *list = PySequence_List(iterable); /* it may be this ring */
    int result = list == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_Size(list); i++)
        result = fmux_ring_push((fmux_ring_t *)self, PyList_GetItem(list, i));
    Py_XDECREF(list);
    return result < 0 ? NULL : fmux_none();
}

static PyObject *fmux__popleft(PyObject *self, PyObject *unused)
{
    (void)unused;
    PyObject *item = fmux_ring_take((fmux_ring_t *)self);
    if (item == NULL)
        PyErr_SetString(PyExc_IndexError, "pop from an empty deque");
    else
        fmux_handle_track(item);
    return item;
}

static int fmux__clear(PyObject *self)
{
    PyObject *item;
    /* A destructor may add callbacks. */
    for (Py_ssize_t left = ((fmux_ring_t *)self)->count;
         left > 0 && (item = fmux_ring_take((fmux_ring_t *)self)) != NULL; left--)
        fmux_handle_leave(item);
    return 0;
}

static PyObject *fmux__clear_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    (void)fmux__clear(self);
    return fmux_none();
}

/* _replace(count, items): put a list in place of the first count items, in one step:
 * signal handlers and other threads may add callbacks at any other moment. */
static PyObject *fmux__replace(PyObject *self, PyObject *args)
{
    Py_ssize_t count, i;
    PyObject *list;
    if (!PyArg_ParseTuple(args, "nO!", &count, &PyList_Type, &list))
        return NULL;
    fmux_ring_t *ring = (fmux_ring_t *)self;
    fmux_ring_t *other = (fmux_ring_t *)PyType_GenericAlloc(fmux_ring_type, 0);
    int result = other == NULL ? -1 : 0;
    for (i = 0; result == 0 && i < PyList_Size(list); i++)
        result = fmux_ring_push(other, PyList_GetItem(list, i));
    for (i = count; result == 0 && i < ring->count; i++)
        result = fmux_ring_push(other, *fmux__place(ring, i));
    if (result == 0) {
        fmux_ring_t old = *ring;
        ring->items = other->items;
        ring->size = other->size;
        ring->head = other->head;
        ring->count = other->count;
        other->items = old.items;
        other->size = old.size;
        other->head = old.head;
        other->count = old.count;
    }
    Py_XDECREF(other);
    return result < 0 ? NULL : fmux_none();
}

static Py_ssize_t fmux__length(PyObject *self)
{
    return ((fmux_ring_t *)self)->count;
}

static PyObject *fmux__item(PyObject *self, Py_ssize_t index)
{
    fmux_ring_t *ring = (fmux_ring_t *)self;
    if (index < 0 || index >= ring->count) {
        PyErr_SetString(PyExc_IndexError, "deque index out of range");
        return NULL;
    }
    PyObject *item = *fmux__place(ring, index);
    Py_INCREF(item);
    return item;
}

static int fmux__traverse(PyObject *self, visitproc visit, void *arg)
{
    fmux_ring_t *ring = (fmux_ring_t *)self;
    for (Py_ssize_t i = 0; i < ring->count; i++)
        Py_VISIT(*fmux__place(ring, i));
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void fmux__dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)fmux__clear(self);
    PyMem_Free(((fmux_ring_t *)self)->items);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef fmux__methods[] = {
    {"append", fmux__append, METH_O, NULL},
    {"clear", fmux__clear_method, METH_NOARGS, NULL},
    {"extend", fmux__extend, METH_O, NULL},
    {"popleft", fmux__popleft, METH_NOARGS, NULL},
    {"_replace", fmux__replace, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot fmux__slots[] = {
    {Py_tp_doc, "The queue of callbacks."},
    {Py_tp_methods, fmux__methods},
    {Py_tp_traverse, fmux__traverse},
    {Py_tp_clear, fmux__clear},
    {Py_tp_dealloc, fmux__dealloc},
    {Py_sq_length, fmux__length},
    {Py_sq_item, fmux__item},
    {0, NULL},
};

static PyType_Spec fmux__spec = {
    .name = "fastmux._loop.Ring",
    .basicsize = sizeof(fmux_ring_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = fmux__slots,
};

int fmux_ring_init(PyObject *module)
{
    fmux_ring_type = fmux_make_type(module, &fmux__spec, NULL);
    return fmux_ring_type == NULL ? -1 : 0;
}
