/* stream_transport.c - the hot methods of the transport of a stream socket: receive and
 * deliver, write, writelines. fastmux.loop.stream has all others.
 *
 * A descriptor number is not a file: each system call asks the socket object for its
 * number first, so a socket that was closed or detached behind the transport's back
 * is EBADF, as in the standard transport, and never another file.
 */
#include "loop.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum {
    FMUX__PIECE = 256 * 1024,  /* bytes of one data_received() */
    FMUX__LONG = 64 * 1024,    /* a send that releases the interpreter lock */
    FMUX__LINES = 64           /* buffers of one sendmsg() */
};

/* The part of a transport behind that of the standard base class, whose own
 * attributes stay unused: the members below hide them. */
typedef struct {
    PyObject *loop;
    PyObject *sock;
    PyObject *protocol;
    PyObject *extra;
    PyObject *server;
    PyObject *buffer; /* a deque of what is not sent yet; NULL before the first */
    PyObject *empty_waiter;
    Py_ssize_t max_size; /* bytes of one data_received() */
    Py_ssize_t high_water, low_water;
    Py_ssize_t gathered; /* bytes since the last flush */
    int fd;
    int conn_lost; /* connection_lost() is scheduled, or was called */
    char closing, paused, eof, protocol_paused, protocol_connected;
    char buffered;  /* the protocol is a BufferedProtocol */
    char gathering; /* in loop->gathered: its buffer is sent after the turn */
} fmux_stream_transport_t;

static Py_ssize_t fmux__offset;

/* Received data on its way into a bytes object. Used with the interpreter lock, and
 * no Python code runs between receiving and copying. */
static char fmux__piece[FMUX__PIECE];

static inline fmux_stream_transport_t *fmux__stream(PyObject *self)
{
    return (fmux_stream_transport_t *)((char *)self + fmux__offset);
}

/* ---- calls of Python methods ------------------------------------------------ */

/* Call self._fatal_error(exception, message) for the exception that is set, unless
 * that one ends the program. */
static PyObject *fmux__fatal(PyObject *self, const char *message)
{
    if (fmux_is_exit())
        return NULL;
    PyObject *exception = fmux_take_exception();
    PyObject *text = PyUnicode_FromString(message);
    PyObject *none =
        text == NULL ? NULL : FMUX_CALL_METHOD(_fatal_error, self, exception, text);
    Py_XDECREF(exception);
    Py_XDECREF(text);
    return none;
}

/* The number of the socket, -1 if it is closed or detached; -2 with an exception. */
static int fmux__number(const fmux_stream_transport_t *stream)
{
    if (stream->sock == NULL || stream->sock == Py_None)
        return -1;
    PyObject *number = FMUX_CALL(fmux_objects.fileno, stream->sock);
    if (number == NULL)
        return -2;
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    return (int)fd;
}

/* Whether a program has replaced a method of socket.socket: then it is called. */
static bool fmux__is_patched(const fmux_stream_transport_t *stream, PyObject *name,
                             PyObject *original)
{
    if (stream->sock == NULL || stream->sock == Py_None)
        return false;
    PyObject *method = PyObject_GetAttr((PyObject *)Py_TYPE(stream->sock), name);
    Py_XDECREF(method);
    PyErr_Clear();
    return method != original;
}

static bool fmux__try_again(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* ---- receiving ----------------------------------------------------------------- */

/* Handle a result of recv that is not data: the end of the stream, or an error. */
static PyObject *fmux__no_data(PyObject *self, ssize_t got)
{
    if (got == 0)
        return FMUX_CALL_METHOD(_read_ready__on_eof, self);
    if (fmux__try_again())
        return fmux_none();
    PyErr_SetFromErrno(PyExc_OSError);
    return fmux__fatal(self, "Fatal read error on socket transport");
}

/* Receive into the buffer of a BufferedProtocol. */
static PyObject *fmux__fill(PyObject *self, fmux_stream_transport_t *stream, int fd,
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
        return fmux__fatal(self,
                           "Fatal error: protocol.get_buffer() call failed.");
    }
    if (stream->conn_lost != 0) { /* get_buffer() has closed the transport */
        Py_DECREF(target);
        return fmux_none();
    }
    if (fmux_python.get_buffer(target, &buffer, FMUX_BUFFER_WRITE) < 0) {
        Py_DECREF(target);
        return fmux__fatal(self, "Fatal read error on socket transport");
    }
    fd = fmux__number(stream);
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
    PyObject *result =
        number == NULL ? NULL : FMUX_CALL_METHOD(buffer_updated, protocol, number);
    Py_XDECREF(number);
    return result != NULL
               ? result
               : fmux__fatal(
                     self, "Fatal error: protocol.buffer_updated() call failed.");
}

/* Receive, and make a bytes object. NULL without an exception: *got_out <= 0. */
static PyObject *fmux__receive(int fd, Py_ssize_t most, ssize_t *got_out)
{
    if (most < 0) { /* recv() would take it as a huge size */
        PyErr_SetString(PyExc_ValueError, "negative buffersize in recv");
        return NULL;
    }
    if (most <= FMUX__PIECE) {
        *got_out = recv(fd, fmux__piece, (size_t)most, MSG_DONTWAIT);
        return *got_out > 0 ? PyBytes_FromStringAndSize(fmux__piece, *got_out)
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
    fmux_stream_transport_t *stream = fmux__stream(self);
    if (stream->conn_lost != 0)
        return fmux_none();
    /* A pending signal handler may raise. Run it before the data leaves the kernel. */
    if (PyErr_CheckSignals() < 0)
        return NULL;
    if (stream->buffered
            ? fmux__is_patched(stream, fmux_names.recv_into, fmux_objects.recv_into)
            : fmux__is_patched(stream, fmux_names.recv, fmux_objects.recv))
        return FMUX_CALL_METHOD(_read_by_method, self);
    int fd = fmux__number(stream);
    PyObject *protocol = stream->protocol;
    if (fd == -2 || protocol == NULL)
        return fd == -2 ? NULL : fmux__no_data(self, 0);
    PyObject *result;
    ssize_t got = -1;
    Py_INCREF(protocol);
    if (stream->buffered) {
        result = fmux__fill(self, stream, fd, protocol);
        Py_DECREF(protocol);
        return result;
    }
    errno = EBADF;
    PyObject *data = fd < 0 ? NULL : fmux__receive(fd, stream->max_size, &got);
    if (data == NULL) {
        result = PyErr_Occurred() != NULL
                     ? fmux__fatal(self, "Fatal read error on socket transport")
                     : fmux__no_data(self, got);
    } else {
        result = FMUX_CALL_METHOD(data_received, protocol, data);
        Py_DECREF(data);
        if (result == NULL)
            result = fmux__fatal(
                self, "Fatal error: protocol.data_received() call failed.");
    }
    Py_DECREF(protocol);
    return result;
}

/* ---- sending ----------------------------------------------------------------------- */

static bool fmux__is_buffering(const fmux_stream_transport_t *stream)
{
    int full = stream->buffer == NULL ? 0 : PyObject_IsTrue(stream->buffer);
    if (full < 0)
        PyErr_Clear(); /* a program has replaced it by a strange object */
    return full > 0;
}

static PyObject *fmux__get_buffer(PyObject *self, void *unused)
{
    (void)unused;
    fmux_stream_transport_t *stream = fmux__stream(self);
    if (stream->buffer == NULL &&
        (stream->buffer = PyObject_CallNoArgs(fmux_objects.deque)) == NULL)
        return NULL;
    Py_INCREF(stream->buffer);
    return stream->buffer;
}

/* Send n pieces. Returns the number of bytes sent, which is 0 if the socket is full;
 * or -1 with an exception. */
static ssize_t fmux__send(const fmux_stream_transport_t *stream,
                          struct iovec *pieces, size_t count, Py_ssize_t total)
{
    int fd = fmux__number(stream);
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
    if (sent < 0 && fmux__try_again())
        return 0;
    if (sent < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    return sent;
}

/* Refuse to write after write_eof() or during sendfile(). */
static bool fmux__may_write(const fmux_stream_transport_t *stream,
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
static bool fmux__gathers(const fmux_stream_transport_t *stream, Py_ssize_t length)
{
    return length < FMUX__LONG &&
           (stream->gathering ||
            (stream->loop != NULL && PyObject_TypeCheck(stream->loop, fmux_loop_type) &&
             ((fmux_loop_t *)stream->loop)->gathers && !fmux__is_buffering(stream) &&
             stream->loop != NULL));
}

static PyObject *fmux__gather(PyObject *self, PyObject *data, const fmux_buffer_t *buffer)
{
    fmux_stream_transport_t *stream = fmux__stream(self);
    /* Before the garbage collector can run code that sets _loop. */
    if (!stream->gathering && PyObject_TypeCheck(stream->loop, fmux_loop_type) &&
        PyList_Append(((fmux_loop_t *)stream->loop)->gathered, self) < 0)
        return NULL;
    PyObject *kept = fmux__get_buffer(self, NULL), *piece = data, *none = NULL;
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
    fmux_stream_transport_t *stream = fmux__stream(self);
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
        return fmux__fatal(self, "Fatal write error on socket transport");
    PyObject *result = NULL;
    if (buffer.len == 0) {
        result = fmux_none();
    } else if (stream->conn_lost != 0) {
        result = FMUX_CALL_METHOD(_lost_write, self);
    } else if (fmux__gathers(stream, buffer.len)) {
        result = fmux__gather(self, data, &buffer);
    } else if (fmux__is_buffering(stream)) {
        result = fmux__keep(self, fmux_names._keep_rest, data, 0);
    } else if (fmux__is_patched(stream, fmux_names.send, fmux_objects.send)) {
        result = FMUX_CALL_METHOD(_write_by_method, self, data);
    } else {
        piece = (struct iovec){buffer.buf, (size_t)buffer.len};
        ssize_t sent = fmux__send(stream, &piece, 1, buffer.len);
        if (sent < 0) {
            result = fmux__fatal(self, "Fatal write error on socket transport");
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
static ssize_t fmux__send_lines(const fmux_stream_transport_t *stream,
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
    fmux_stream_transport_t *stream = fmux__stream(self);
    stream->gathering = 0;
    stream->gathered = 0;
    if (stream->conn_lost != 0 || !fmux__is_buffering(stream))
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
    fmux_stream_transport_t *stream = fmux__stream(self);
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
    } else if (count > FMUX__LINES || fmux__is_buffering(stream) ||
               fmux__is_patched(stream, fmux_names.sendmsg, fmux_objects.sendmsg)) {
        result = fmux__keep(self, fmux_names._keep_lines, lines, 0);
    } else {
        ssize_t sent = fmux__send_lines(stream, lines, &total);
        if (sent < 0 && !PyErr_ExceptionMatches(PyExc_OSError)) {
            result = NULL; /* not bytes-like: the caller's error */
        } else if (sent < 0) {
            result = fmux__fatal(self, "Fatal write error on socket transport");
        } else if (sent == total) {
            result = fmux_none();
        } else {
            result = fmux__keep(self, fmux_names._keep_lines, lines, sent);
        }
    }
    Py_DECREF(lines);
    return result;
}

/* ---- attributes, life -------------------------------------------------------------------- */

static int fmux__set_buffer(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    fmux_stream_transport_t *stream = fmux__stream(self);
    PyObject *old = stream->buffer;
    Py_XINCREF(value);
    stream->buffer = value;
    Py_XDECREF(old);
    return 0;
}

static int fmux__traverse(PyObject *self, visitproc visit, void *arg)
{
    fmux_stream_transport_t *stream = fmux__stream(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(stream->loop);
    Py_VISIT(stream->sock);
    Py_VISIT(stream->protocol);
    Py_VISIT(stream->extra);
    Py_VISIT(stream->server);
    Py_VISIT(stream->buffer);
    Py_VISIT(stream->empty_waiter);
    return 0;
}

static int fmux__clear(PyObject *self)
{
    fmux_stream_transport_t *stream = fmux__stream(self);
    Py_CLEAR(stream->loop);
    Py_CLEAR(stream->sock);
    Py_CLEAR(stream->protocol);
    Py_CLEAR(stream->extra);
    Py_CLEAR(stream->server);
    Py_CLEAR(stream->buffer);
    Py_CLEAR(stream->empty_waiter);
    return 0;
}

static void fmux__dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    (void)fmux__clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *fmux__new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args;
    (void)keywords;
    PyObject *self = PyType_GenericAlloc(type, 0);
    if (self != NULL)
        fmux__stream(self)->max_size = FMUX__PIECE;
    return self;
}

static PyMethodDef fmux__methods[] = {
    FMUX_METHOD("_read_ready", fmux__read_ready, METH_NOARGS, NULL),
    FMUX_METHOD("write", fmux__write, METH_O,
                "Send data now, and keep what the socket does not take."),
    FMUX_METHOD("writelines", fmux__writelines, METH_O,
                "Send a list of bytes-like objects in one system call."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef fmux__attributes[] = {
    {"_buffer", fmux__get_buffer, fmux__set_buffer, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define FMUX__MEMBER(name, code, field) \
    FMUX_MEMBER(name, code, 0, fmux_stream_transport_t, field)

static PyMemberDef fmux__members[] = {
    FMUX__MEMBER("_loop", T_OBJECT, loop),
    FMUX__MEMBER("_sock", T_OBJECT, sock),
    FMUX__MEMBER("_protocol", T_OBJECT, protocol),
    FMUX__MEMBER("_extra", T_OBJECT, extra),
    FMUX__MEMBER("_server", T_OBJECT, server),
    FMUX__MEMBER("_empty_waiter", T_OBJECT, empty_waiter),
    FMUX__MEMBER("max_size", T_PYSSIZET, max_size),
    FMUX__MEMBER("_high_water", T_PYSSIZET, high_water),
    FMUX__MEMBER("_low_water", T_PYSSIZET, low_water),
    FMUX__MEMBER("_sock_fd", T_INT, fd),
    FMUX__MEMBER("_conn_lost", T_INT, conn_lost),
    FMUX__MEMBER("_closing", T_BOOL, closing),
    FMUX__MEMBER("_paused", T_BOOL, paused),
    FMUX__MEMBER("_eof", T_BOOL, eof),
    FMUX__MEMBER("_protocol_paused", T_BOOL, protocol_paused),
    FMUX__MEMBER("_protocol_connected", T_BOOL, protocol_connected),
    FMUX__MEMBER("_buffered", T_BOOL, buffered),
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot fmux__slots[] = {
    {Py_tp_doc, "The state of a stream transport."},
    {Py_tp_new, fmux__new},
    {Py_tp_methods, fmux__methods},
    {Py_tp_getset, fmux__attributes},
    {Py_tp_members, fmux__members},
    {Py_tp_traverse, fmux__traverse},
    {Py_tp_clear, fmux__clear},
    {Py_tp_dealloc, fmux__dealloc},
    {0, NULL},
};

int fmux_stream_init(PyObject *module)
{
    PyObject *transports = PyImport_ImportModule("asyncio.transports");
    PyObject *base =
        transports == NULL
            ? NULL
            : PyObject_GetAttrString(transports, "_FlowControlMixin");
    PyObject *size =
        base == NULL ? NULL : PyObject_GetAttrString(base, "__basicsize__");
    PyTypeObject *type = NULL;
    Py_XDECREF(transports);
    if (size != NULL) {
        fmux__offset = PyLong_AsSsize_t(size);
        for (PyMemberDef *m = fmux__members; m->name != NULL; m++)
            m->offset += fmux__offset;
        PyType_Spec spec = {
            .name = "fastmux._loop.StreamCore",
            .basicsize = (int)(fmux__offset +
                               (Py_ssize_t)sizeof(fmux_stream_transport_t)),
            .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
            .slots = fmux__slots,
        };
        type = fmux_make_type(module, &spec, base);
    }
    Py_XDECREF(size);
    Py_XDECREF(base);
    return type == NULL ? -1 : 0; /* the module keeps it */
}
