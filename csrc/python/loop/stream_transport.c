/* stream_transport.c - the hot methods of the transport of a stream socket: receive and
 * deliver, write, writelines. fastmux.loop.stream has all others.
 */
#include "loop.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum {
    FMUX__LONG = 64 * 1024, /* a send that releases the interpreter lock */
    FMUX__LINES = 64        /* buffers of one sendmsg() */
};

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
    if (stream->conn_lost != 0) { /* get_buffer() has closed the transport */
        Py_DECREF(target);
        return fmux_none();
    }
    if (fmux_python.get_buffer(target, &buffer, FMUX_BUFFER_WRITE) < 0) {
        Py_DECREF(target);
        return fmux_fatal(self, "Fatal read error on socket transport");
    }
    int fd = fmux_socket_number(stream->sock);
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

/* Receive, and make a bytes object. NULL without an exception: *got_out <= 0. */
static PyObject *fmux__receive(int fd, Py_ssize_t most, ssize_t *got_out)
{
    if (most < 0) { /* recv() would take it as a huge size */
        PyErr_SetString(PyExc_ValueError, "negative buffersize in recv");
        return NULL;
    }
    if (most <= FMUX_PIECE) {
        *got_out = recv(fd, fmux_piece, (size_t)most, MSG_DONTWAIT);
        return *got_out > 0 ? PyBytes_FromStringAndSize(fmux_piece, *got_out)
                            : NULL;
    }
    /* A program has asked for larger pieces. */
    PyObject *data = PyBytes_FromStringAndSize(NULL, most);
    if (data == NULL) {
        *got_out = 1;
        return NULL;
    }
    *got_out = recv(fd, PyBytes_AsString(data), (size_t)most, MSG_DONTWAIT);
    if (*got_out > 0) {
        PyObject *part =
            PyBytes_FromStringAndSize(PyBytes_AsString(data), *got_out);
        Py_DECREF(data);
        return part;
    }
    int error = errno;
    Py_DECREF(data);
    errno = error;
    return NULL;
}

static PyObject *fmux__read_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_transport_t *stream = fmux_transport(self);
    if (stream->conn_lost != 0)
        return fmux_none();
    /* A pending signal handler may raise. Run it before the data leaves the kernel. */
    if (PyErr_CheckSignals() < 0)
        return NULL;
    if (stream->buffered
            ? fmux_is_patched(stream->sock, fmux_names.recv_into, fmux_objects.recv_into)
            : fmux_is_patched(stream->sock, fmux_names.recv, fmux_objects.recv))
        return FMUX_CALL_METHOD(_read_by_method, self);
    int fd = fmux_socket_number(stream->sock);
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
    PyObject *data = fd < 0 ? NULL : fmux__receive(fd, stream->max_size, &got);
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

/* ---- sending ----------------------------------------------------------------------- */

/* Send n pieces. Returns the number of bytes sent, which is 0 if the socket is full;
 * or -1 with an exception. */
static ssize_t fmux__send(const fmux_transport_t *stream,
                          struct iovec *pieces, size_t count, Py_ssize_t total)
{
    int fd = fmux_socket_number(stream->sock);
    if (fd == -2)
        return -1;
    PyThreadState *state =
        total >= FMUX__LONG ? PyEval_SaveThread() : NULL;
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    errno = EBADF;
    ssize_t sent =
        fd < 0 ? -1
        : count == 1
            ? send(fd, pieces->iov_base, pieces->iov_len,
                   MSG_DONTWAIT | MSG_NOSIGNAL)
            : sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    int error = errno;
    if (state != NULL)
        PyEval_RestoreThread(state);
    errno = error;
    if (sent < 0 && fmux_try_again())
        return 0;
    if (sent < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    return sent;
}

/* Refuse to write after write_eof() or during sendfile(). */
static bool fmux__may_write(const fmux_transport_t *stream,
                            const char *after_eof, const char *in_sendfile)
{
    if (stream->eof)
        PyErr_SetString(PyExc_RuntimeError, after_eof);
    else if (stream->empty_waiter != NULL && stream->empty_waiter != Py_None)
        PyErr_SetString(PyExc_RuntimeError, in_sendfile);
    else
        return true;
    return false;
}

/* self.method(data, sent), which keeps what was not sent. */
static PyObject *fmux__keep(PyObject *self, PyObject *method, PyObject *data,
                            ssize_t sent)
{
    PyObject *number = PyLong_FromSsize_t(sent);
    PyObject *none =
        number == NULL ? NULL
                       : fmux_python.vectorcall_method(method, FMUX_PASS(self, data, number));
    Py_XDECREF(number);
    return none;
}

/* With gather_writes: keep small data for fmux_stream_flush. */
static bool fmux__gathers(const fmux_transport_t *stream, Py_ssize_t length)
{
    return length < FMUX__LONG &&
           (stream->gathering ||
            (stream->loop != NULL && PyObject_TypeCheck(stream->loop, fmux_loop_type) &&
             ((fmux_loop_t *)stream->loop)->gathers && !fmux_is_buffering(stream) &&
             stream->loop != NULL));
}

static PyObject *fmux__gather(PyObject *self, PyObject *data, const fmux_buffer_t *buffer)
{
    fmux_transport_t *stream = fmux_transport(self);
    /* Before the garbage collector can run code that sets _loop. */
    if (!stream->gathering && PyObject_TypeCheck(stream->loop, fmux_loop_type) &&
        PyList_Append(((fmux_loop_t *)stream->loop)->gathered, self) < 0)
        return NULL;
    PyObject *kept = fmux_transport_buffer(self), *piece = data, *none = NULL;
    if (PyBytes_CheckExact(data))
        Py_INCREF(piece);
    else
        piece = PyBytes_FromStringAndSize(buffer->buf, buffer->len);
    if (kept != NULL && piece != NULL) {
        stream->gathering = 1;
        stream->gathered += buffer->len;
        none = FMUX_CALL_METHOD(append, kept, piece);
    }
    Py_XDECREF(kept);
    Py_XDECREF(piece);
    if (none != NULL && stream->gathered >= FMUX__LONG && fmux_stream_flush(self) < 0)
        Py_CLEAR(none);
    return none;
}

static PyObject *fmux__write(PyObject *self, PyObject *data)
{
    fmux_transport_t *stream = fmux_transport(self);
    fmux_buffer_t buffer = {.obj = NULL};
    struct iovec piece;
    if (PyBytes_CheckExact(data)) {
        buffer.buf = PyBytes_AsString(data);
        buffer.len = PyBytes_Size(data);
    } else if (!PyBytes_Check(data) && !PyByteArray_Check(data) &&
               !PyMemoryView_Check(data)) {
        PyObject *name =
            PyObject_GetAttrString((PyObject *)Py_TYPE(data), "__name__");
        if (name != NULL)
            PyErr_Format(PyExc_TypeError,
                         "data argument must be a bytes-like object, not %R",
                         name);
        Py_XDECREF(name);
        return NULL;
    }
    if (!fmux__may_write(stream, "Cannot call write() after write_eof()",
                         "unable to write; sendfile is in progress"))
        return NULL;
    if (buffer.buf == NULL &&
        fmux_python.get_buffer(data, &buffer, FMUX_BUFFER_READ) < 0)
        return fmux_fatal(self, "Fatal write error on socket transport");
    PyObject *result = NULL;
    if (buffer.len == 0) {
        result = fmux_none();
    } else if (stream->conn_lost != 0) {
        result = FMUX_CALL_METHOD(_lost_write, self);
    } else if (fmux__gathers(stream, buffer.len)) {
        result = fmux__gather(self, data, &buffer);
    } else if (fmux_is_buffering(stream)) {
        result = fmux__keep(self, fmux_names._keep_rest, data, 0);
    } else if (fmux_is_patched(stream->sock, fmux_names.send, fmux_objects.send)) {
        result = FMUX_CALL_METHOD(_write_by_method, self, data);
    } else {
        piece = (struct iovec){buffer.buf, (size_t)buffer.len};
        ssize_t sent = fmux__send(stream, &piece, 1, buffer.len);
        if (sent < 0) {
            result = fmux_fatal(self, "Fatal write error on socket transport");
        } else if (sent == buffer.len) {
            result = fmux_none();
        } else {
            result = fmux__keep(self, fmux_names._keep_rest, data, sent);
        }
    }
    if (buffer.obj != NULL)
        fmux_python.release_buffer(&buffer);
    return result;
}

/* Send a tuple of at most FMUX__LINES buffers at once. Returns as fmux__send. */
static ssize_t fmux__send_lines(const fmux_transport_t *stream,
                                PyObject *lines, Py_ssize_t *total_out)
{
    fmux_buffer_t buffers[FMUX__LINES];
    struct iovec pieces[FMUX__LINES];
    Py_ssize_t count = PyTuple_Size(lines), filled = 0;
    ssize_t sent = -1;
    *total_out = 0;
    for (; filled < count; filled++) {
        if (fmux_python.get_buffer(PyTuple_GetItem(lines, filled),
                                   &buffers[filled], FMUX_BUFFER_READ) < 0)
            break;
        pieces[filled] = (struct iovec){buffers[filled].buf,
                                        (size_t)buffers[filled].len};
        *total_out += buffers[filled].len;
    }
    if (filled == count)
        sent = fmux__send(stream, pieces, (size_t)count, *total_out);
    while (filled > 0)
        fmux_python.release_buffer(&buffers[--filled]);
    return sent;
}

int fmux_stream_flush(PyObject *self)
{
    fmux_transport_t *stream = fmux_transport(self);
    stream->gathering = 0;
    stream->gathered = 0;
    if (stream->conn_lost != 0 || !fmux_is_buffering(stream))
        return 0;
    PyObject *lines = PySequence_Tuple(stream->buffer), *result = NULL;
    Py_ssize_t count = lines == NULL ? 0 : PyTuple_Size(lines), total = -1;
    ssize_t sent = count == 0 || count > FMUX__LINES ? 0 : fmux__send_lines(stream, lines, &total);
    if (count > 0 && sent == total && !stream->closing && !stream->eof && !stream->protocol_paused &&
        (stream->empty_waiter == NULL || stream->empty_waiter == Py_None)) {
        result = FMUX_CALL_METHOD(clear, stream->buffer);
    } else if (lines != NULL) {
        PyErr_Clear(); /* _flush() sends once more, and handles the error */
        result = fmux__keep(self, fmux_names._flush, Py_None, sent < 0 ? 0 : sent);
    }
    Py_XDECREF(lines);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* With gather_writes, each line is one write. */
static PyObject *fmux__gather_lines(PyObject *self, PyObject *lines)
{
    PyObject *none = fmux_none();
    for (Py_ssize_t i = 0; none != NULL && i < PyTuple_Size(lines); i++) {
        PyObject *view = PyMemoryView_FromObject(PyTuple_GetItem(lines, i));
        Py_DECREF(none);
        none = view == NULL ? NULL : fmux__write(self, view);
        Py_XDECREF(view);
    }
    return none;
}

static PyObject *fmux__writelines(PyObject *self, PyObject *iterable)
{
    fmux_transport_t *stream = fmux_transport(self);
    if (!fmux__may_write(stream, "Cannot call writelines() after write_eof()",
                         "unable to writelines; sendfile is in progress"))
        return NULL;
    PyObject *lines = PySequence_Tuple(iterable), *result;
    if (lines == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_Size(lines), total = 0;
    if (count == 0) {
        result = fmux_none();
    } else if (stream->conn_lost != 0) {
        result = FMUX_CALL_METHOD(_lost_write, self);
    } else if (fmux__gathers(stream, 0)) {
        result = fmux__gather_lines(self, lines);
    } else if (count > FMUX__LINES || fmux_is_buffering(stream) ||
               fmux_is_patched(stream->sock, fmux_names.sendmsg, fmux_objects.sendmsg)) {
        result = fmux__keep(self, fmux_names._keep_lines, lines, 0);
    } else {
        ssize_t sent = fmux__send_lines(stream, lines, &total);
        if (sent < 0 && !PyErr_ExceptionMatches(PyExc_OSError)) {
            result = NULL; /* not bytes-like: the caller's error */
        } else if (sent < 0) {
            result = fmux_fatal(self, "Fatal write error on socket transport");
        } else if (sent == total) {
            result = fmux_none();
        } else {
            result = fmux__keep(self, fmux_names._keep_lines, lines, sent);
        }
    }
    Py_DECREF(lines);
    return result;
}

/* ---- the type ------------------------------------------------------------------------ */

static PyMethodDef fmux__methods[] = {
    FMUX_METHOD("_read_ready", fmux__read_ready, METH_NOARGS, NULL),
    FMUX_METHOD("write", fmux__write, METH_O,
                "Send data now, and keep what the socket does not take."),
    FMUX_METHOD("writelines", fmux__writelines, METH_O,
                "Send a list of bytes-like objects in one system call."),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef fmux__members[] = {
    FMUX_TRANSPORT_MEMBERS,
    FMUX_TRANSPORT_MEMBER("_sock", T_OBJECT, sock),
    FMUX_TRANSPORT_MEMBER("_sock_fd", T_INT, fd),
    FMUX_TRANSPORT_MEMBER("_server", T_OBJECT, server),
    FMUX_TRANSPORT_MEMBER("_empty_waiter", T_OBJECT, empty_waiter),
    FMUX_TRANSPORT_MEMBER("_eof", T_BOOL, eof),
    FMUX_TRANSPORT_MEMBER("_buffered", T_BOOL, buffered),
    {NULL, 0, 0, 0, NULL},
};

int fmux_stream_init(PyObject *module)
{
    return fmux_transport_make(module, "fastmux._loop.StreamCore", "_FlowControlMixin",
                               fmux__methods, fmux__members);
}
