/* registrations.c - registrations in the core, in the map of keys and in the table of
 * pairs.
 *
 * Each function is one step for the interpreter: no signal handler and no other
 * thread runs between its changes, so a registration is complete or absent.
 *
 * A method of a file or of data, and up to Python 3.11 each allocation, may run any
 * Python code, also a change of the same registration. So each function checks the
 * map after the last such step and before its changes.
 */
#include "interpreter.h"

#include <limits.h>

/* EPOLL* bits that poll.h lacks. */
#define FMUX__PEER_CLOSED (UINT32_C(1) << 13)
#define FMUX__EXCLUSIVE (UINT32_C(1) << 28)
#define FMUX__ONESHOT (UINT32_C(1) << 30)
#define FMUX__EDGE (UINT32_C(1) << 31)

enum { FMUX__UNUSUAL = -EDOM };

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

static int fmux__add(fmux_context_t *context, int fd, PyObject *key,
                     uint32_t mask)
{
    int tag = fmux_add(context->mux, fd, mask);
    if (tag >= 0 && (tag = fmux__enter(context->table, tag, key)) < 0)
        (void)fmux_remove(context->mux, fd);
    return tag;
}

static int fmux__remove(fmux_context_t *context, int fd)
{
    int result = fmux_remove(context->mux, fd);
    int tag = fmux_tag(context->mux, fd); /* kept if fd is not watched */
    if (tag >= 0 && tag < PyList_Size(context->table))
        (void)fmux__enter(context->table, tag, Py_None);
    return result;
}

/* The descriptor of a key, or -1. */
static int fmux__fd_of(PyObject *key)
{
    long fd = PyLong_AsLong(PyTuple_GetItem(key, 1));
    PyErr_Clear();
    return fd < 0 || fd > INT_MAX ? -1 : (int)fd;
}

int fmux_key_add(fmux_object_t context, fmux_object_t key, uint32_t mask)
{
    PyObject *object = fmux_borrow(key);
    return fmux__add(fmux_borrow_context(context), fmux__fd_of(object), object,
                     mask);
}

int fmux_key_modify(fmux_object_t object, fmux_object_t key, uint32_t mask)
{
    const fmux_context_t *context = fmux_borrow_context(object);
    int fd = fmux__fd_of(fmux_borrow(key));
    int tag = fmux_modify(context->mux, fd, mask);
    return tag < 0 ? tag : fmux__enter(context->table, tag, fmux_borrow(key));
}

int fmux_key_replace(fmux_object_t object, int fd, fmux_object_t key)
{
    const fmux_context_t *context = fmux_borrow_context(object);
    int tag = fmux_tag(context->mux, fd);
    return tag < 0 ? tag : fmux__enter(context->table, tag, fmux_borrow(key));
}

int fmux_key_remove(fmux_object_t context, int fd)
{
    return fmux__remove(fmux_borrow_context(context), fd);
}

int fmux_context_add(fmux_object_t context, int fd, uint32_t mask)
{
    return fmux_add(fmux_borrow_context(context)->mux, fd, mask);
}

int fmux_context_modify(fmux_object_t context, int fd, uint32_t mask)
{
    return fmux_modify(fmux_borrow_context(context)->mux, fd, mask);
}

/* ---- arguments --------------------------------------------------------------- */

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
        !PyErr_ExceptionMatches(PyExc_KeyError) &&
        !PyErr_ExceptionMatches(PyExc_OverflowError))
        return FMUX_RAISED;
    PyErr_Clear();
    return FMUX__UNUSUAL;
}

/* Whether a context takes these events as they are, and the mask for them. A selector
 * takes EVENT_READ (1), EVENT_WRITE (2) and both. */
static int fmux__take_events(const fmux_context_t *context, PyObject *events,
                             uint32_t *mask_out)
{
    static const uint32_t masks[] = {0, POLLIN, POLLOUT, POLLIN | POLLOUT};
    const uint32_t not_exclusive = FMUX__ONESHOT | POLLPRI | FMUX__PEER_CLOSED;
    if (!PyLong_CheckExact(events))
        return 0;
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(events, &overflow);
    if (context->selector) {
        *mask_out = number >= 1 && number <= 3 ? masks[number] : 0;
        return *mask_out != 0;
    }
    *mask_out = (uint32_t)number;
    return overflow == 0 && (number & ~(long long)context->events) == 0 &&
           ((*mask_out & FMUX__EXCLUSIVE) == 0 ||
            (*mask_out & not_exclusive) == 0);
}

/* Read the arguments that register() and modify() have in common. Returns the
 * descriptor, FMUX__UNUSUAL, or FMUX_RAISED. */
static int fmux__arguments(fmux_object_t context, fmux_object_t file,
                           fmux_object_t events, uint32_t *mask_out)
{
    if (fmux_borrow_context(context) == NULL ||
        !fmux__take_events(fmux_borrow_context(context), fmux_borrow(events),
                           mask_out))
        return FMUX__UNUSUAL;
    return fmux__file(fmux_borrow(file));
}

/* ---- keys -------------------------------------------------------------------- */

/* tuple.__new__(SelectorKey, fields). SelectorKey.__new__ is a Python function, which
 * takes longer. */
static PyObject *fmux__make_tuple(PyObject *type, PyObject *file, PyObject *fd,
                                  PyObject *events, PyObject *data)
{
    static union {
        void *slot;
        newfunc make;
    } tuple_new;
    if (tuple_new.slot == NULL)
        tuple_new.slot = PyType_GetSlot(&PyTuple_Type, Py_tp_new);
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

/* Whether a tuple is no more than its items, so that one can be filled after its
 * allocation. (From Python 3.14 on it also has room for its hash.) */
static int fmux__tuples_are_plain(void)
{
    static int plain = -1;
    if (plain < 0) {
        PyObject *size =
            PyObject_GetAttrString((PyObject *)&PyTuple_Type, "__basicsize__");
        plain = size != NULL && PyLong_AsLong(size) == sizeof(PyVarObject);
        Py_XDECREF(size);
        PyErr_Clear();
    }
    return plain;
}

/* A new key. */
static PyObject *fmux__make_key(const fmux_context_t *context, PyObject *file,
                                PyObject *fd, PyObject *events, PyObject *data)
{
    PyObject *type = context->key_type;
    if (!fmux__tuples_are_plain())
        return fmux__make_tuple(type, file, fd, events, data);
    PyObject *key = PyType_GenericAlloc((PyTypeObject *)type, 4);
    if (key == NULL)
        return NULL;
    PyObject_GC_UnTrack(key); /* until it is complete */
    PyObject *fields[] = {file, fd, events, data};
    for (int i = 0; i < 4; i++) {
        Py_INCREF(fields[i]);
        (void)PyTuple_SetItem(key, i, fields[i]);
    }
    PyObject_GC_Track(key);
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

/* ---- register() ---------------------------------------------------------------- */

/* Refuse a descriptor that is registered already: a Poller raises here, for a selector
 * the standard one does. */
static int fmux__refuse_duplicate(const fmux_context_t *context, PyObject *key)
{
    if (context->selector)
        return FMUX__UNUSUAL;
    PyObject *fd = PyTuple_GetItem(key, 1);
    PyObject *found = fmux_key_at(context->keys, fd);
    if (found != NULL)
        PyErr_Format(PyExc_KeyError,
                     "%R (FD %S) is already registered, for %R",
                     PyTuple_GetItem(key, 0), fd, PyTuple_GetItem(found, 0));
    Py_XDECREF(found);
    return FMUX_RAISED;
}

static int fmux__register(fmux_context_t *context, int fd, PyObject *number,
                          PyObject *key, uint32_t mask)
{
    int found = PyDict_Contains(context->keys, number);
    if (found != 0)
        return found < 0 ? FMUX_RAISED
                         : fmux__refuse_duplicate(context, key);
    /* The map of keys comes first: a wait drops an event without a key. */
    if (PyDict_SetItem(context->keys, number, key) < 0)
        return FMUX_RAISED;
    int result = context->mux != NULL
                     ? fmux__add(context, fd, key, mask)
                     : fmux_poll_set(context, number, (long)mask);
    if (result < 0)
        fmux__forget(context->keys, number);
    else if (!context->selector &&
             PyDict_Size(context->keys) > context->capacity) {
        context->capacity *= 2;
        context->growths++;
    }
    return result;
}

/* Register a file under a descriptor: a new reference to the key, or a refusal. */
static fmux_object_t fmux__register_as(fmux_context_t *context, int fd,
                                       fmux_object_t file,
                                       fmux_object_t events,
                                       fmux_object_t data, uint32_t mask)
{
    PyObject *number = fmux_borrow(file);
    if (PyLong_CheckExact(number))
        Py_INCREF(number); /* one object less for each registration */
    else
        number = PyLong_FromLong(fd);
    PyObject *key = number == NULL
                        ? NULL
                        : fmux__make_key(context, fmux_borrow(file), number,
                                         fmux_borrow(events),
                                         fmux_borrow(data));
    int result = key == NULL
                     ? FMUX_RAISED
                     : fmux__register(context, fd, number, key, mask);
    Py_XDECREF(number);
    if (result >= 0)
        return fmux_give(key);
    Py_XDECREF(key);
    return fmux__refuse(result);
}

fmux_object_t fmux_file_register(fmux_object_t context, fmux_object_t file,
                                 fmux_object_t events, fmux_object_t data)
{
    uint32_t mask;
    int fd = fmux__arguments(context, file, events, &mask);
    return fd < 0 ? fmux__refuse(fd)
                  : fmux__register_as(fmux_borrow_context(context), fd, file,
                                      events, data, mask);
}

fmux_object_t fmux_fd_register(fmux_object_t context, fmux_object_t file, int fd,
                               fmux_object_t events, fmux_object_t data)
{
    uint32_t mask;
    if (!fmux__take_events(fmux_borrow_context(context), fmux_borrow(events),
                           &mask))
        return fmux__refuse(-EINVAL);
    return fmux__register_as(fmux_borrow_context(context), fd, file, events, data,
                             mask);
}

/* ---- unregister() -------------------------------------------------------------- */

/* Find the key of a descriptor. Returns it and sets *key_out to a new reference, or
 * returns FMUX__UNUSUAL or FMUX_RAISED. */
static int fmux__find(const fmux_context_t *context, int fd, PyObject **key_out)
{
    if (fd < 0)
        return fd;
    *key_out = fmux_find_key(context->keys, fd);
    if (*key_out == NULL)
        return PyErr_Occurred() != NULL ? FMUX_RAISED : FMUX__UNUSUAL;
    if (!fmux_is_key(*key_out) ||
        !PyLong_CheckExact(PyTuple_GetItem(*key_out, 1))) {
        Py_DECREF(*key_out); /* of another type, or a number with methods of its own */
        return FMUX__UNUSUAL;
    }
    return fd;
}

fmux_object_t fmux_file_unregister(fmux_object_t object, fmux_object_t file)
{
    PyObject *key;
    fmux_context_t *context = fmux_borrow_context(object);
    int fd = context == NULL || fmux_is_closed(context) ? FMUX__UNUSUAL
                                                        : fmux__file(fmux_borrow(file));
    fd = fmux__find(context, fd, &key);
    if (fd < 0)
        return fmux__refuse(fd);
    PyObject *number = PyTuple_GetItem(key, 1);
    if (PyDict_DelItem(context->keys, number) < 0) {
        Py_DECREF(key);
        return fmux_give(NULL);
    }
    if (context->mux != NULL)
        (void)fmux__remove(context, fd);
    else if (fmux_poll_set(context, number, -1) < 0)
        Py_CLEAR(key); /* KeyError: another thread is registering it */
    return fmux_give(key);
}

/* ---- modify() ------------------------------------------------------------------- */

/* Whether the map still has this key: 0, FMUX__UNUSUAL or FMUX_RAISED. */
static int fmux__still(const fmux_context_t *context, PyObject *key)
{
    PyObject *now = fmux_key_at(context->keys, PyTuple_GetItem(key, 1));
    Py_XDECREF(now);
    return now == key                 ? 0
           : PyErr_Occurred() != NULL ? FMUX_RAISED
                                      : FMUX__UNUSUAL;
}

/* Whether modify() needs no system call for these events. */
static int fmux__same_events(const fmux_context_t *context, uint32_t mask,
                             PyObject *old)
{
    uint32_t old_mask;
    return fmux__take_events(context, PyTuple_GetItem(old, 2), &old_mask) &&
           mask == old_mask && (mask & (FMUX__EDGE | FMUX__ONESHOT)) == 0;
}

/* Whether the data is new: 1 or 0, or -1 with an exception. The standard selectors
 * compare it. */
static int fmux__new_data(const fmux_context_t *context, PyObject *data,
                          PyObject *old)
{
    PyObject *old_data = PyTuple_GetItem(old, 3);
    return context->selector ? fmux__differ(data, old_data) : data != old_data;
}

/* Replace the key of fd, and its mask unless it is the same. */
static int fmux__replace(fmux_context_t *context, int fd, PyObject *key,
                         uint32_t mask, int same)
{
    PyObject *number = PyTuple_GetItem(key, 1);
    int result;
    if (context->mux == NULL)
        result = fmux_poll_set(context, number, (long)mask);
    else
        result = same ? fmux_tag(context->mux, fd)
                      : fmux_modify(context->mux, fd, mask);
    if (result >= 0 && context->mux != NULL)
        result = fmux__enter(context->table, result, key);
    if (result >= 0 && PyDict_SetItem(context->keys, number, key) < 0)
        result = FMUX_RAISED;
    if (!context->selector && (result == -ENOENT || result == -EBADF ||
                               result == -EPERM || result == FMUX_RAISED)) {
        /* The file was closed. (A selector unregisters it in any case.) */
        (void)fmux__remove(context, fd);
        fmux__forget(context->keys, number);
    }
    return result;
}

fmux_object_t fmux_file_modify(fmux_object_t object, fmux_object_t file,
                               fmux_object_t events, fmux_object_t data_object)
{
    PyObject *old, *data = fmux_borrow(data_object);
    fmux_context_t *context = fmux_borrow_context(object);
    uint32_t mask;
    int fd = fmux_is_closed(context) ? FMUX__UNUSUAL
                                     : fmux__arguments(object, file, events, &mask);
    fd = fmux__find(context, fd, &old);
    if (fd < 0)
        return fmux__refuse(fd);
    if (data == context->unchanged)
        data = PyTuple_GetItem(old, 3);
    int same = fmux__same_events(context, mask, old);
    int differs = same ? fmux__new_data(context, data, old) : 1;
    if (differs <= 0) {
        context->avoided += differs == 0;
        if (differs == 0)
            return fmux_give(old);
        Py_DECREF(old);
        return fmux_give(NULL);
    }
    PyObject *key =
        fmux__make_key(context, PyTuple_GetItem(old, 0),
                       PyTuple_GetItem(old, 1), fmux_borrow(events), data);
    int result = key == NULL ? FMUX_RAISED : fmux__still(context, old);
    if (result == 0)
        result = fmux__replace(context, fd, key, mask, same);
    context->avoided += result >= 0 && same;
    Py_DECREF(old);
    if (result >= 0)
        return fmux_give(key);
    Py_XDECREF(key);
    return fmux__refuse(result);
}
