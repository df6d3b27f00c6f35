/* stream_send.c - the sending half of the transport of a stream socket: write(),
 * writelines(), the buffer of what the socket has not taken, and gather_writes.
 *
 * No bytecode runs between a system call that sends and the change of the buffer that
 * records it. So an exception of a signal handler neither loses data nor sends it twice.
 */
#include "loop.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum { FMUX__LINES = 256 }; /* buffers of one sendmsg() */

/* ---- system calls ------------------------------------------------------------------ */

/* Send n pieces. Returns the number of bytes sent, which is 0 if the socket is full;
 * or -1 with an exception. */
static ssize_t fmux__send(const fmux_transport_t *stream,
                          struct iovec *pieces, size_t count, Py_ssize_t total)
{
    int fd = fmux_stream_number(stream);
    if (fd == -2)
        return -1;
    PyThreadState *state =
        total >= FMUX_LONG ? PyEval_SaveThread() : NULL;
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

/* memoryview(piece)[count:] */
static PyObject *fmux__behind(PyObject *piece, Py_ssize_t count)
{
    PyObject *view = PyMemoryView_FromObject(piece);
    PyObject *rest = view == NULL ? NULL : PySequence_GetSlice(view, count, PY_SSIZE_T_MAX);
    Py_XDECREF(view);
    return rest;
}

/* ---- the buffer: what the socket has not taken --------------------------------- */

/* A list of the pieces of a tuple of buffers that are not among the first sent bytes.
 * Whatever may change later is copied. */
static PyObject *fmux__rest(PyObject *lines, ssize_t sent)
{
    PyObject *pieces = PyList_New(0);
    Py_ssize_t count = PyTuple_Size(lines);
    for (Py_ssize_t i = 0; pieces != NULL && i < count; i++) {
        PyObject *line = PyTuple_GetItem(lines, i), *piece = NULL;
        fmux_buffer_t buffer;
        if (fmux_python.get_buffer(line, &buffer, FMUX_BUFFER_READ) < 0) {
            Py_DECREF(pieces);
            return NULL;
        }
        bool is_sent = buffer.len <= sent;
        if (is_sent) {
            sent -= buffer.len;
        } else if (!PyBytes_CheckExact(line)) {
            piece = PyBytes_FromStringAndSize((char *)buffer.buf + sent, buffer.len - sent);
        } else if (sent == 0) {
            Py_INCREF(line);
            piece = line;
        } else {
            piece = fmux__behind(line, sent);
        }
        fmux_python.release_buffer(&buffer);
        if (!is_sent) {
            sent = 0;
            if (piece == NULL || PyList_Append(pieces, piece) < 0)
                Py_CLEAR(pieces);
            Py_XDECREF(piece);
        }
    }
    return pieces;
}

/* Keep the rest of a tuple of buffers, and send it when the socket is writable. Between
 * the system call that has sent a part and this, no bytecode runs. */
static PyObject *fmux__keep(PyObject *self, PyObject *lines, ssize_t sent)
{
    fmux_transport_t *stream = fmux_transport(self);
    PyObject *pieces = fmux__rest(lines, sent);
    PyObject *buffer = pieces == NULL ? NULL : fmux_transport_buffer(self);
    bool was_buffering = fmux_is_buffering(stream);
    int result = buffer == NULL ? -1 : fmux_done(FMUX_CALL_METHOD(extend, buffer, pieces));
    Py_XDECREF(pieces);
    Py_XDECREF(buffer);
    return result < 0 ? NULL : fmux_buffered(self, was_buffering);
}

static PyObject *fmux__keep_one(PyObject *self, PyObject *data, ssize_t sent)
{
    PyObject *lines = PyTuple_Pack(1, data);
    PyObject *none = lines == NULL ? NULL : fmux__keep(self, lines, sent);
    Py_XDECREF(lines);
    return none;
}

/* The first pieces of the buffer, as many as one system call sends. */
static PyObject *fmux__first_pieces(const fmux_transport_t *stream)
{
    PyObject *buffer = stream->buffer, *pieces = NULL;
    Py_ssize_t count = buffer == NULL ? 0 : PyObject_Size(buffer);
    if (count > FMUX__LINES)
        count = FMUX__LINES;
    if (count < 0 || (pieces = PyTuple_New(count)) == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *piece = PySequence_GetItem(buffer, i);
        if (piece == NULL || PyTuple_SetItem(pieces, i, piece) < 0) {
            Py_DECREF(pieces);
            return NULL;
        }
    }
    return pieces;
}

/* Remove what was sent from the buffer. Returns 0, or -1 with an exception. */
static int fmux__drop(const fmux_transport_t *stream, ssize_t sent)
{
    PyObject *buffer = stream->buffer == NULL ? Py_None : stream->buffer;
    int result = 0;
    Py_INCREF(buffer);
    while (result == 0 && sent > 0) {
        PyObject *first = PySequence_GetItem(buffer, 0), *rest = NULL;
        Py_ssize_t length = first == NULL ? -1 : PyObject_Size(first);
        if (length < 0) {
            result = -1;
        } else if (length <= sent) {
            result = fmux_done(FMUX_CALL_METHOD(popleft, buffer));
            sent -= length;
        } else {
            rest = fmux__behind(first, sent);
            result = rest == NULL ? -1 : PySequence_SetItem(buffer, 0, rest);
            sent = 0;
        }
        Py_XDECREF(rest);
        Py_XDECREF(first);
    }
    Py_DECREF(buffer);
    return result;
}

/* Send from the buffer and remove what was sent. Returns the number of bytes, or -1
 * with an exception. */
static ssize_t fmux__send_buffer(const fmux_transport_t *stream)
{
    Py_ssize_t total;
    PyObject *pieces = fmux__first_pieces(stream);
    if (pieces == NULL)
        return -1;
    ssize_t sent =
        PyTuple_Size(pieces) == 0 ? 0 : fmux__send_lines(stream, pieces, &total);
    Py_DECREF(pieces);
    return sent > 0 && fmux__drop(stream, sent) < 0 ? -1 : sent;
}

PyObject *fmux_stream_write_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_transport_t *stream = fmux_transport(self);
    if (PyErr_CheckSignals() < 0)
        return NULL;
    if (stream->conn_lost != 0) /* perhaps since a signal handler */
        return fmux_none();
    if (fmux_stream_is_patched(stream, fmux_names.sendmsg))
        return FMUX_CALL_METHOD(_write_ready_by_method, self);
    ssize_t sent = fmux__send_buffer(stream);
    if (sent < 0) {
        if (fmux_is_exit())
            return NULL;
        PyObject *exception = fmux_take_exception();
        PyObject *none = FMUX_CALL_METHOD(_write_failed, self, exception);
        Py_XDECREF(exception);
        return none;
    }
    /* Also if the buffer was empty: an exception may have kept the last call from it. */
    return sent == 0 && fmux_is_buffering(stream) ? fmux_none()
                                                  : FMUX_CALL_METHOD(_after_sending, self);
}

PyObject *fmux_stream_keep(PyObject *self, PyObject *args)
{
    PyObject *lines;
    Py_ssize_t sent;
    if (!PyArg_ParseTuple(args, "O!n", &PyTuple_Type, &lines, &sent))
        return NULL;
    return fmux__keep(self, lines, sent);
}

PyObject *fmux_stream_drop(PyObject *self, PyObject *number)
{
    Py_ssize_t sent = PyLong_AsSsize_t(number);
    if ((sent == -1 && PyErr_Occurred() != NULL) || fmux__drop(fmux_transport(self), sent) < 0)
        return NULL;
    return fmux_none();
}

/* ---- gather_writes --------------------------------------------------------------- */

int fmux_stream_flush(PyObject *self)
{
    fmux_transport_t *stream = fmux_transport(self);
    stream->gathering = 0;
    stream->gathered = 0;
    if (stream->conn_lost != 0 || !fmux_is_buffering(stream))
        return 0;
    if (!fmux_stream_is_patched(stream, fmux_names.sendmsg) && fmux__send_buffer(stream) < 0)
        PyErr_Clear(); /* _flush() sends once more, and handles the error */
    else if (!fmux_is_buffering(stream) && !stream->closing && !stream->eof &&
             !stream->protocol_paused &&
             (stream->empty_waiter == NULL || stream->empty_waiter == Py_None))
        return 0;
    return fmux_done(FMUX_CALL_METHOD(_flush, self));
}

/* With gather_writes: keep small data for fmux_stream_flush. */
static bool fmux__gathers(const fmux_transport_t *stream, Py_ssize_t length)
{
    return length < FMUX_LONG &&
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
    if (none != NULL && stream->gathered >= FMUX_LONG && fmux_stream_flush(self) < 0)
        Py_CLEAR(none);
    return none;
}

/* ---- write(), writelines() -------------------------------------------------------- */

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

PyObject *fmux_stream_write(PyObject *self, PyObject *data)
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
    if (buffer.buf == NULL) {
        int full = PyObject_IsTrue(data); /* fails if it is released */
        if (full <= 0)
            return full < 0 ? NULL : fmux_none();
        if (stream->conn_lost != 0)
            return FMUX_CALL_METHOD(_lost_write, self);
        if (fmux_python.get_buffer(data, &buffer, FMUX_BUFFER_READ) < 0)
            return fmux_fatal(self, "Fatal write error on socket transport");
    }
    PyObject *result = NULL;
    if (buffer.len == 0) {
        result = fmux_none();
    } else if (stream->conn_lost != 0) {
        result = FMUX_CALL_METHOD(_lost_write, self);
    } else if (fmux__gathers(stream, buffer.len)) {
        result = fmux__gather(self, data, &buffer);
    } else if (fmux_is_buffering(stream)) {
        result = fmux__keep_one(self, data, 0);
    } else if (fmux_stream_is_patched(stream, fmux_names.send)) {
        result = FMUX_CALL_METHOD(_write_by_method, self, data);
    } else {
        piece = (struct iovec){buffer.buf, (size_t)buffer.len};
        ssize_t sent = fmux__send(stream, &piece, 1, buffer.len);
        if (sent < 0) {
            result = fmux_fatal(self, "Fatal write error on socket transport");
        } else if (sent == buffer.len) {
            result = fmux_none();
        } else {
            result = fmux__keep_one(self, data, sent);
        }
    }
    if (buffer.obj != NULL)
        fmux_python.release_buffer(&buffer);
    return result;
}

/* Check that the lines from start on are bytes-like, before those in front are sent. Returns
 * false with an exception. */
static bool fmux__are_buffers(PyObject *lines, Py_ssize_t start)
{
    Py_ssize_t count = PyTuple_Size(lines);
    for (Py_ssize_t i = start; i < count; i++) {
        PyObject *line = PyTuple_GetItem(lines, i);
        fmux_buffer_t buffer;
        if (PyBytes_CheckExact(line))
            continue;
        if (fmux_python.get_buffer(line, &buffer, FMUX_BUFFER_READ) < 0)
            return false;
        fmux_python.release_buffer(&buffer);
    }
    return true;
}

/* With gather_writes, each line is one write. */
static PyObject *fmux__gather_lines(PyObject *self, PyObject *lines)
{
    PyObject *none = fmux_none();
    for (Py_ssize_t i = 0; none != NULL && i < PyTuple_Size(lines); i++) {
        PyObject *view = PyMemoryView_FromObject(PyTuple_GetItem(lines, i));
        Py_DECREF(none);
        none = view == NULL ? NULL : fmux_stream_write(self, view);
        Py_XDECREF(view);
    }
    return none;
}

PyObject *fmux_stream_writelines(PyObject *self, PyObject *iterable)
{
    fmux_transport_t *stream = fmux_transport(self);
    if (!fmux__may_write(stream, "Cannot call writelines() after write_eof()",
                         "unable to writelines; sendfile is in progress"))
        return NULL;
    int full = fmux_objects.skips_false_lines ? PyObject_IsTrue(iterable) : 1;
    if (full <= 0)
        return full < 0 ? NULL : fmux_none();
    PyObject *lines = PySequence_Tuple(iterable), *result;
    if (lines == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_Size(lines), total = 0;
    if (count == 0) {
        result = fmux_none();
    } else if (stream->conn_lost != 0) {
        result = FMUX_CALL_METHOD(_lost_write, self);
    } else if (fmux__gathers(stream, 0)) {
        result = fmux__are_buffers(lines, 0) ? fmux__gather_lines(self, lines) : NULL;
    } else if (fmux_is_buffering(stream) ||
               fmux_stream_is_patched(stream, fmux_names.sendmsg)) {
        result = fmux__keep(self, lines, 0);
    } else if (!fmux__are_buffers(lines, FMUX__LINES)) {
        result = NULL;
    } else {
        PyObject *first = PyTuple_GetSlice(lines, 0, FMUX__LINES);
        ssize_t sent = first == NULL ? -1 : fmux__send_lines(stream, first, &total);
        Py_XDECREF(first);
        if (sent < 0 && !PyErr_ExceptionMatches(PyExc_OSError)) {
            result = NULL; /* not bytes-like: the caller's error */
        } else if (sent < 0) {
            result = fmux_fatal(self, "Fatal write error on socket transport");
        } else if (sent == total && count <= FMUX__LINES) {
            result = fmux_none();
        } else {
            result = fmux__keep(self, lines, sent);
        }
    }
    Py_DECREF(lines);
    return result;
}
