/* heap.c - the heap of timers: a list with the order of heapq, as in the standard loop,
 * so that its code and other programs can use it, too.
 *
 * Comparing two timers of this module calls no Python code. Comparing others may,
 * and that code may change the list: every access checks its bounds, and what is
 * compared is kept alive.
 */
#include "loop.h"

/* Whether a comes before b; -1 with an exception. */
static int fmux__less(PyObject *a, PyObject *b)
{
    if (Py_TYPE(a) == fmux_timer_type && Py_TYPE(b) == fmux_timer_type)
        return fmux_handle(a)->when < fmux_handle(b)->when;
    Py_INCREF(a);
    Py_INCREF(b);
    int less = PyObject_RichCompareBool(a, b, Py_LT);
    Py_DECREF(a);
    Py_DECREF(b);
    return less;
}

/* heap[to] = heap[from]. */
static int fmux__move(PyObject *heap, Py_ssize_t from, Py_ssize_t to)
{
    PyObject *item = PyList_GetItem(heap, from);
    Py_XINCREF(item);
    return item == NULL ? -1 : PyList_SetItem(heap, to, item);
}

/* Move the item towards the root until its parent comes before it; steals item. */
static int fmux__rise(PyObject *heap, Py_ssize_t start, Py_ssize_t place,
                      PyObject *item)
{
    while (place > start) {
        Py_ssize_t parent = (place - 1) / 2;
        PyObject *other = PyList_GetItem(heap, parent);
        int less = other == NULL ? -1 : fmux__less(item, other);
        if (less < 0 || (less && fmux__move(heap, parent, place) < 0)) {
            (void)PyList_SetItem(heap, place, item);
            return -1;
        }
        if (!less)
            break;
        place = parent;
    }
    return PyList_SetItem(heap, place, item);
}

/* Fill the hole at start by moving the smaller children up, then let the item rise
 * from the leaf: it mostly belongs there. Steals item. */
static int fmux__sink(PyObject *heap, Py_ssize_t start, PyObject *item)
{
    Py_ssize_t length = PyList_Size(heap), place = start;
    for (Py_ssize_t child; (child = 2 * place + 1) < length; place = child) {
        if (child + 1 < length) {
            PyObject *left = PyList_GetItem(heap, child);
            PyObject *right = PyList_GetItem(heap, child + 1);
            int less = left == NULL || right == NULL ? -1
                                                     : fmux__less(left, right);
            if (less < 0)
                goto failed;
            child += !less; /* of equals the right one, as heapq */
        }
        if (fmux__move(heap, child, place) < 0)
            goto failed;
    }
    return fmux__rise(heap, start, place, item);
failed:
    (void)PyList_SetItem(heap, place, item);
    return -1;
}

int fmux_heap_push(PyObject *heap, PyObject *timer)
{
    if (PyList_Append(heap, timer) < 0)
        return -1;
    Py_INCREF(timer);
    Py_INCREF(heap); /* a comparison may replace loop._scheduled */
    int result = fmux__rise(heap, 0, PyList_Size(heap) - 1, timer);
    Py_DECREF(heap);
    return result;
}

PyObject *fmux_heap_pop(PyObject *heap)
{
    Py_ssize_t last = PyList_Size(heap) - 1;
    PyObject *item = PyList_GetItem(heap, last);
    if (item == NULL)
        return NULL;
    Py_INCREF(item);
    if (PyList_SetSlice(heap, last, last + 1, NULL) < 0) {
        Py_DECREF(item);
        return NULL;
    }
    if (last == 0)
        return item;
    PyObject *first = PyList_GetItem(heap, 0);
    Py_XINCREF(first);
    Py_INCREF(heap); /* as above */
    if (first != NULL && fmux__sink(heap, 0, item) < 0)
        Py_CLEAR(first);
    Py_DECREF(heap);
    return first;
}

int fmux_heap_order(PyObject *heap)
{
    for (Py_ssize_t i = PyList_Size(heap) / 2 - 1; i >= 0; i--) {
        PyObject *item = PyList_GetItem(heap, i);
        if (item == NULL)
            return -1;
        Py_INCREF(item);
        if (fmux__sink(heap, i, item) < 0)
            return -1;
    }
    return 0;
}
