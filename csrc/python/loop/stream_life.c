/* stream_life.c - the life of a stream transport: accept, connection_made(), close(),
 * connection_lost().
 *
 * An accepted connection has no socket object until a program asks for it: the
 * transport owns the descriptor.
 */
#include "loop.h"

#include <netinet/tcp.h>
#include <unistd.h>

/* ---- the socket ------------------------------------------------------------------ */

/* extra["sockname"] = getsockname() of an accepted connection, unless it is there: before the
 * program gets the socket, which it may detach, or the transport closes it. */
static void fmux__keep_name(const fmux_transport_t *stream)
{
    PyObject *extra = stream->extra, *name = fmux_names.sockname;
    fmux_address_t address = {.length = sizeof address.any};
    if (!stream->owns_fd)
        return;
    if (extra != NULL && PyDict_CheckExact(extra) &&
        PyDict_GetItemWithError(extra, name) == NULL &&
        getsockname(stream->fd, (struct sockaddr *)&address.any, &address.length) == 0) {
        Py_INCREF(extra); /* the garbage collector may run code that replaces it */
        PyObject *object = fmux_address_object(&address);
        if (object != NULL)
            (void)PyDict_SetItem(extra, name, object);
        Py_XDECREF(object);
        Py_DECREF(extra);
    }
    PyErr_Clear(); /* no memory: the end is more important */
}

PyObject *fmux_stream_get_sock(PyObject *self, void *unused)
{
    (void)unused;
    fmux_transport_t *stream = fmux_transport(self);
    fmux__keep_name(stream);
    if (stream->owns_fd) {
        stream->owns_fd = 0; /* an audit hook may ask, too */
        stream->sock = fmux_socket_new(fmux_objects.socket_class, stream->family, SOCK_STREAM,
                                       stream->proto, stream->fd);
        if (stream->sock == NULL) {
            stream->owns_fd = 1;
            return NULL;
        }
    }
    PyObject *sock = stream->sock == NULL ? Py_None : stream->sock;
    Py_INCREF(sock);
    return sock;
}

int fmux_stream_set_sock(PyObject *self, PyObject *value, void *unused)
{
    PyObject *old = fmux_stream_get_sock(self, unused);
    if (old == NULL)
        return -1;
    Py_XINCREF(value);
    Py_XDECREF(fmux_transport(self)->sock);
    fmux_transport(self)->sock = value;
    Py_DECREF(old);
    return 0;
}

/* The socket of a transport that has ended, as the standard transport keeps it: closed. None
 * if there was none, or no descriptor is left to make one. */
PyObject *fmux_stream_get_closed_sock(PyObject *self, void *unused)
{
    (void)unused;
    fmux_transport_t *stream = fmux_transport(self);
    PyObject *sock = stream->closed_sock;
    if (sock == NULL && stream->family != 0) { /* the transport has owned the descriptor */
        sock = PyObject_CallFunction(fmux_objects.socket_class, "iii", stream->family, SOCK_STREAM,
                                     stream->proto);
        if (sock == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear();
            return fmux_none();
        }
        if (sock == NULL)
            return NULL;
        if (fmux_done(FMUX_CALL_METHOD(close, sock)) < 0) {
            Py_DECREF(sock);
            return NULL;
        }
        Py_XDECREF(stream->closed_sock);
        stream->closed_sock = sock;
    }
    if (sock == NULL)
        sock = Py_None;
    Py_INCREF(sock);
    return sock;
}

/* Close the socket. Returns 0, or -1 with an exception. */
static int fmux__close_socket(fmux_transport_t *stream)
{
    fmux__keep_name(stream);
    PyObject *sock = stream->sock, *old = stream->closed_sock;
    if (stream->owns_fd) {
        stream->owns_fd = 0;
        PyThreadState *state = PyEval_SaveThread(); /* SO_LINGER may block */
        int result = close(stream->fd);
        int error = errno;
        PyEval_RestoreThread(state);
        if (result == 0 || error == ECONNRESET)
            return 0;
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (sock == NULL || sock == Py_None)
        return 0;
    stream->sock = NULL;
    stream->closed_sock = sock;
    Py_INCREF(sock); /* closing it may run other code */
    Py_XDECREF(old);
    int result = fmux_done(FMUX_CALL_METHOD(close, sock));
    Py_DECREF(sock);
    return result;
}

/* ---- loop._transports --------------------------------------------------------------- */

/* The dict of a WeakValueDictionary: a new reference, or NULL with an exception. */
static PyObject *fmux__references(PyObject *loop)
{
    PyObject *transports = PyObject_GetAttr(loop, fmux_names._transports);
    PyObject *data =
        transports == NULL ? NULL : PyObject_GetAttr(transports, fmux_names.data);
    Py_XDECREF(transports);
    return data;
}

/* loop._transports[fd] = self. The reference has no callback that removes it:
 * fmux__leave() does, or the next transport with this number. */
static int fmux__enter(PyObject *loop, PyObject *fd, PyObject *self)
{
    PyObject *references = fmux__references(loop);
    PyObject *reference = references == NULL ? NULL : PyWeakref_NewRef(self, NULL);
    int result = reference == NULL ? -1 : PyDict_SetItem(references, fd, reference);
    Py_XDECREF(reference);
    Py_XDECREF(references);
    return result;
}

static int fmux__leave(PyObject *loop, int number, PyObject *self)
{
    PyObject *references = fmux__references(loop), *fd = PyLong_FromLong(number);
    PyObject *reference = references == NULL ? NULL : PyWeakref_NewRef(self, NULL);
    int result = -1;
    if (reference != NULL && fd != NULL)
        result = PyDict_GetItemWithError(references, fd) == reference
                     ? PyDict_DelItem(references, fd)
                     : -(PyErr_Occurred() != NULL);
    Py_XDECREF(reference);
    Py_XDECREF(references);
    Py_XDECREF(fd);
    return result;
}

/* ---- the server ---------------------------------------------------------------------- */

/* Whether class.name is what it was at the import. */
static bool fmux__is_original(PyObject *class, PyObject *name, PyObject *original)
{
    PyObject *found = PyObject_GetAttr(class, name);
    Py_XDECREF(found);
    if (found == NULL)
        PyErr_Clear();
    return found == original;
}

/* Since Python 3.13, a server keeps a WeakSet of its transports. Returns a new reference to
 * it; NULL, without an exception, if the server's methods have to be called. */
static PyObject *fmux__clients(PyObject *server)
{
    if ((PyObject *)Py_TYPE(server) != fmux_objects.server_class ||
        !fmux__is_original(fmux_objects.server_class, fmux_names._attach,
                           fmux_objects.server_attach) ||
        !fmux__is_original(fmux_objects.server_class, fmux_names._detach,
                           fmux_objects.server_detach))
        return NULL;
    PyObject *sockets = PyObject_GetAttr(server, fmux_names._sockets);
    PyObject *clients = sockets == NULL ? NULL : PyObject_GetAttr(server, fmux_names._clients);
    PyObject *pending = clients == NULL || !fmux_objects.weak_set_defers
                            ? NULL
                            : PyObject_GetAttr(clients, fmux_names._pending_removals);
    if (clients != NULL &&
        (sockets == Py_None || (PyObject *)Py_TYPE(clients) != fmux_objects.weak_set ||
         (fmux_objects.weak_set_defers && (pending == NULL || PyObject_Size(pending) != 0))))
        Py_CLEAR(clients);
    PyErr_Clear();
    Py_XDECREF(sockets);
    Py_XDECREF(pending);
    return clients;
}

/* server._attach(self): WeakSet.add() */
static int fmux__attach(PyObject *server, PyObject *self)
{
    PyObject *clients = fmux__clients(server);
    if (clients == NULL)
        return fmux_done(FMUX_CALL_METHOD(_attach, self));
    PyObject *data = PyObject_GetAttr(clients, fmux_names.data);
    PyObject *remove = data == NULL ? NULL : PyObject_GetAttr(clients, fmux_names._remove);
    PyObject *reference = remove == NULL ? NULL : PyWeakref_NewRef(self, remove);
    int result = reference == NULL ? -1 : PySet_Add(data, reference);
    Py_XDECREF(reference);
    Py_XDECREF(remove);
    Py_XDECREF(data);
    Py_DECREF(clients);
    return result;
}

/* server._detach(self): WeakSet.discard() */
static int fmux__detach(PyObject *server, PyObject *self)
{
    PyObject *clients = fmux__clients(server);
    if (clients == NULL)
        return fmux_done(FMUX_CALL_METHOD(_detach, self));
    Py_CLEAR(fmux_transport(self)->server);
    PyObject *data = PyObject_GetAttr(clients, fmux_names.data);
    PyObject *reference = data == NULL ? NULL : PyWeakref_NewRef(self, NULL);
    int result = reference == NULL ? -1 : PySet_Discard(data, reference);
    Py_XDECREF(reference);
    Py_XDECREF(data);
    Py_DECREF(clients);
    return result < 0 ? -1 : 0;
}

/* Detach a transport whose start has failed; keeps the exception. */
static void fmux__leave_server(PyObject *self)
{
    PyObject *server = fmux_transport(self)->server, *type, *value, *traceback;
    if (server == NULL || server == Py_None)
        return;
    Py_INCREF(server);
    PyErr_Fetch(&type, &value, &traceback);
    if (fmux__detach(server, self) < 0)
        PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    Py_DECREF(server);
}

/* ---- the start ----------------------------------------------------------------------- */

/* loop.call_soon(callback, first, second), in the context of the transport. Steals callback. */
static int fmux__call_soon(PyObject *self, PyObject *callback, PyObject *first,
                           PyObject *second)
{
    int result = callback == NULL ? -1
                                  : fmux_call_loop(self, fmux_names.call_soon, callback,
                                                   first, second);
    Py_XDECREF(callback);
    return result;
}

/* extra[name] = address, or None if a system call has failed. Steals address. */
static int fmux__set_address(const fmux_transport_t *stream, PyObject *name, PyObject *address)
{
    if (address == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear();
        address = fmux_none();
    }
    int result = address == NULL ? -1 : PyDict_SetItem(stream->extra, name, address);
    Py_XDECREF(address);
    return result;
}

/* The addresses of a given socket: later, the program may have detached it. */
static int fmux__find_addresses(const fmux_transport_t *stream)
{
    PyObject *sock = stream->sock;
    if (sock == NULL)
        return 0;
    if (fmux__set_address(stream, fmux_names.sockname, FMUX_CALL_METHOD(getsockname, sock)) < 0)
        return -1;
    if (PyDict_GetItemWithError(stream->extra, fmux_names.peername) != NULL)
        return 0;
    return fmux__set_address(stream, fmux_names.peername, FMUX_CALL_METHOD(getpeername, sock));
}

/* self.set_protocol(protocol) */
static int fmux__set_protocol(PyObject *self, PyObject *protocol)
{
    fmux_transport_t *stream = fmux_transport(self);
    int buffered = PyObject_IsInstance(protocol, fmux_objects.buffered_protocol);
    if (buffered != 0)
        return buffered < 0 ? -1 : fmux_done(FMUX_CALL_METHOD(set_protocol, self, protocol));
    Py_INCREF(protocol);
    stream->protocol = protocol;
    stream->protocol_connected = 1;
    return 0;
}

/* Set max_size, if a program has changed that of the standard class. */
static int fmux__set_max_size(fmux_transport_t *stream)
{
    PyObject *size = PyObject_GetAttr(fmux_objects.standard_stream, fmux_names.max_size);
    stream->max_size = size == NULL ? -1 : PyLong_AsSsize_t(size);
    Py_XDECREF(size);
    return PyErr_Occurred() == NULL ? 0 : -1;
}

/* Schedule connection_made(), and after it reading and the result of the waiter. */
static int fmux__schedule(PyObject *self, PyObject *fd, PyObject *waiter)
{
    PyObject *protocol = fmux_transport(self)->protocol;
    PyObject *reader = PyObject_GetAttr(self, fmux_names._read_ready);
    int result = reader == NULL ? -1 : 0;
    if (result == 0)
        result = fmux__call_soon(self, PyObject_GetAttr(protocol, fmux_names.connection_made),
                                 self, NULL);
    if (result == 0)
        result = fmux__call_soon(self, PyObject_GetAttr(self, fmux_names._add_reader), fd,
                                 reader);
    if (result == 0 && waiter != Py_None) {
        Py_INCREF(fmux_objects.set_ready);
        result = fmux__call_soon(self, fmux_objects.set_ready, waiter, NULL);
    }
    Py_XDECREF(reader);
    return result;
}

/* What __init__() of the standard transport does, once the transport has its socket. */
static int fmux__start(PyObject *self, PyObject *loop, PyObject *protocol, PyObject *waiter,
                       PyObject *server, PyObject *context)
{
    enum { HIGH_WATER = 64 * 1024 };
    fmux_transport_t *stream = fmux_transport(self);
    PyObject *fd = PyLong_FromLong(stream->fd);
    int on = 1;
    Py_INCREF(loop);
    stream->loop = loop;
    Py_INCREF(context);
    stream->context = context;
    stream->high_water = HIGH_WATER;
    stream->low_water = HIGH_WATER / 4;
    int result = -1;
    if (fd != NULL && fmux_check_unused(loop, fd, stream->owns_fd ? fd : stream->sock) < 0) {
        Py_CLEAR(stream->sock); /* stays the caller's */
    } else if (fd != NULL && fmux__find_addresses(stream) == 0 && fmux__set_max_size(stream) == 0 &&
               fmux__set_protocol(self, protocol) == 0) {
        Py_INCREF(server);
        stream->server = server;
        if (server != Py_None && fmux__attach(server, self) < 0) {
            Py_CLEAR(stream->server);
        } else if (fmux__enter(loop, fd, self) == 0) {
            if (stream->family != AF_UNIX)
                (void)setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            result = fmux__schedule(self, fd, waiter);
        }
    }
    Py_XDECREF(fd);
    return result;
}

PyObject *fmux_stream_start(PyObject *self, PyObject *args)
{
    fmux_transport_t *stream = fmux_transport(self);
    PyObject *loop, *sock, *protocol, *waiter, *extra, *server, *context;
    if (!PyArg_ParseTuple(args, "OOOOOOO", &loop, &sock, &protocol, &waiter, &extra, &server,
                          &context))
        return NULL;
    if (extra == Py_None)
        extra = PyDict_New();
    else
        Py_INCREF(extra);
    stream->extra = extra;
    Py_INCREF(sock);
    stream->sock = sock;
    stream->fd = fmux_socket_number(sock);
    if (extra == NULL || stream->fd == -2 ||
        fmux__start(self, loop, protocol, waiter, server, context) < 0)
        return NULL;
    return fmux_none();
}

PyObject *fmux_stream_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const fmux_transport_t *stream = fmux_transport(self);
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "_add_reader() takes a descriptor and a callback");
        return NULL;
    }
    if (stream->closing || stream->paused || stream->loop == NULL)
        return fmux_none();
    if (fmux_call_loop(self, fmux_names._add_reader, args[0], args[1], NULL) < 0)
        return NULL;
    return fmux_none();
}

PyObject *fmux_stream_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "_add_writer() takes a descriptor and a callback");
        return NULL;
    }
    if (fmux_call_loop(self, fmux_names._add_writer, args[0], args[1], NULL) < 0)
        return NULL;
    return fmux_none();
}

/* ---- accepting ----------------------------------------------------------------------- */

typedef struct {
    PyObject *loop, *type, *listener, *factory, *server, *context;
    int family, proto;
} fmux_serving_t;

/* The transport of an accepted connection. context: of its callbacks, or None. */
static int fmux__make_transport(const fmux_serving_t *serving, int fd,
                                const fmux_address_t *peer, PyObject *context)
{
    PyObject *protocol = fmux_python.vectorcall(serving->factory, NULL, 0, NULL);
    PyObject *address = protocol == NULL ? NULL : fmux_address_object(peer);
    PyObject *extra = address == NULL ? NULL : PyDict_New(), *self = NULL;
    if (extra != NULL && PyDict_SetItem(extra, fmux_names.peername, address) == 0)
        self = PyType_GenericAlloc((PyTypeObject *)serving->type, 0);
    Py_XDECREF(address);
    int result = -1;
    if (self == NULL) {
        Py_XDECREF(extra);
        close(fd);
    } else {
        fmux_transport_t *stream = fmux_transport(self);
        stream->extra = extra;
        stream->fd = fd;
        stream->owns_fd = 1;
        stream->family = serving->family;
        stream->proto = serving->proto;
        result = fmux__start(self, serving->loop, protocol, Py_None, serving->server, context);
        if (result < 0 && stream->owns_fd) {
            stream->owns_fd = 0;
            stream->closing = 1;
            close(fd);
            fmux__leave_server(self);
        }
        Py_DECREF(self);
    }
    Py_XDECREF(protocol);
    return result;
}

/* The same in a context of its own: a copy of the server's, in which the callbacks run,
 * too; a copy of the current one, if the server has none. Returns 0, or -1 with an exception
 * that ends the program: others are not reported, as by the standard loop. */
static int fmux__connect(const fmux_serving_t *serving, int fd, const fmux_address_t *peer)
{
    bool has_own = serving->context != Py_None;
    PyObject *context = has_own ? FMUX_CALL_METHOD(copy, serving->context)
                                : fmux_python.context_copy();
    int result = -1;
    if (context == NULL || fmux_python.context_enter(context) < 0) {
        close(fd);
    } else {
        PyObject *type, *value, *traceback;
        result = fmux__make_transport(serving, fd, peer, has_own ? context : Py_None);
        PyErr_Fetch(&type, &value, &traceback);
        (void)fmux_python.context_exit(context);
        PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(context);
    if (result < 0 && !fmux_is_exit()) {
        PyErr_Clear();
        result = 0;
    }
    return result;
}

PyObject *fmux_serve(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 7) {
        PyErr_SetString(PyExc_TypeError, "serve() takes 7 arguments");
        return NULL;
    }
    fmux_serving_t serving = {args[0], args[1], args[2], args[3], args[4], args[5], 0, 0};
    long most = PyLong_AsLong(args[6]);
    if (PyErr_Occurred() != NULL ||
        !fmux_socket_kind(serving.listener, &serving.family, &serving.proto))
        return NULL;
    bool known = serving.family == AF_INET || serving.family == AF_INET6 ||
                 serving.family == AF_UNIX;
    while (known && most-- > 0) {
        fmux_address_t peer = {.length = sizeof peer.any};
        int fd = accept4(fmux_socket_number(serving.listener), (struct sockaddr *)&peer.any,
                         &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return PyBool_FromLong(fmux_try_again() || errno == ECONNABORTED);
        if (fmux__connect(&serving, fd, &peer) < 0)
            return NULL;
    }
    return PyBool_FromLong(known);
}

/* ---- the end ------------------------------------------------------------------------- */

PyObject *fmux_stream_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_transport_t *stream = fmux_transport(self);
    if (stream->closing)
        return fmux_none();
    stream->closing = 1;
    PyObject *loop = stream->loop == NULL ? Py_None : stream->loop;
    PyObject *fd = PyLong_FromLong(stream->fd);
    Py_INCREF(loop);
    int result = fd == NULL ? -1 : fmux_done(FMUX_CALL_METHOD(_remove_reader, loop, fd));
    if (result == 0 && !fmux_is_buffering(stream)) {
        stream->conn_lost++;
        result = fmux_done(FMUX_CALL_METHOD(_remove_writer, loop, fd));
        if (result == 0)
            result = fmux__call_soon(
                self, PyObject_GetAttr(self, fmux_names._call_connection_lost), Py_None, NULL);
    }
    Py_DECREF(loop);
    Py_XDECREF(fd);
    return result < 0 ? NULL : fmux_none();
}

/* Release what the transport has, after connection_lost(). */
static int fmux__end(PyObject *self)
{
    fmux_transport_t *stream = fmux_transport(self);
    PyObject *loop = stream->loop, *server = stream->server;
    Py_XINCREF(loop);
    Py_XINCREF(server);
    int result = fmux__close_socket(stream);
    if (result == 0 && loop != NULL && loop != Py_None)
        result = fmux__leave(loop, stream->fd, self);
    Py_CLEAR(stream->loop);
    Py_CLEAR(stream->protocol);
    if (result == 0 && server != NULL && server != Py_None)
        result = fmux__detach(server, self);
    if (result == 0 && stream->empty_waiter != NULL && stream->empty_waiter != Py_None)
        result = fmux_done(FMUX_CALL_METHOD(_fail_empty_waiter, self));
    Py_XDECREF(loop);
    Py_XDECREF(server);
    return result;
}

PyObject *fmux_stream_connection_lost(PyObject *self, PyObject *exception)
{
    fmux_transport_t *stream = fmux_transport(self);
    PyObject *protocol = stream->protocol == NULL ? Py_None : stream->protocol;
    PyObject *type, *value, *traceback;
    Py_INCREF(protocol);
    int result = stream->protocol_connected
                     ? fmux_done(FMUX_CALL_METHOD(connection_lost, protocol, exception))
                     : 0;
    Py_DECREF(protocol);
    PyErr_Fetch(&type, &value, &traceback);
    if (fmux__end(self) < 0) {
        result = -1;
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    } else {
        PyErr_Restore(type, value, traceback);
    }
    return result < 0 ? NULL : fmux_none();
}

PyObject *fmux_stream_del(PyObject *self, PyObject *unused)
{
    (void)unused;
    const fmux_transport_t *stream = fmux_transport(self);
    return stream->owns_fd || (stream->sock != NULL && stream->sock != Py_None)
               ? PyObject_CallMethod(fmux_objects.standard_stream, "__del__", "O", self)
               : fmux_none();
}
