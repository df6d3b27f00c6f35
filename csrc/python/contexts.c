/* contexts.c - the object that a Poller or a selector shares with C: its mux, its
 * registrations and its ready arrays.
 *
 * A wait takes an array that no other wait uses. Usually there is one array, made by
 * the first wait. Several threads, or a signal handler that waits while it interrupts
 * a wait, have one each. In a child of a fork, the arrays of other threads' waits stay
 * busy until the context is freed.
 */
#include "interpreter.h"

#include <limits.h>
#include <stdlib.h>

/* ---- arrays ---------------------------------------------------------------- */

static void fmux__free_array(fmux_array_t *array)
{
    fmux_ready_free(array->ready);
    free(array);
}

/* Free the arrays that no wait uses. */
static void fmux__free_arrays(fmux_context_t *context)
{
    fmux_array_t **link = &context->arrays;
    while (*link != NULL) {
        fmux_array_t *array = *link;
        if (array->busy) {
            link = &array->next;
        } else {
            *link = array->next;
            fmux__free_array(array);
        }
    }
}

static fmux_array_t *fmux__make_array(fmux_context_t *context, int *error_out)
{
    int rows = context->rows, bytes = fmux_ready_bytes(rows);
    fmux_array_t *array =
        bytes < 0 ? NULL : malloc(sizeof *array + (size_t)bytes);
    if (array == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *error_out = fmux_ready_open(context->mux, array->memory, bytes, rows, 1,
                                 &array->ready);
    if (*error_out < 0) {
        free(array);
        return NULL;
    }
    array->rows = rows;
    array->busy = 1;
    array->next = context->arrays;
    context->arrays = array;
    return array;
}

fmux_array_t *fmux_take_array(fmux_context_t *context, int *error_out)
{
    Py_ssize_t length = PyDict_Size(context->keys);
    if (length >= context->rows) { /* one more for a wake-up */
        length += length / 8;
        context->rows = length > context->capacity ? context->capacity : (int)length;
    }
    fmux_array_t *array = context->arrays;
    if (array == NULL || array->busy || array->rows != context->rows) {
        while (array != NULL && (array->busy || array->rows != context->rows))
            array = array->next;
        if (array == NULL) {
            fmux__free_arrays(context); /* they have another size */
            return fmux__make_array(context, error_out);
        }
    }
    array->busy = 1;
    return array;
}

/* ---- life cycle --------------------------------------------------------------- */

/* A closed mux in the place of those that are freed: every call returns -ESHUTDOWN. */
static fmux_t *fmux__closed;

static fmux_t *fmux__closed_mux(void)
{
    if (fmux__closed == NULL && fmux_open(FMUX_POLL, &fmux__closed) == 0)
        (void)fmux_close(fmux__closed);
    return fmux__closed;
}

int fmux_is_closed(const fmux_context_t *context)
{
    return context != NULL && context->mux != NULL && context->mux == fmux__closed;
}

enum { FMUX__FEW_KEYS = 100 }; /* a set of so many is closed within microseconds */

/* Close the mux and free its memory, which the garbage collector might do much later.
 * The ready arrays of waits in progress keep it until they are freed. */
static void fmux__end_mux(fmux_context_t *context)
{
    fmux_t *mux = context->mux, *closed = fmux__closed_mux();
    if (mux == closed || closed == NULL) {
        (void)fmux_close(mux);
        return;
    }
    context->mux = closed; /* no other thread frees the mux */
    if (PyDict_Size(context->keys) < FMUX__FEW_KEYS) {
        (void)fmux_close(mux);
    } else {
        (void)fmux_stats(mux, &context->stats); /* other threads may ask */
        PyThreadState *state = PyEval_SaveThread();
        (void)fmux_close(mux);
        PyEval_RestoreThread(state);
    }
    (void)fmux_stats(mux, &context->stats);
    fmux_free(mux);
}

static int fmux__context_traverse(PyObject *self, visitproc visit, void *arg)
{
    const fmux_context_t *context = (fmux_context_t *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(context->table);
    Py_VISIT(context->keys);
    return 0;
}

static void fmux__context_free(PyObject *self)
{
    fmux_context_t *context = (fmux_context_t *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    while (context->arrays != NULL) {
        fmux_array_t *array = context->arrays;
        context->arrays = array->next;
        fmux__free_array(array);
    }
    if (context->mux != NULL) {
        fmux__end_mux(context);
        if (context->mux != fmux__closed_mux())
            fmux_free(context->mux);
    }
    free(context->records);
    Py_XDECREF(context->table);
    Py_XDECREF(context->keys);
    Py_XDECREF(context->masks);
    Py_XDECREF(context->pairs);
    Py_XDECREF(context->key_type);
    Py_XDECREF(context->unchanged);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyType_Slot fmux__context_slots[] = {
    {Py_tp_dealloc, __extension__(void *) fmux__context_free},
    {Py_tp_traverse, __extension__(void *) fmux__context_traverse},
    {Py_tp_doc, "The registrations of a poller, and what its waits need."},
    {0, NULL},
};

static PyType_Spec fmux__context_spec = {
    .name = "fastmux._native.Context",
    .basicsize = sizeof(fmux_context_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = fmux__context_slots,
};

static PyObject *fmux__own(PyObject *object)
{
    Py_XINCREF(object);
    return object;
}

static fmux_context_t *fmux__context_new(PyObject *type, PyObject *keys,
                                         PyObject *masks)
{
    PyObject *self = PyType_GenericAlloc((PyTypeObject *)type, 0);
    fmux_context_t *context = (fmux_context_t *)self;
    if (context != NULL) {
        context->keys = fmux__own(keys);
        context->masks = fmux__own(masks);
        context->selector = 1;
    }
    return context;
}

fmux_context_t *fmux_context_new(const fmux_context_t *like, PyObject *keys,
                                 PyObject *masks)
{
    fmux_context_t *context =
        fmux__context_new((PyObject *)Py_TYPE(like), keys, masks);
    if (context != NULL) {
        context->pairs = fmux__own(like->pairs);
        context->key_type = fmux__own(like->key_type);
        context->unchanged = fmux__own(like->unchanged);
    }
    return context;
}

fmux_object_t fmux_first_context(fmux_object_t pairs, fmux_object_t key_type,
                                 fmux_object_t unchanged)
{
    PyObject *type = PyType_FromSpec(&fmux__context_spec);
    if (type == NULL)
        return fmux_give(NULL);
    fmux_context_t *context = fmux__context_new(type, NULL, NULL);
    Py_DECREF(type);
    if (context != NULL) {
        context->pairs = fmux__own(fmux_borrow(pairs));
        context->key_type = fmux__own(fmux_borrow(key_type));
        context->unchanged = fmux__own(fmux_borrow(unchanged));
    }
    return fmux_give((PyObject *)context);
}

enum { FMUX__FIRST_ROWS = 64 }; /* of the first array */

/* Make a context with a mux. Returns it, or an int: an error of fmux_open. */
static fmux_object_t fmux__context_open(fmux_object_t like, fmux_object_t keys,
                                        int mechanism, int shared, int capacity)
{
    fmux_context_t *context = fmux_context_new(fmux_borrow_context(like),
                                               fmux_borrow(keys), NULL);
    if (context == NULL || (context->table = PyList_New(0)) == NULL) {
        Py_XDECREF(context);
        return fmux_give(NULL);
    }
    context->rows = capacity < FMUX__FIRST_ROWS ? capacity : FMUX__FIRST_ROWS;
    context->capacity = capacity;
    int result = fmux_open(mechanism, &context->mux);
    if (result == 0 && shared)
        result = fmux_set_shared(context->mux, shared);
    if (result == 0)
        return fmux_give((PyObject *)context);
    Py_DECREF(context);
    return fmux_give_errno(result);
}

fmux_object_t fmux_selector_context(fmux_object_t like, fmux_object_t keys)
{
    return fmux__context_open(like, keys, FMUX_EPOLL, 1, INT_MAX);
}

fmux_object_t fmux_poller_context(fmux_object_t like, fmux_object_t keys,
                                  int mechanism, int shared, int capacity,
                                  uint32_t events)
{
    fmux_object_t object =
        fmux__context_open(like, keys, mechanism, shared, capacity);
    if (fmux_borrow(object) != NULL && !PyLong_Check(fmux_borrow(object))) {
        fmux_context_t *context = fmux_borrow_context(object);
        context->selector = 0;
        context->events = events;
    }
    return object;
}

int fmux_context_close(fmux_object_t object)
{
    fmux_context_t *context = fmux_borrow_context(object);
    fmux__end_mux(context);
    fmux__free_arrays(context);
    /* No registration follows: the mux is closed. This may run destructors. Without
     * memory, the keys are released together with the context. */
    if (PyList_SetSlice(context->table, 0, PyList_Size(context->table), NULL) < 0)
        PyErr_Clear();
    return 0;
}

/* ---- the mux ------------------------------------------------------------------ */

int fmux_context_ready_open(fmux_object_t object, void *memory, int bytes,
                            int rows, int shared, fmux_ready_t **ready_out)
{
    fmux_context_t *context = fmux_borrow_context(object);
    int result = fmux_ready_open(context->mux, memory, bytes, rows, shared,
                                 ready_out);
    if (result == 0)
        fmux_ready_set_context(*ready_out, context);
    return result;
}

int fmux_context_capacity(fmux_object_t context)
{
    return fmux_borrow_context(context)->capacity;
}

int fmux_context_set_shared(fmux_object_t context, int shared)
{
    return fmux_set_shared(fmux_borrow_context(context)->mux, shared);
}

int fmux_context_wakeup(fmux_object_t context)
{
    return fmux_wakeup(fmux_borrow_context(context)->mux);
}

int fmux_context_fileno(fmux_object_t context)
{
    return fmux_fileno(fmux_borrow_context(context)->mux);
}

fmux_object_t fmux_context_stats(fmux_object_t object)
{
    const fmux_context_t *context = fmux_borrow_context(object);
    fmux_stats_t stats = context->stats;
    if (context->mux != fmux__closed_mux())
        (void)fmux_stats(context->mux, &stats);
    return fmux_give(Py_BuildValue(
        "(KKKKKKKKK)", stats.waits, stats.events, stats.stale_events,
        stats.control_calls, context->avoided, stats.wakeups,
        stats.interruptions, stats.renewals, context->growths));
}

void fmux_hide(fmux_object_t object)
{
    if (PyObject_GC_IsTracked(fmux_borrow(object)))
        PyObject_GC_UnTrack(fmux_borrow(object));
}
