/* keys.c - registrations in the core and in the table of keys, in one step. */
#include "interpreter.h"

#include <errno.h>
#include <limits.h>

/* The descriptor of a key, or -1. */
static int fmux__fd_of(PyObject *key)
{
    PyObject *number = PyTuple_GetItem(key, 1);
    long fd = number == NULL ? -1 : PyLong_AsLong(number);
    if (fd < 0 || fd > INT_MAX) {
        PyErr_Clear();
        return -1;
    }
    return (int)fd;
}

/* Set table[tag]. Returns the tag, or -ENOMEM. */
static int fmux__enter(PyObject *table, int tag, PyObject *key)
{
    while (PyList_Size(table) <= tag) {
        if (PyList_Append(table, Py_None) < 0) {
            PyErr_Clear();
            return -ENOMEM;
        }
    }
    Py_INCREF(key);
    (void)PyList_SetItem(table, tag, key);
    return tag;
}

int fmux_key_add(fmux_t *mux, fmux_object_t table, fmux_object_t key,
                 uint32_t mask)
{
    int fd = fmux__fd_of(fmux_borrow(key));
    int tag = fmux_add(mux, fd, mask);
    if (tag < 0)
        return tag;
    tag = fmux__enter(fmux_borrow(table), tag, fmux_borrow(key));
    if (tag < 0)
        (void)fmux_remove(mux, fd);
    return tag;
}

int fmux_key_modify(fmux_t *mux, fmux_object_t table, fmux_object_t key,
                    uint32_t mask)
{
    int tag = fmux_modify(mux, fmux__fd_of(fmux_borrow(key)), mask);
    return tag < 0 ? tag
                   : fmux__enter(fmux_borrow(table), tag, fmux_borrow(key));
}

int fmux_key_replace(fmux_t *mux, fmux_object_t table, fmux_object_t key,
                     uint32_t mask)
{
    (void)mask;
    int tag = fmux_tag(mux, fmux__fd_of(fmux_borrow(key)));
    return tag < 0 ? tag
                   : fmux__enter(fmux_borrow(table), tag, fmux_borrow(key));
}

int fmux_key_remove(fmux_t *mux, fmux_object_t table, int fd)
{
    int result = fmux_remove(mux, fd);
    int tag = fmux_tag(mux, fd); /* also if it was refused before it was watched */
    if (tag >= 0 && tag < PyList_Size(fmux_borrow(table)))
        (void)fmux__enter(fmux_borrow(table), tag, Py_None);
    return result;
}
