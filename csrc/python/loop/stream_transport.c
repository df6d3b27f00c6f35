/* stream_transport.c - the transport of a stream socket: receive and deliver.
 * stream_send.c has the sending half, fastmux.loop.transports.stream the methods that are called rarely.
 */
#include "loop.h"

#include <sys/socket.h>

/* ---- receiving ----------------------------------------------------------------- */

/* Handle a result of recv that is not data: the end of the stream, or an error. */
static PyObject *fmux__no_data(PyObject *self, ssize_t got)
{
    if (got == 0)
        return FMUX_CALL_METHOD(_read_ready__on_eof, self);
    if (fmux_try_again())
        return fmux_none();
    PyErr_SetFromErrno(PyExc_OSError);
    return fmux_fatal(self, "Fatal read error on socket transport");
}

/* Replace the exception by that of recv_into(), on a socket that is not open. */
static void fmux__refuse_buffer(PyObject *target)
{
    PyErr_Clear();
    PyObject *type = fmux_objects.socket_base, *sock = PyObject_CallMethod(type, "__new__", "O", type);
    if (sock != NULL)
        (void)fmux_done(FMUX_CALL_METHOD(recv_into, sock, target));
    Py_XDECREF(sock);
}

/* Receive into the buffer of a BufferedProtocol. */
static PyObject *fmux__fill(PyObject *self, fmux_transport_t *stream,
                            PyObject *protocol)
{
    PyObject *hint = PyLong_FromLong(-1), *number;
    PyObject *target =
        hint == NULL ? NULL : FMUX_CALL_METHOD(get_buffer, protocol, hint);
    fmux_buffer_t buffer;
    Py_XDECREF(hint);
    if (target != NULL && PyObject_Size(target) == 0)
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
    if (PyErr_Occurred() != NULL) {
        Py_XDECREF(target);
        return fmux_fatal(self,
                          "Fatal error: protocol.get_buffer() call failed.");
    }
    if (fmux_python.get_buffer(target, &buffer, FMUX_BUFFER_WRITE) < 0) {
        fmux__refuse_buffer(target);
        Py_DECREF(target);
        return fmux_fatal(self, "Fatal read error on socket transport");
    }
    int fd = fmux_stream_number(stream);
    errno = EBADF;
    ssize_t got =
        fd < 0 ? -1 : recv(fd, buffer.buf, (size_t)buffer.len, MSG_DONTWAIT);
    int error = errno;
    fmux_python.release_buffer(&buffer);
    Py_DECREF(target);
    errno = error;
    if (got <= 0)
        return fmux__no_data(self, got);
    number = PyLong_FromSsize_t(got);
    /* get_buffer() may have set another one. */
    protocol = stream->protocol == NULL ? Py_None : stream->protocol;
    Py_INCREF(protocol);
    PyObject *result =
        number == NULL ? NULL : FMUX_CALL_METHOD(buffer_updated, protocol, number);
    Py_XDECREF(number);
    Py_DECREF(protocol);
    return result != NULL
               ? result
               : fmux_fatal(
                     self, "Fatal error: protocol.buffer_updated() call failed.");
}

static PyObject *fmux__read_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_transport_t *stream = fmux_transport(self);
    /* A pending signal handler may raise, or abort the transport. Run it before the data
     * leaves the kernel. */
    if (PyErr_CheckSignals() < 0)
        return NULL;
    if (stream->conn_lost != 0)
        return fmux_none();
    if (stream->buffered
            ? fmux_stream_is_patched(stream, fmux_names.recv_into)
            : fmux_stream_is_patched(stream, fmux_names.recv))
        return FMUX_CALL_METHOD(_read_by_method, self);
    int fd = fmux_stream_number(stream);
    PyObject *protocol = stream->protocol;
    if (fd == -2 || protocol == NULL)
        return fd == -2 ? NULL : fmux__no_data(self, 0);
    PyObject *result;
    ssize_t got = -1;
    Py_INCREF(protocol);
    if (stream->buffered) {
        result = fmux__fill(self, stream, protocol);
        Py_DECREF(protocol);
        return result;
    }
    errno = EBADF;
    PyObject *data = fd < 0 ? NULL : fmux_receive(fd, stream->max_size, NULL, &got);
    if (data == NULL) {
        result = PyErr_Occurred() != NULL
                     ? fmux_fatal(self, "Fatal read error on socket transport")
                     : fmux__no_data(self, got);
    } else {
        result = FMUX_CALL_METHOD(data_received, protocol, data);
        Py_DECREF(data);
        if (result == NULL)
            result = fmux_fatal(
                self, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(protocol);
    return result;
}

/* ---- the type ------------------------------------------------------------------------ */

static PyMethodDef fmux__methods[] = {
    FMUX_METHOD("is_closing", fmux_is_closing, METH_NOARGS,
                "Return whether the transport is closing or closed."),
    FMUX_METHOD("close", fmux_stream_close, METH_NOARGS,
                "Close the transport, after the buffer was sent."),
    FMUX_METHOD("_start", fmux_stream_start, METH_VARARGS,
                "_start(loop, sock, protocol, waiter, extra, server, context): begin to serve a socket."),
    FMUX_METHOD("_add_reader", fmux_stream_add_reader, METH_FASTCALL, NULL),
    FMUX_METHOD("_add_writer", fmux_stream_add_writer, METH_FASTCALL, NULL),
    FMUX_METHOD("_call_connection_lost", fmux_stream_connection_lost, METH_O, NULL),
    FMUX_METHOD("__del__", fmux_stream_del, METH_NOARGS, NULL),
    FMUX_METHOD("_read_ready", fmux__read_ready, METH_NOARGS, NULL),
    FMUX_METHOD("_write_ready", fmux_stream_write_ready, METH_NOARGS, NULL),
    FMUX_METHOD("_keep", fmux_stream_keep, METH_VARARGS,
                "_keep(lines, sent): keep the rest of a tuple of buffers, and send it later."),
    FMUX_METHOD("_drop", fmux_stream_drop, METH_O,
                "_drop(sent): remove what was sent from the buffer."),
    FMUX_METHOD("write", fmux_stream_write, METH_O,
                "Send data now, and keep what the socket does not take."),
    FMUX_METHOD("writelines", fmux_stream_writelines, METH_O,
                "Send a list of bytes-like objects in one system call."),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef fmux__members[] = {
    FMUX_TRANSPORT_MEMBERS,
    FMUX_TRANSPORT_MEMBER("_sock_fd", T_INT, fd),
    FMUX_TRANSPORT_MEMBER("_server", T_OBJECT, server),
    FMUX_TRANSPORT_MEMBER("_context", T_OBJECT, context),
    FMUX_TRANSPORT_MEMBER("_empty_waiter", T_OBJECT, empty_waiter),
    FMUX_TRANSPORT_MEMBER("_eof", T_BOOL, eof),
    FMUX_TRANSPORT_MEMBER("_buffered", T_BOOL, buffered),
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef fmux__attributes[] = {
    FMUX_TRANSPORT_ATTRIBUTES,
    {"_sock", fmux_stream_get_sock, fmux_stream_set_sock, NULL, NULL},
    {"_closed_sock", fmux_stream_get_closed_sock, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

int fmux_stream_init(PyObject *module)
{
    return fmux_transport_make(module, "fastmux._loop.StreamCore", "_FlowControlMixin",
                               fmux__methods, fmux__members, fmux__attributes);
}
