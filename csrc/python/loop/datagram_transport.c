/* datagram_transport.c - the hot methods of the transport of a datagram socket: receive
 * and deliver, sendto. Whatever is rare is left to the methods of the standard
 * transport, from which the class in fastmux.loop.transports.datagram inherits: a socket that is
 * full, a name as an address, a closed transport, a wrong argument.
 *
 * A datagram is delivered before the next one is received. One call delivers several,
 * as long as their callbacks queue nothing in the loop and no timer is due: both run before
 * the next datagram, as on the standard loop, which receives one datagram a turn.
 */
#include "loop.h"

enum { FMUX__MOST = 64 }; /* datagrams of one call: others want their turn, too */

enum { FMUX__SENDERS = 64 };

/* Addresses with their objects, each in a place that depends on its host and port. Most datagrams
 * come from a known sender, or are answers to the last one. */
static struct {
    fmux_address_t address;
    PyObject *object;
} fmux__senders[FMUX__SENDERS], *fmux__last = fmux__senders;

/* ---- receiving ----------------------------------------------------------------- */

static PyObject *fmux__sender(const fmux_address_t *address)
{
    unsigned place = 0;
    if (address->any.ss_family == AF_INET)
        place = ntohs(address->in.sin_port) + ntohl(address->in.sin_addr.s_addr);
    else if (address->any.ss_family == AF_INET6)
        place = ntohs(address->in6.sin6_port) + address->in6.sin6_addr.s6_addr[15];
    fmux__last = &fmux__senders[place % FMUX__SENDERS];
    if (fmux__last->object == NULL || fmux__last->address.length != address->length ||
        memcmp(&fmux__last->address.any, &address->any, address->length) != 0) {
        PyObject *object = fmux_address_object(address), *old = fmux__last->object;
        if (object == NULL)
            return NULL;
        fmux__last->address = *address;
        fmux__last->object = object;
        Py_XDECREF(old);
    }
    Py_INCREF(fmux__last->object);
    return fmux__last->object;
}

/* protocol.error_received(exception) for the OSError that is set; any other exception
 * is fatal. */
static PyObject *fmux__failed(PyObject *self, const char *message)
{
    fmux_transport_t *transport = fmux_transport(self);
    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return fmux_fatal(self, message);
    PyObject *exception = fmux_take_exception();
    PyObject *protocol = transport->protocol == NULL ? Py_None : transport->protocol;
    Py_INCREF(protocol);
    PyObject *result = FMUX_CALL_METHOD(error_received, protocol, exception);
    Py_DECREF(protocol);
    Py_DECREF(exception);
    return fmux_done(result) < 0 ? NULL : fmux_none();
}

/* Receive one datagram and deliver it. *got_out: whether there was one. */
static PyObject *fmux__receive_one(PyObject *self, bool *got_out)
{
    static const char message[] = "Fatal read error on datagram transport";
    fmux_transport_t *transport = fmux_transport(self);
    fmux_address_t address;
    ssize_t got;
    int fd = fmux_socket_number(transport->sock);
    if (fd == -2)
        return fmux_fatal(self, message);
    PyObject *data = fmux_receive(fd, transport->max_size, &address, &got);
    if (data == NULL) {
        if (PyErr_Occurred() == NULL && fmux_try_again())
            return fmux_none();
        if (PyErr_Occurred() == NULL)
            PyErr_SetFromErrno(PyExc_OSError);
        return fmux__failed(self, message);
    }
    PyObject *sender = fmux__sender(&address), *result = NULL;
    if (sender == NULL) {
        result = fmux_fatal(self, message);
    } else {
        PyObject *protocol = transport->protocol == NULL ? Py_None : transport->protocol;
        Py_INCREF(protocol);
        result = FMUX_CALL_METHOD(datagram_received, protocol, data, sender);
        Py_DECREF(protocol);
        *got_out = true;
    }
    Py_DECREF(data);
    Py_XDECREF(sender);
    return result;
}

/* Whether the loop has more to do than to deliver datagrams: a timer is due, or this is a turn
 * of the standard loop, which delivers one. */
static bool fmux__is_awaited(const fmux_loop_t *loop)
{
    if (loop->standard || !PyList_CheckExact(loop->scheduled))
        return true;
    if (PyList_Size(loop->scheduled) == 0)
        return false;
    PyObject *first = PyList_GetItem(loop->scheduled, 0);
    return Py_TYPE(first) != fmux_timer_type || fmux_handle(first)->when <= fmux_loop_now();
}

/* The queue of the transport's loop; NULL if the loop stops, or is another object. */
static const fmux_ring_t *fmux__queue(const fmux_transport_t *transport)
{
    if (transport->loop == NULL || !PyObject_TypeCheck(transport->loop, fmux_loop_type))
        return NULL;
    const fmux_loop_t *loop = (const fmux_loop_t *)transport->loop;
    return loop->stopping ? NULL : loop->ready;
}

static PyObject *fmux__read_ready(PyObject *self, PyObject *unused)
{
    (void)unused;
    fmux_transport_t *transport = fmux_transport(self);
    if (fmux_is_patched(transport->sock, fmux_names.recvfrom))
        return fmux_call_of(fmux_objects.standard_datagram, self, fmux_names._read_ready,
                            NULL, 0, NULL);
    const fmux_ring_t *queue = fmux__queue(transport);
    Py_ssize_t queued = queue == NULL ? 0 : queue->count;
    for (int i = 0; i < FMUX__MOST; i++) {
        /* A pending signal handler may raise, or close the transport. Run it before a
         * datagram leaves the kernel. */
        if (PyErr_CheckSignals() < 0)
            return NULL;
        if (transport->conn_lost != 0 || transport->closing || transport->paused)
            break;
        bool got = false;
        PyObject *result = fmux__receive_one(self, &got);
        if (result == NULL || !got)
            return result;
        Py_DECREF(result);
        if (queue == NULL || fmux__queue(transport) != queue || queue->count != queued ||
            fmux__is_awaited((const fmux_loop_t *)transport->loop))
            break;
    }
    return fmux_none();
}

/* ---- sending ----------------------------------------------------------------------- */

/* Where to send: sets a length of 0 for a connected socket. Returns false if the standard
 * method must find out. */
static bool fmux__receiver(const fmux_transport_t *transport, PyObject *given,
                           fmux_address_t *address_out)
{
    PyObject *own = transport->address;
    PyObject *peer = transport->extra == NULL || !PyDict_CheckExact(transport->extra)
                         ? NULL
                         : PyDict_GetItemWithError(transport->extra, fmux_names.peername);
    bool has_own = own != NULL && own != Py_None;
    if (peer == NULL || (has_own && given != Py_None))
        return false;
    if (peer != Py_None) {
        address_out->length = 0;
        return (PyTuple_CheckExact(peer) && PyTuple_Size(peer) > 0) ||
               (PyBytes_CheckExact(peer) && PyBytes_Size(peer) > 0) ||
               (PyUnicode_CheckExact(peer) && PyUnicode_GetLength(peer) > 0);
    }
    if (has_own)
        return false;
    if (given == fmux__last->object && fmux__last->address.length > 0) {
        *address_out = fmux__last->address;
        return address_out->any.ss_family == transport->family;
    }
    return fmux_address_parse(given, transport->family, address_out);
}

static bool fmux__is_send_patched(PyObject *sock, const fmux_address_t *address)
{
    return address->length > 0
               ? fmux_is_patched(sock, fmux_names.sendto)
               : fmux_is_patched(sock, fmux_names.send);
}

/* Call the hooks of sys.addaudithook(), and send. Returns -1 with errno or an
 * exception. */
static ssize_t fmux__send(PyObject *sock, PyObject *receiver, const fmux_buffer_t *data,
                          const fmux_address_t *address)
{
    if (address->length > 0 && fmux_python.audit("socket.sendto", "OO", sock, receiver) < 0)
        return -1;
    int fd = fmux_socket_number(sock);
    return fd == -2 ? -1
                    : sendto(fd, data->buf, (size_t)data->len, MSG_DONTWAIT | MSG_NOSIGNAL,
                             address->length > 0 ? (const struct sockaddr *)&address->any
                                                 : NULL,
                             address->length);
}

/* Send data now. Returns NULL if the standard method must do it, or with an exception. */
static PyObject *fmux__send_now(PyObject *self, PyObject *object, PyObject *receiver)
{
    fmux_transport_t *transport = fmux_transport(self);
    fmux_buffer_t data = {.obj = NULL};
    fmux_address_t address;
    if (fmux_is_buffering(transport) || transport->conn_lost != 0 || transport->sock == NULL ||
        !fmux__receiver(transport, receiver, &address) ||
        fmux__is_send_patched(transport->sock, &address))
        return NULL;
    if (PyBytes_CheckExact(object)) {
        data.buf = PyBytes_AsString(object);
        data.len = PyBytes_Size(object);
    } else if (!PyByteArray_Check(object) && !PyMemoryView_Check(object)) {
        return NULL;
    } else if (fmux_python.get_buffer(object, &data, FMUX_BUFFER_READ) < 0) {
        PyErr_Clear(); /* the standard method has the same error */
        return NULL;
    }
    ssize_t sent = -1;
    errno = EAGAIN;
    if (data.len > 0) { /* whether empty datagrams are sent depends on the version */
        PyObject *sock = transport->sock;
        Py_INCREF(sock); /* an audit hook may close the transport */
        sent = fmux__send(sock, receiver, &data, &address);
        int error = errno;
        Py_DECREF(sock);
        errno = error;
    }
    bool full = sent < 0 && PyErr_Occurred() == NULL && fmux_try_again();
    if (sent < 0 && !full && PyErr_Occurred() == NULL)
        PyErr_SetFromErrno(PyExc_OSError);
    if (data.obj != NULL)
        fmux_python.release_buffer(&data);
    return sent >= 0 ? fmux_none()
           : full    ? NULL
                     : fmux__failed(self, "Fatal write error on datagram transport");
}

static PyObject *fmux__sendto(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *kwnames)
{
    if (kwnames == NULL && (count == 1 || count == 2)) {
        PyObject *none = fmux__send_now(self, args[0], count == 2 ? args[1] : Py_None);
        if (none != NULL || PyErr_Occurred() != NULL)
            return none;
    }
    return fmux_call_of(fmux_objects.standard_datagram, self, fmux_names.sendto, args, count,
                        kwnames);
}

/* ---- the type ------------------------------------------------------------------------ */

static PyMethodDef fmux__methods[] = {
    FMUX_METHOD("is_closing", fmux_is_closing, METH_NOARGS,
                "Return whether the transport is closing or closed."),
    FMUX_METHOD("_read_ready", fmux__read_ready, METH_NOARGS, NULL),
    FMUX_METHOD("sendto", fmux__sendto, METH_FASTCALL | METH_KEYWORDS,
                "Send a datagram now, or keep it if the socket does not take it."),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef fmux__members[] = {
    FMUX_TRANSPORT_MEMBERS,
    FMUX_TRANSPORT_MEMBER("_sock", T_OBJECT, sock),
    FMUX_TRANSPORT_MEMBER("_sock_fd", T_INT, fd),
    FMUX_TRANSPORT_MEMBER("_server", T_OBJECT, server),
    FMUX_TRANSPORT_MEMBER("_address", T_OBJECT, address),
    FMUX_TRANSPORT_MEMBER("_family", T_INT, family),
    {NULL, 0, 0, 0, NULL},
};

int fmux_datagram_init(PyObject *module)
{
    return fmux_transport_make(module, "fastmux._loop.DatagramCore", "_FlowControlMixin", fmux__methods,
                               fmux__members, fmux_transport_attributes);
}
