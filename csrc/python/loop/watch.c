/* watch.c - readers and writers: the handles that a loop calls for a descriptor.
 *
 * As in the standard loop, key.data is the pair (reader, writer). With a
 * fastmux.selectors.EpollSelector and a descriptor that is an int, a change is one
 * call of registrations.c; everything else calls the selector's methods.
 */
#include "loop.h"

#include <errno.h>

enum { FMUX__READ = 1,
       FMUX__WRITE = 2 }; /* EVENT_READ, EVENT_WRITE */

/* The key of fd: a new reference, or NULL, with an exception only on failure. */
static PyObject *fmux__key(fmux_loop_t *loop, PyObject *fd)
{
    PyObject *key;
    int overflow;
    if (loop->context != NULL && PyLong_CheckExact(fd)) {
        key = PyDict_GetItemWithError(loop->context->keys, fd);
        Py_XINCREF(key);
        if (key != NULL || PyErr_Occurred() != NULL || PyLong_AsLongAndOverflow(fd, &overflow) >= 0)
            return key;
    } /* the map refuses a negative number */
    PyObject *map = FMUX_CALL_METHOD(get_map, loop->selector);
    key = map == NULL ? NULL : FMUX_CALL_METHOD(get, map, fd);
    Py_XDECREF(map);
    if (key == Py_None)
        Py_CLEAR(key);
    return key;
}

/* Unregister a file that modify() has refused, and raise its error, as the selector does. */
static void fmux__refuse(PyObject *selector, PyObject *fd, PyObject *error)
{
    if (fmux_done(FMUX_CALL_METHOD(unregister, selector, fd)) == 0)
        (void)fmux_raise((int)PyLong_AsLong(error));
}

/* Store a new selector key; without events, unregister. Returns 0, or -1. */
static int fmux__change(fmux_loop_t *loop, PyObject *fd, bool known, long events,
                        PyObject *reader, PyObject *writer)
{
    PyObject *key = NULL, *selector = loop->selector;
    PyObject *array_context = loop->array_context;
    if (selector == NULL) {
        PyErr_SetString(PyExc_AttributeError, "_selector");
        return -1;
    }
    if ((events & (FMUX__READ | FMUX__WRITE)) == 0) {
        if (array_context != NULL && PyLong_CheckExact(fd)) {
            key = fmux_borrow(fmux_file_unregister(fmux_give(array_context), fmux_give(fd)));
            if (key != NULL && !PyLong_CheckExact(key))
                return fmux_done(key);
            Py_XDECREF(key);
            if (key == NULL)
                return -1;
        }
        return fmux_done(FMUX_CALL_METHOD(unregister, selector, fd));
    }
    /* The garbage collector may run code that replaces loop._selector. */
    Py_INCREF(selector);
    Py_XINCREF(array_context);
    PyObject *number = PyLong_FromLong(events);
    PyObject *data = PyTuple_Pack(2, reader, writer);
    bool complete = number != NULL && data != NULL;
    if (complete && array_context != NULL && PyLong_CheckExact(fd)) {
        fmux_object_t context = fmux_give(array_context);
        fmux_object_t result =
            known ? fmux_file_modify(context, fmux_give(fd),
                                     fmux_give(number), fmux_give(data))
                  : fmux_file_register(context, fmux_give(fd),
                                       fmux_give(number), fmux_give(data));
        key = fmux_borrow(result);
        /* An int is an error, or -EDOM for unusual arguments. The selector's method
         * raises or handles them; but a second modify() would have another error, because the
         * first one has forgotten the file. */
        if (key != NULL && PyLong_CheckExact(key)) {
            if (known && PyLong_AsLong(key) != -EDOM) {
                fmux__refuse(selector, fd, key);
                complete = false;
            }
            Py_CLEAR(key);
        } else {
            complete = false;
        }
    }
    if (complete) {
        key = known ? FMUX_CALL_METHOD(modify, selector, fd, number, data)
                    : FMUX_CALL_METHOD(register_, selector, fd, number, data);
    }
    Py_XDECREF(number);
    Py_XDECREF(data);
    Py_XDECREF(key);
    Py_XDECREF(array_context);
    Py_DECREF(selector);
    return key == NULL ? -1 : 0;
}

static int fmux__cancel(PyObject *handle)
{
    return fmux_done(FMUX_CALL_METHOD(cancel, handle));
}

/* Set the handle for one event of fd, or remove it (NULL). Returns whether there
 * was another one, or -1. */
static int fmux__watch(fmux_loop_t *loop, PyObject *fd, long event,
                       PyObject *handle)
{
    PyObject *key = fmux__key(loop, fd);
    if (key == NULL && (handle == NULL || PyErr_Occurred() != NULL))
        return PyErr_Occurred() == NULL ? 0 : -1;
    PyObject *data = key == NULL ? NULL : PyTuple_GetItem(key, 3);
    long events = key == NULL ? 0 : PyLong_AsLong(PyTuple_GetItem(key, 2));
    PyObject *handles[2] = {Py_None, Py_None};
    int place = event == FMUX__WRITE, result = -1;
    if (data != NULL && PyTuple_Check(data) && PyTuple_Size(data) == 2) {
        handles[0] = PyTuple_GetItem(data, 0);
        handles[1] = PyTuple_GetItem(data, 1);
    } else if (data != NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "the selector's data is not from this loop");
        Py_DECREF(key);
        return -1;
    }
    PyObject *old = handles[place];
    Py_INCREF(old);
    Py_XINCREF(data);
    handles[place] = handle == NULL ? Py_None : handle;
    events = handle == NULL ? events & ~event : events | event;
    if (fmux__change(loop, fd, key != NULL, events, handles[0], handles[1]) == 0) {
        result = old != Py_None;
        if (old != Py_None && fmux__cancel(old) < 0)
            result = -1;
    }
    Py_DECREF(old);
    Py_XDECREF(data);
    Py_XDECREF(key);
    return result;
}

static PyObject *fmux__add(PyObject *self, PyObject *name, long event,
                           PyObject *const *args, Py_ssize_t count,
                           PyObject *kwnames)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    bool valid;
    PyObject *context = fmux_keyword_context(args + count, kwnames, &valid);
    if (loop->closed || loop->debug || loop->array == NULL || count < 2 || !valid)
        return fmux_standard(self, name, args, count, kwnames);
    PyObject *handle = fmux_handle_new(fmux_handle_type, self, args[1], args + 2,
                                       count - 2, context);
    if (handle != NULL)
        fmux_handle_track(handle);
    if (handle != NULL && fmux__watch(loop, args[0], event, handle) < 0)
        Py_CLEAR(handle);
    return handle;
}

static PyObject *fmux__remove(PyObject *self, PyObject *name, long event,
                              PyObject *fd)
{
    fmux_loop_t *loop = (fmux_loop_t *)self;
    if (loop->closed || loop->array == NULL)
        return fmux_standard(self, name, &fd, 1, NULL);
    int removed = fmux__watch(loop, fd, event, NULL);
    return removed < 0 ? NULL : PyBool_FromLong(removed);
}

PyObject *fmux_add_reader(PyObject *self, PyObject *const *args,
                          Py_ssize_t count, PyObject *kwnames)
{
    return fmux__add(self, fmux_names._add_reader, FMUX__READ, args, count,
                     kwnames);
}

PyObject *fmux_add_writer(PyObject *self, PyObject *const *args,
                          Py_ssize_t count, PyObject *kwnames)
{
    return fmux__add(self, fmux_names._add_writer, FMUX__WRITE, args, count,
                     kwnames);
}

PyObject *fmux_remove_reader(PyObject *self, PyObject *fd)
{
    return fmux__remove(self, fmux_names._remove_reader, FMUX__READ, fd);
}

PyObject *fmux_remove_writer(PyObject *self, PyObject *fd)
{
    return fmux__remove(self, fmux_names._remove_writer, FMUX__WRITE, fd);
}
