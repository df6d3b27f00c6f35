/* pipe_transport.c - the hot methods of the transports of pipes: read and deliver; write.
 * fastmux.loop.transports.pipe has all others.
 *
 * A pipe is a file object of any class: its descriptor is a FIFO, a socket or a
 * character device, and in non-blocking mode. A descriptor number is not a file: each
 * system call asks the object for its number first. If that fails, or it has another
 * one, the object was closed behind the transport's back, which is EBADF.
 */
#include "loop.h"

/* Returns the number of an open pipe; or -1 with an exception. May run Python code,
 * which may close the transport. */
static int fmux__number(const fmux_transport_t *transport)
{
    PyObject *pipe = transport->sock, *number = NULL;
    int expected = transport->fd;
    long fd = -1;
    if (pipe != NULL && pipe != Py_None) {
        Py_INCREF(pipe);
        number = FMUX_CALL_METHOD(fileno, pipe);
        Py_DECREF(pipe);
    }
    if (number != NULL)
        fd = PyLong_AsLong(number);
    Py_XDECREF(number);
    if (fd == expected && fd >= 0)
        return expected;
    if (PyErr_Occurred() != NULL && !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Clear();
    errno = EBADF;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* ---- reading ------------------------------------------------------------------- */

/* Read at most that many bytes. Returns a bytes object, which is empty at the end; None
 * if there is nothing now; or NULL with an exception. */
static PyObject *fmux__read(const fmux_transport_t *transport)
{
    int fd = fmux__number(transport);
    Py_ssize_t most = transport->max_size < FMUX_PIECE ? transport->max_size : FMUX_PIECE;
    if (fd < 0)
        return NULL;
    if (transport->closing || transport->paused)
        return fmux_none();
    errno = EINVAL;
    ssize_t got = most < 0 ? -1 : read(fd, fmux_piece, (size_t)most);
    if (got >= 0)
        return PyBytes_FromStringAndSize(fmux_piece, got);
    return fmux_try_again() ? fmux_none() : PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *fmux__read_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_transport_t *transport = fmux_transport(self);
    if (transport->closing)
        return fmux_none();
    /* A pending signal handler may raise. Run it before the data leaves the kernel. */
    if (PyErr_CheckSignals() < 0)
        return NULL;
    PyObject *data = fmux__read(transport), *result;
    if (data == NULL)
        return fmux_fatal(self, "Fatal read error on pipe transport");
    if (data == Py_None)
        return data;
    if (PyBytes_Size(data) == 0) {
        result = FMUX_CALL_METHOD(_at_eof, self);
    } else {
        PyObject *protocol =
            transport->protocol == NULL ? Py_None : transport->protocol;
        Py_INCREF(protocol);
        result = FMUX_CALL_METHOD(data_received, protocol, data);
        Py_DECREF(protocol);
    }
    Py_DECREF(data);
    return result;
}

/* ---- writing ------------------------------------------------------------------- */

/* Write to an open pipe. Returns the number of bytes, which is 0 if the pipe is full; or
 * -1 with an exception. */
static ssize_t fmux__write_some(int fd, const void *bytes, Py_ssize_t length)
{
    ssize_t sent = write(fd, bytes, (size_t)length);
    if (sent < 0 && fmux_try_again())
        return 0;
    if (sent < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    return sent;
}

/* Handle the exception of a write. */
static PyObject *fmux__write_error(PyObject *self)
{
    fmux_transport(self)->conn_lost += !fmux_is_exit();
    return fmux_fatal(self, "Fatal write error on pipe transport");
}

/* Write, and keep what the pipe does not take. No bytecode runs in between. */
static PyObject *fmux__write_now(PyObject *self, const fmux_buffer_t *buffer)
{
    fmux_transport_t *transport = fmux_transport(self);
    ssize_t sent = 0;
    if (!fmux_is_buffering(transport)) {
        int fd = fmux__number(transport);
        if (fd >= 0 && (transport->closing || transport->conn_lost != 0))
            return FMUX_CALL_METHOD(_lost_write, self);
        /* fileno() may have written, too */
        if (fd >= 0 && !fmux_is_buffering(transport))
            sent = fmux__write_some(fd, buffer->buf, buffer->len);
        if (fd < 0 || sent < 0)
            return fmux__write_error(self);
    }
    if (sent == buffer->len)
        return fmux_none();
    bool was_buffering = fmux_is_buffering(transport);
    PyObject *kept = fmux_transport_buffer(self);
    PyObject *rest = PyBytes_FromStringAndSize((char *)buffer->buf + sent, buffer->len - sent);
    PyObject *longer =
        kept == NULL || rest == NULL ? NULL : PySequence_InPlaceConcat(kept, rest);
    PyObject *none = longer == NULL ? NULL : fmux_buffered(self, was_buffering);
    Py_XDECREF(kept);
    Py_XDECREF(rest);
    Py_XDECREF(longer);
    return none;
}

static PyObject *fmux__write(PyObject *self, PyObject *data)
{
    fmux_transport_t *transport = fmux_transport(self);
    fmux_buffer_t buffer = {.obj = NULL};
    if (PyBytes_CheckExact(data)) {
        buffer.buf = PyBytes_AsString(data);
        buffer.len = PyBytes_Size(data);
        if (buffer.len == 0)
            return fmux_none();
    } else {
        if (!PyBytes_Check(data) && !PyByteArray_Check(data) && !PyMemoryView_Check(data)) {
            PyErr_Format(PyExc_AssertionError, "%R", data);
            return NULL;
        }
        int full = PyObject_IsTrue(data);
        if (full <= 0)
            return full < 0 ? NULL : fmux_none();
    }
    if (transport->closing || transport->conn_lost != 0)
        return FMUX_CALL_METHOD(_lost_write, self);
    if (buffer.buf == NULL &&
        fmux_python.get_buffer(data, &buffer, FMUX_BUFFER_READ) < 0) {
        if (!fmux_is_buffering(transport))
            return fmux__write_error(self);
        PyErr_SetString(PyExc_TypeError, "can't concat memoryview to bytearray"); /* has gaps */
        return NULL;
    }
    PyObject *none = fmux__write_now(self, &buffer);
    if (buffer.obj != NULL)
        fmux_python.release_buffer(&buffer);
    return none;
}

/* Write from the buffer, and remove what was written. No bytecode runs in between. */
static PyObject *fmux__write_buffer(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_transport_t *transport = fmux_transport(self);
    PyObject *pending = transport->buffer;
    int fd = fmux__number(transport);
    fmux_buffer_t buffer;
    if (fd < 0)
        return NULL;
    if (pending == NULL || pending != transport->buffer)
        return fmux_none(); /* fileno() has replaced it */
    Py_INCREF(pending);
    ssize_t sent = -1;
    if (fmux_python.get_buffer(pending, &buffer, FMUX_BUFFER_READ) == 0) {
        sent = buffer.len == 0 ? 0 : fmux__write_some(fd, buffer.buf, buffer.len);
        fmux_python.release_buffer(&buffer);
    }
    if (sent > 0 && PySequence_DelSlice(pending, 0, sent) < 0)
        sent = -1;
    Py_DECREF(pending);
    return sent < 0 ? NULL : fmux_none();
}

/* ---- the types ----------------------------------------------------------------- */

static PyMethodDef fmux__read_methods[] = {
    FMUX_METHOD("_read_ready", fmux__read_ready, METH_NOARGS, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef fmux__read_members[] = {
    FMUX_TRANSPORT_MEMBER("_loop", T_OBJECT, loop),
    FMUX_TRANSPORT_MEMBER("_pipe", T_OBJECT, sock),
    FMUX_TRANSPORT_MEMBER("_fileno", T_INT, fd),
    FMUX_TRANSPORT_MEMBER("_protocol", T_OBJECT, protocol),
    FMUX_TRANSPORT_MEMBER("_extra", T_OBJECT, extra),
    FMUX_TRANSPORT_MEMBER("max_size", T_PYSSIZET, max_size),
    FMUX_TRANSPORT_MEMBER("_closing", T_BOOL, closing),
    FMUX_TRANSPORT_MEMBER("_paused", T_BOOL, paused),
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef fmux__write_methods[] = {
    FMUX_METHOD("write", fmux__write, METH_O,
                "Write data now, and keep what the pipe does not take."),
    FMUX_METHOD("_write_buffer", fmux__write_buffer, METH_NOARGS, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef fmux__write_members[] = {
    FMUX_TRANSPORT_MEMBERS,
    FMUX_TRANSPORT_MEMBER("_pipe", T_OBJECT, sock),
    FMUX_TRANSPORT_MEMBER("_fileno", T_INT, fd),
    {NULL, 0, 0, 0, NULL},
};

int fmux_pipe_init(PyObject *module)
{
    if (fmux_transport_make(module, "fastmux._loop.ReadPipeCore", "ReadTransport",
                            fmux__read_methods, fmux__read_members, fmux_transport_attributes) < 0)
        return -1;
    return fmux_transport_make(module, "fastmux._loop.WritePipeCore", "_FlowControlMixin",
                               fmux__write_methods, fmux__write_members, fmux_transport_attributes);
}
