/* accept.c - accept a connection and make its socket object.
 *
 * The same as socket.accept() and setblocking(False), but without bytecode in
 * between: an exception of a signal handler cannot lose an accepted connection.
 */
#include "loop.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <sys/socket.h>

/* sock.name as an int object's value; -1 with an exception. */
static int fmux__attribute(PyObject *sock, const char *name)
{
    PyObject *value = PyObject_GetAttrString(sock, name);
    long number = value == NULL ? -1 : PyLong_AsLong(value);
    Py_XDECREF(value);
    return (int)number;
}

/* A socket.socket around a descriptor that is not blocking: what its __init__ does.
 * It owns the descriptor; on failure nothing does. */
static PyObject *fmux__wrap(PyObject *listener, int fd)
{
    int family = fmux__attribute(listener, "family");
    int type = fmux__attribute(listener, "type");
    int proto = fmux__attribute(listener, "proto");
    if (PyErr_Occurred() != NULL)
        return NULL;
    PyObject *class = (PyObject *)Py_TYPE(listener);
    PyObject *conn = PyObject_CallMethod(class, "__new__", "O", class);
    PyObject *zero = PyLong_FromLong(0);
    PyObject *none =
        conn == NULL || zero == NULL ||
                PyObject_SetAttrString(conn, "_io_refs", zero) < 0 ||
                PyObject_SetAttrString(conn, "_closed", Py_False) < 0
            ? NULL
            : PyObject_CallFunction(fmux_objects.socket_init, "Oiiii", conn,
                                    family, type | SOCK_NONBLOCK, proto, fd);
    Py_XDECREF(zero);
    if (none == NULL)
        Py_CLEAR(conn);
    Py_XDECREF(none);
    return conn;
}

PyObject *fmux_accept(PyObject *module, PyObject *listener)
{
    (void)module;
    PyObject *args[] = {NULL, listener};
    PyObject *accepted = fmux_python.vectorcall(
        fmux_objects.socket_accept, args + 1, 1 | FMUX_PLACE_BEFORE, NULL);
    if (accepted == NULL)
        return NULL;
    long fd = PyLong_AsLong(PyTuple_GetItem(accepted, 0));
    int on = 1;
    PyObject *conn = NULL, *result = NULL;
    if (ioctl((int)fd, FIONBIO, &on) < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    else
        conn = fmux__wrap(listener, (int)fd);
    if (conn == NULL)
        close((int)fd);
    else
        result = PyTuple_Pack(2, conn, PyTuple_GetItem(accepted, 1));
    Py_XDECREF(conn);
    Py_DECREF(accepted);
    return result;
}
