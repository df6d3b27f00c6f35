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

/* The same for sock.name(argument). */
static PyObject *fmux__attempt_method(PyObject *sock, PyObject *name, PyObject *argument)
{
    PyObject *method = PyObject_GetAttr(sock, name);
    PyObject *result = method == NULL ? NULL : fmux__attempt(method, &argument, 1);
    Py_XDECREF(method);
    return result;
}

/* Whether a socket that would block raises BlockingIOError, as one without a timeout of 0
 * does not; -1 with an exception. */
static int fmux__is_nonblocking(PyObject *sock)
{
    PyObject *timeout = FMUX_CALL_METHOD(gettimeout, sock);
    double seconds = timeout == NULL || timeout == Py_None ? -1 : PyFloat_AsDouble(timeout);
    Py_XDECREF(timeout);
    return PyErr_Occurred() != NULL ? -1 : seconds == 0;
}

/* The result of a system call that has failed: None if it would block. A socket that waits
 * by itself does so in its method. */
static PyObject *fmux__failed(PyObject *sock, PyObject *name, PyObject *argument)
{
    if (!fmux_try_again()) {
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    int nonblocking = fmux__is_nonblocking(sock);
    return nonblocking < 0    ? NULL
           : nonblocking == 1 ? fmux_none()
                              : fmux__attempt_method(sock, name, argument);
}

static bool fmux__check_count(Py_ssize_t count)
{
    if (count != 2)
        PyErr_SetString(PyExc_TypeError, "2 arguments expected");
    return count == 2;
}

PyObject *fmux_sock_receive(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (!fmux__check_count(count))
        return NULL;
    PyObject *sock = args[0], *size = args[1];
    int overflow = 1;
    long most = PyLong_CheckExact(size) ? PyLong_AsLongAndOverflow(size, &overflow) : 0;
    if (overflow != 0 || most <= 0 || most > FMUX_PIECE ||
        fmux_is_patched(sock, fmux_names.recv))
        return fmux__attempt_method(sock, fmux_names.recv, size);
    if (PyErr_CheckSignals() < 0)
        return NULL;
    int fd = fmux_socket_number(sock);
    if (fd == -2)
        return NULL;
    ssize_t got = recv(fd, fmux_piece, (size_t)most, MSG_DONTWAIT);
    return got >= 0 ? PyBytes_FromStringAndSize(fmux_piece, got)
                    : fmux__failed(sock, fmux_names.recv, size);
}

PyObject *fmux_sock_send(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (!fmux__check_count(count))
        return NULL;
    PyObject *sock = args[0], *data = args[1];
    if (!PyBytes_CheckExact(data) || PyBytes_Size(data) >= FMUX_LONG ||
        fmux_is_patched(sock, fmux_names.send))
        return fmux__attempt_method(sock, fmux_names.send, data);
    int fd = fmux_socket_number(sock);
    if (fd == -2)
        return NULL;
    ssize_t sent = send(fd, PyBytes_AsString(data), (size_t)PyBytes_Size(data),
                        MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent >= 0 ? PyLong_FromSsize_t(sent) : fmux__failed(sock, fmux_names.send, data);
}

/* ---- waiting ----------------------------------------------------------------------- */

/* An awaitable: a future, and the reader or writer that sets its result. */
typedef struct {
    PyObject_HEAD PyObject *loop;
    PyObject *fd;
    PyObject *future;
    PyObject *handle; /* NULL: not registered any more */
    char writing, yielded;
} fmux_wait_t;

static PyTypeObject *fmux__wait_type;

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

int fmux_check_unused(PyObject *loop, PyObject *fd, PyObject *file)
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
    return fmux_done(FMUX_CALL_METHOD(_ensure_fd_no_transport, loop, file));
}

static PyObject *fmux__wait_new(PyObject *loop, PyObject *fd, bool writing)
{
    if (fmux_check_unused(loop, fd, fd) < 0)
        return NULL;
    PyObject *self = PyType_GenericAlloc(fmux__wait_type, 0);
    fmux_wait_t *wait = (fmux_wait_t *)self;
    if (self == NULL)
        return NULL;
    Py_INCREF(loop);
    wait->loop = loop;
    Py_INCREF(fd);
    wait->fd = fd;
    wait->writing = writing;
    wait->future = fmux_create_future(loop, NULL);
    PyObject *args[] = {fd, fmux_objects.set_ready, wait->future};
    if (wait->future != NULL)
        wait->handle = (writing ? fmux_add_writer : fmux_add_reader)(loop, args, 3, NULL);
    if (wait->handle == NULL)
        Py_CLEAR(self);
    return self;
}

PyObject *fmux_readable(PyObject *self, PyObject *fd)
{
    return fmux__wait_new(self, fd, false);
}

PyObject *fmux_writable(PyObject *self, PyObject *fd)
{
    return fmux__wait_new(self, fd, true);
}

/* Unregister, unless another reader or writer has taken the place. Returns 0, or -1 with
 * an exception. */
static int fmux__wait_end(fmux_wait_t *wait)
{
    PyObject *handle = wait->handle;
    if (handle == NULL)
        return 0;
    wait->handle = NULL;
    int result = fmux_handle_is_cancelled(handle);
    Py_DECREF(handle);
    if (result == 0)
        result = fmux_done((wait->writing ? fmux_remove_writer
                                          : fmux_remove_reader)(wait->loop, wait->fd));
    return result < 0 ? -1 : 0;
}

static PyObject *fmux__wait_iter(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

/* Yield the future, as its own iterator would; then end. If it is not done by then, the
 * caller finds that out, and waits again. */
static PyObject *fmux__wait_next(PyObject *self)
{
    fmux_wait_t *wait = (fmux_wait_t *)self;
    PyObject *future = wait->future;
    if (future == NULL || wait->yielded) {
        (void)fmux__wait_end(wait);
        return NULL;
    }
    wait->yielded = 1;
    if (PyObject_SetAttr(future, fmux_names._asyncio_future_blocking, Py_True) < 0)
        return NULL;
    Py_INCREF(future);
    return future;
}

/* throw(exception) or throw(class, value, traceback) */
static PyObject *fmux__wait_throw(PyObject *self, PyObject *args)
{
    PyObject *type, *value = NULL, *traceback = NULL;
    if (!PyArg_ParseTuple(args, "O|OO", &type, &value, &traceback) ||
        fmux__wait_end((fmux_wait_t *)self) < 0)
        return NULL;
    if (PyExceptionInstance_Check(type)) {
        value = type;
        type = (PyObject *)Py_TYPE(value);
    } else if (!PyExceptionClass_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "throw() needs an exception");
        return NULL;
    }
    if (traceback != NULL && !PyTraceBack_Check(traceback))
        traceback = NULL;
    Py_INCREF(type);
    Py_XINCREF(value);
    Py_XINCREF(traceback);
    PyErr_Restore(type, value, traceback);
    return NULL;
}

static PyObject *fmux__wait_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    return fmux__wait_end((fmux_wait_t *)self) < 0 ? NULL : fmux_none();
}

/* ---- the type ------------------------------------------------------------------------ */

static int fmux__traverse(PyObject *self, visitproc visit, void *arg)
{
    fmux_wait_t *wait = (fmux_wait_t *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(wait->loop);
    Py_VISIT(wait->future);
    Py_VISIT(wait->handle);
    return 0;
}

/* Keeps the loop and the number, to unregister. */
static int fmux__clear(PyObject *self)
{
    fmux_wait_t *wait = (fmux_wait_t *)self;
    Py_CLEAR(wait->handle); /* a coroutine that waits was closed before */
    Py_CLEAR(wait->future);
    return 0;
}

static void fmux__dealloc(PyObject *self)
{
    fmux_wait_t *wait = (fmux_wait_t *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject *exception_type, *value, *traceback;
    PyObject_GC_UnTrack(self);
    PyErr_Fetch(&exception_type, &value, &traceback);
    if (fmux__wait_end(wait) < 0)
        PyErr_WriteUnraisable(wait->loop);
    PyErr_Restore(exception_type, value, traceback);
    Py_CLEAR(wait->future);
    Py_CLEAR(wait->loop);
    Py_CLEAR(wait->fd);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef fmux__methods[] = {
    {"throw", fmux__wait_throw, METH_VARARGS, "Unregister, and raise the exception."},
    {"close", fmux__wait_close, METH_NOARGS, "Unregister."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot fmux__slots[] = {
    {Py_tp_doc, "Waits until a descriptor is ready, and is registered meanwhile."},
    {Py_am_await, fmux__wait_iter},
    {Py_tp_iter, fmux__wait_iter},
    {Py_tp_iternext, fmux__wait_next},
    {Py_tp_methods, fmux__methods},
    {Py_tp_traverse, fmux__traverse},
    {Py_tp_clear, fmux__clear},
    {Py_tp_dealloc, fmux__dealloc},
    {0, NULL},
};

static PyType_Spec fmux__spec = {
    .name = "fastmux._loop.Wait",
    .basicsize = sizeof(fmux_wait_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = fmux__slots,
};

int fmux_sock_calls_init(PyObject *module)
{
    fmux__wait_type = fmux_make_type(module, &fmux__spec, NULL);
    fmux_objects.set_ready = PyObject_GetAttrString(module, "set_ready");
    return fmux__wait_type == NULL || fmux_objects.set_ready == NULL ? -1 : 0;
}
