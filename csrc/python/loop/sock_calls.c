/* sock_calls.c - what the methods sock_recv(), sock_accept() etc. of the loop need.
 *
 * They call the method of the socket, and wait for readiness while it would block. A
 * descriptor is registered only during a wait, because its owner may close it after the
 * call; and data is received by the waiting coroutine itself, so a cancellation cannot
 * come between, and lose it.
 */
#include "loop.h"

/* Call function(*args): its result, or None if it would block. */
static PyObject *fmux__attempt(PyObject *function, PyObject *const *args, Py_ssize_t count)
{
    PyObject *result = fmux_python.vectorcall(function, args, (size_t)count, NULL);
    if (result != NULL || !(PyErr_ExceptionMatches(PyExc_BlockingIOError) ||
                            PyErr_ExceptionMatches(PyExc_InterruptedError)))
        return result;
    PyErr_Clear();
    return fmux_none();
}

PyObject *fmux_attempt(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count == 0) {
        PyErr_SetString(PyExc_TypeError, "attempt() needs a function");
        return NULL;
    }
    return fmux__attempt(args[0], args + 1, count - 1);
}

/* sock.recv(size), or None if it would block. */
static PyObject *fmux__recv(PyObject *sock, PyObject *size)
{
    PyObject *method = PyObject_GetAttr(sock, fmux_names.recv);
    PyObject *data = method == NULL ? NULL : fmux__attempt(method, &size, 1);
    Py_XDECREF(method);
    return data;
}

PyObject *fmux_sock_receive(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "receive() takes 2 arguments");
        return NULL;
    }
    PyObject *sock = args[0], *size = args[1];
    int overflow = 1;
    long most = PyLong_CheckExact(size) ? PyLong_AsLongAndOverflow(size, &overflow) : 0;
    if (overflow != 0 || most <= 0 || most > FMUX_PIECE ||
        fmux_is_patched(sock, fmux_names.recv))
        return fmux__recv(sock, size);
    if (PyErr_CheckSignals() < 0)
        return NULL;
    int fd = fmux_socket_number(sock);
    if (fd == -2)
        return NULL;
    ssize_t got = recv(fd, fmux_piece, (size_t)most, MSG_DONTWAIT);
    if (got >= 0)
        return PyBytes_FromStringAndSize(fmux_piece, got);
    if (!fmux_try_again()) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    /* A socket with a timeout, or without end, blocks here as it does in its method. */
    PyObject *timeout = FMUX_CALL_METHOD(gettimeout, sock);
    double seconds = timeout == NULL || timeout == Py_None ? -1 : PyFloat_AsDouble(timeout);
    Py_XDECREF(timeout);
    return PyErr_Occurred() != NULL ? NULL
           : seconds == 0           ? fmux_none()
                                    : fmux__recv(sock, size);
}

PyObject *fmux_set_ready(PyObject *module, PyObject *future)
{
    (void)module;
    PyObject *done = FMUX_CALL_METHOD(done, future);
    int truth = done == NULL ? -1 : PyObject_IsTrue(done);
    Py_XDECREF(done);
    return truth < 0    ? NULL
           : truth == 1 ? fmux_none()
                        : FMUX_CALL_METHOD(set_result, future, Py_None);
}

/* Raise RuntimeError if a transport uses fd. Returns 0, or -1 with an exception. */
static int fmux__check_unused(PyObject *loop, PyObject *fd)
{
    PyObject *transports = PyObject_GetAttr(loop, fmux_names._transports);
    PyObject *references =
        transports == NULL ? NULL : PyObject_GetAttr(transports, fmux_names.data);
    bool unused = references != NULL && PyDict_CheckExact(references) &&
                  PyDict_GetItemWithError(references, fd) == NULL &&
                  PyErr_Occurred() == NULL;
    Py_XDECREF(transports);
    Py_XDECREF(references);
    if (unused)
        return 0;
    PyErr_Clear();
    return fmux_done(FMUX_CALL_METHOD(_ensure_fd_no_transport, loop, fd));
}

static PyObject *fmux__start_wait(PyObject *self, PyObject *fd, fmux_fast_t *add)
{
    if (fmux__check_unused(self, fd) < 0)
        return NULL;
    PyObject *future = fmux_create_future(self, NULL), *both = NULL;
    PyObject *args[] = {fd, fmux_objects.set_ready, future};
    PyObject *handle = future == NULL ? NULL : add(self, args, 3, NULL);
    if (handle != NULL)
        both = PyTuple_Pack(2, future, handle);
    Py_XDECREF(future);
    Py_XDECREF(handle);
    return both;
}

PyObject *fmux_start_reading(PyObject *self, PyObject *fd)
{
    return fmux__start_wait(self, fd, fmux_add_reader);
}

PyObject *fmux_start_writing(PyObject *self, PyObject *fd)
{
    return fmux__start_wait(self, fd, fmux_add_writer);
}
