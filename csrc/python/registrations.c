/* registrations.c - registrations in the core, in the map of keys and in the table of pairs.
 *
 * Each function is one step for the interpreter: no signal handler and no other
 * thread runs between its parts, so a registration is complete or absent.
 */
#include "interpreter.h"

#include <limits.h>

/* ---- the table of pairs ---------------------------------------------------- */

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

static int fmux__add(fmux_t *mux, PyObject *table, int fd, PyObject *key,
                     uint32_t mask)
{
    int tag = fmux_add(mux, fd, mask);
    if (tag >= 0 && (tag = fmux__enter(table, tag, key)) < 0)
        (void)fmux_remove(mux, fd);
    return tag;
}

static int fmux__remove(fmux_t *mux, PyObject *table, int fd)
{
    int result = fmux_remove(mux, fd);
    int tag = fmux_tag(mux, fd); /* kept for a descriptor that is not watched */
    if (tag >= 0 && tag < PyList_Size(table))
        (void)fmux__enter(table, tag, Py_None);
    return result;
}

/* The descriptor of a key, or -1. */
static int fmux__fd_of(PyObject *key)
{
    long fd = PyLong_AsLong(PyTuple_GetItem(key, 1));
    PyErr_Clear();
    return fd < 0 || fd > INT_MAX ? -1 : (int)fd;
}

int fmux_key_add(fmux_t *mux, fmux_object_t table, fmux_object_t key,
                 uint32_t mask)
{
    PyObject *object = fmux_borrow(key);
    return fmux__add(mux, fmux_borrow(table), fmux__fd_of(object), object, mask);
}

int fmux_key_modify(fmux_t *mux, fmux_object_t table, fmux_object_t key,
                    uint32_t mask)
{
    PyObject *object = fmux_borrow(key);
    int tag = fmux_modify(mux, fmux__fd_of(object), mask);
    return tag < 0 ? tag : fmux__enter(fmux_borrow(table), tag, object);
}

int fmux_key_replace(fmux_t *mux, fmux_object_t table, int fd,
                     fmux_object_t key)
{
    int tag = fmux_tag(mux, fd);
    return tag < 0 ? tag
                   : fmux__enter(fmux_borrow(table), tag, fmux_borrow(key));
}

int fmux_key_remove(fmux_t *mux, fmux_object_t table, int fd)
{
    return fmux__remove(mux, fmux_borrow(table), fd);
}

/* ---- selectors -------------------------------------------------------------
 *
 * A method of a file or of data, and up to Python 3.11 each allocation, may run any
 * Python code, also a wait that moves the context (poll_object.c) and a change of the same
 * registration. So each function looks the context up again, and checks the map,
 * after the last such step and before its changes.
 */

/* The masks for EVENT_READ (1), EVENT_WRITE (2), and both. */
static const uint32_t fmux__masks[] = {0, POLLIN, POLLOUT, POLLIN | POLLOUT};

enum { FMUX__UNUSUAL = -EDOM };

/* The descriptor of a file object, FMUX__UNUSUAL, or FMUX_RAISED. */
static int fmux__file(PyObject *file)
{
    int fd;
    if (PyLong_CheckExact(file)) {
        long number = PyLong_AsLong(file);
        PyErr_Clear();
        return number < 0 || number > INT_MAX ? FMUX__UNUSUAL : (int)number;
    }
    if (PyLong_Check(file))
        return FMUX__UNUSUAL;
    fd = PyObject_AsFileDescriptor(file);
    if (fd >= 0)
        return fd;
    if (!PyErr_ExceptionMatches(PyExc_AttributeError) &&
        !PyErr_ExceptionMatches(PyExc_TypeError) &&
        !PyErr_ExceptionMatches(PyExc_ValueError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError))
        return FMUX_RAISED;
    PyErr_Clear();
    return FMUX__UNUSUAL;
}

/* The plain events in an object: 1 to 3, or 0 if it is anything else. */
static int fmux__plain_events(PyObject *events)
{
    if (!PyLong_CheckExact(events))
        return 0;
    int overflow;
    long number = PyLong_AsLongAndOverflow(events, &overflow);
    return number >= 1 && number <= 3 ? (int)number : 0;
}

/* A new key. */
static PyObject *fmux__make_key(fmux_object_t context, PyObject *file,
                                PyObject *fd, PyObject *events, PyObject *data)
{
    /* tuple.__new__(SelectorKey, fields): SelectorKey.__new__ is a Python function,
     * which takes longer. */
    static union {
        void *slot;
        newfunc make;
    } tuple_new;
    if (tuple_new.slot == NULL)
        tuple_new.slot = PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    PyObject *type = fmux_borrow_context(context)->key_type;
    PyObject *fields = PyTuple_Pack(4, file, fd, events, data);
    PyObject *arguments = fields == NULL ? NULL : PyTuple_Pack(1, fields);
    PyObject *key =
        arguments == NULL
            ? NULL
            : tuple_new.make((PyTypeObject *)type, arguments, NULL);
    Py_XDECREF(arguments);
    Py_XDECREF(fields);
    return key;
}

/* Whether a != b: 1 or 0, or -1 with an exception. */
static int fmux__differ(PyObject *a, PyObject *b)
{
    if (a == b)
        return 0;
    PyObject *answer = PyObject_RichCompare(a, b, Py_NE);
    int differs = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return differs;
}

/* Return a negative result to Python: FMUX_RAISED as the exception that is set, all
 * others as an int. */
static fmux_object_t fmux__refuse(int result)
{
    return result == FMUX_RAISED ? fmux_give(NULL) : fmux_give_errno(result);
}

/* Remove keys[number]; keep the exception that may be set. */
static void fmux__forget(PyObject *keys, PyObject *number)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (PyDict_DelItem(keys, number) < 0)
        PyErr_Clear();
    PyErr_Restore(type, value, traceback);
}

static int fmux__selector_add(fmux_object_t context_object, int fd,
                              PyObject *number, PyObject *key, int events)
{
    PyObject *keys = fmux_borrow_context(context_object)->keys;
    /* The map of keys comes first: a wait drops an event without a key. */
    if (PyDict_SetItem(keys, number, key) < 0)
        return FMUX_RAISED;
    fmux_context_t *context = fmux_borrow_context(context_object);
    int result = context->mux != NULL
                     ? fmux__add(context->mux, context->table, fd,
                                 key, fmux__masks[events])
                     : fmux_poll_set(context, number, (long)fmux__masks[events]);
    if (result < 0)
        fmux__forget(keys, number);
    return result;
}

fmux_object_t fmux_selector_register(fmux_object_t context,
                                     fmux_object_t file, fmux_object_t events,
                                     fmux_object_t data)
{
    int bits = fmux__plain_events(fmux_borrow(events));
    int fd = fmux_borrow_context(context) == NULL || bits == 0
                 ? FMUX__UNUSUAL
                 : fmux__file(fmux_borrow(file));
    if (fd < 0)
        return fmux__refuse(fd);
    PyObject *number = PyLong_FromLong(fd);
    PyObject *key = number == NULL
                        ? NULL
                        : fmux__make_key(context, fmux_borrow(file), number,
                                         fmux_borrow(events),
                                         fmux_borrow(data));
    int result = FMUX_RAISED;
    if (key != NULL) {
        int found = PyDict_Contains(fmux_borrow_context(context)->keys, number);
        if (found == 0)
            result = fmux__selector_add(context, fd, number, key, bits);
        else if (found > 0)
            result = FMUX__UNUSUAL; /* registered already */
    }
    Py_XDECREF(number);
    if (result >= 0)
        return fmux_give(key);
    Py_XDECREF(key);
    return fmux__refuse(result);
}

/* Find the key of a file. Returns the descriptor and sets *key_out to a new
 * reference, or FMUX__UNUSUAL or FMUX_RAISED. */
static int fmux__selector_find(fmux_object_t context, PyObject *file,
                               PyObject **key_out)
{
    int fd = fmux_borrow_context(context) == NULL ? FMUX__UNUSUAL
                                                  : fmux__file(file);
    if (fd < 0)
        return fd;
    *key_out = fmux_find_key(fmux_borrow_context(context)->keys, fd);
    if (*key_out == NULL)
        return PyErr_Occurred() != NULL ? FMUX_RAISED : FMUX__UNUSUAL;
    if (!PyLong_CheckExact(PyTuple_GetItem(*key_out, 1))) {
        Py_DECREF(*key_out); /* a number with methods of its own */
        return FMUX__UNUSUAL;
    }
    return fd;
}

fmux_object_t fmux_selector_unregister(fmux_object_t context_object,
                                       fmux_object_t file)
{
    PyObject *key;
    int fd = fmux__selector_find(context_object, fmux_borrow(file), &key);
    if (fd < 0)
        return fmux__refuse(fd);
    PyObject *number = PyTuple_GetItem(key, 1);
    if (PyDict_DelItem(fmux_borrow_context(context_object)->keys, number) < 0) {
        Py_DECREF(key);
        return fmux_give(NULL);
    }
    fmux_context_t *context = fmux_borrow_context(context_object);
    if (context->mux != NULL)
        (void)fmux__remove(context->mux, context->table, fd);
    else if (fmux_poll_set(context, number, -1) < 0)
        Py_CLEAR(key); /* KeyError: another thread is registering it */
    return fmux_give(key);
}

/* Whether the map still has this key for fd: 0, FMUX__UNUSUAL or FMUX_RAISED. */
static int fmux__still(fmux_object_t context, int fd, PyObject *key)
{
    PyObject *now = fmux_find_key(fmux_borrow_context(context)->keys, fd);
    Py_XDECREF(now);
    return now == key                 ? 0
           : PyErr_Occurred() != NULL ? FMUX_RAISED
                                      : FMUX__UNUSUAL;
}

fmux_object_t fmux_selector_modify(fmux_object_t context_object,
                                   fmux_object_t file, fmux_object_t events,
                                   fmux_object_t data)
{
    PyObject *old;
    int bits = fmux__plain_events(fmux_borrow(events));
    int fd = bits == 0 ? FMUX__UNUSUAL
                       : fmux__selector_find(context_object, fmux_borrow(file),
                                             &old);
    if (fd < 0)
        return fmux__refuse(fd);
    PyObject *number = PyTuple_GetItem(old, 1);
    int same = bits == fmux__plain_events(PyTuple_GetItem(old, 2));
    if (same) {
        int differs = fmux__differ(fmux_borrow(data), PyTuple_GetItem(old, 3));
        if (differs == 0)
            return fmux_give(old);
        if (differs < 0) {
            Py_DECREF(old);
            return fmux_give(NULL);
        }
    }
    PyObject *key = fmux__make_key(context_object, PyTuple_GetItem(old, 0),
                                   number, fmux_borrow(events),
                                   fmux_borrow(data));
    int result =
        key == NULL ? FMUX_RAISED : fmux__still(context_object, fd, old);
    fmux_context_t *context = fmux_borrow_context(context_object);
    if (result == 0 && context->mux == NULL)
        result = fmux_poll_set(context, number, (long)fmux__masks[bits]);
    else if (result == 0)
        result = same ? fmux_tag(context->mux, fd)
                      : fmux_modify(context->mux, fd, fmux__masks[bits]);
    if (result >= 0 && context->mux != NULL)
        result = fmux__enter(context->table, result, key);
    if (result >= 0 && PyDict_SetItem(context->keys, number, key) < 0)
        result = FMUX_RAISED;
    Py_DECREF(old);
    if (result >= 0)
        return fmux_give(key);
    Py_XDECREF(key);
    return fmux__refuse(result);
}
