/* transport.c - the state that all transports have in common, and its life.
 *
 * A descriptor number is not a file: each system call asks the socket object for its
 * number first, so a socket that was closed or detached behind the transport's back
 * is EBADF, as in the standard transport, and never another file.
 */
#include "loop.h"

#include <unistd.h>

Py_ssize_t fmux_transport_offset;
char fmux_piece[FMUX_PIECE];

/* Where a socket object has its number: in every CPython behind the head that all
 * objects have. 0: elsewhere, so fileno() is called. */
static Py_ssize_t fmux__number_offset;

/* ---- calls of Python methods ------------------------------------------------ */

PyObject *fmux_fatal(PyObject *self, const char *message)
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

int fmux_call_loop(PyObject *self, PyObject *name, PyObject *first, PyObject *second,
                   PyObject *third)
{
    static PyObject *names; /* ("context",) */
    const fmux_transport_t *transport = fmux_transport(self);
    PyObject *loop = transport->loop == NULL ? Py_None : transport->loop;
    PyObject *context = transport->context == NULL ? Py_None : transport->context;
    PyObject *args[6] = {NULL, loop, first, second, third};
    size_t count = third == NULL ? 3 : 4;
    if (names == NULL && (names = PyTuple_Pack(1, fmux_names.context)) == NULL)
        return -1;
    args[count + 1] = context;
    Py_INCREF(loop);
    Py_INCREF(context);
    int result = fmux_done(
        fmux_python.vectorcall_method(name, args + 1, count | FMUX_PLACE_BEFORE,
                                      context == Py_None ? NULL : names));
    Py_DECREF(context);
    Py_DECREF(loop);
    return result;
}

int fmux_socket_number(PyObject *sock)
{
    if (sock == NULL || sock == Py_None)
        return -1;
    if (fmux__number_offset > 0 && (PyObject *)Py_TYPE(sock) == fmux_objects.socket_class)
        return *(const int *)((const char *)sock + fmux__number_offset);
    PyObject *number = FMUX_CALL(fmux_objects.fileno, sock);
    if (number == NULL)
        return -2;
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    return (int)fd;
}

bool fmux_is_patched(PyObject *sock, PyObject *name)
{
    if (sock == NULL || sock == Py_None)
        return false;
    return (PyObject *)Py_TYPE(sock) != fmux_objects.socket_class ||
           PyDict_GetItemWithError(fmux_objects.socket_dict, name) != NULL;
}

/* Set fmux__number_offset, if a socket object has its number where it is expected. */
static void fmux__find_number(void)
{
    PyObject *size = PyObject_GetAttrString((PyObject *)&PyBaseObject_Type, "__basicsize__");
    PyObject *sock = PyObject_CallNoArgs(fmux_objects.socket_class), *none = NULL;
    int is_socket = sock == NULL ? 0 : PyObject_IsInstance(sock, fmux_objects.socket_base);
    if (size != NULL && is_socket == 1) {
        Py_ssize_t offset = PyLong_AsSsize_t(size);
        const int *number = (const int *)((const char *)sock + offset);
        int open = fmux_socket_number(sock);
        bool is_there = open >= 0 && *number == open;
        none = FMUX_CALL_METHOD(close, sock);
        if (none != NULL && is_there && *number == -1)
            fmux__number_offset = offset;
    }
    PyErr_Clear(); /* no descriptor is left, or a program has replaced the class */
    Py_XDECREF(none);
    Py_XDECREF(sock);
    Py_XDECREF(size);
}

/* ---- receiving ------------------------------------------------------------------- */

static ssize_t fmux__receive(int fd, void *data, Py_ssize_t most, fmux_address_t *address_out)
{
    if (address_out == NULL)
        return recv(fd, data, (size_t)most, MSG_DONTWAIT);
    address_out->length = sizeof address_out->any;
    return recvfrom(fd, data, (size_t)most, MSG_DONTWAIT,
                    (struct sockaddr *)&address_out->any, &address_out->length);
}

PyObject *fmux_receive(int fd, Py_ssize_t most, fmux_address_t *address_out, ssize_t *got_out)
{
    ssize_t least = address_out == NULL; /* a datagram may be empty */
    if (most < 0) { /* recv() would take it as a huge size */
        PyErr_Format(PyExc_ValueError, "negative buffersize in %s",
                     address_out == NULL ? "recv" : "recvfrom");
        return NULL;
    }
    if (most <= FMUX_PIECE) {
        *got_out = fmux__receive(fd, fmux_piece, most, address_out);
        return *got_out >= least ? PyBytes_FromStringAndSize(fmux_piece, *got_out) : NULL;
    }
    /* A program has asked for larger pieces. */
    PyObject *data = PyBytes_FromStringAndSize(NULL, most), *part = NULL;
    if (data == NULL) {
        *got_out = 1;
        return NULL;
    }
    *got_out = fmux__receive(fd, PyBytes_AsString(data), most, address_out);
    int error = errno;
    if (*got_out >= least)
        part = PyBytes_FromStringAndSize(PyBytes_AsString(data), *got_out);
    Py_DECREF(data);
    errno = error;
    return part;
}

PyObject *fmux_is_closing(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(fmux_transport(self)->closing);
}

/* ---- the buffer of what is not sent yet --------------------------------------- */

bool fmux_is_buffering(const fmux_transport_t *transport)
{
    int full = transport->buffer == NULL ? 0 : PyObject_IsTrue(transport->buffer);
    if (full < 0)
        PyErr_Clear(); /* a program has replaced it by a strange object */
    return full > 0;
}

PyObject *fmux_transport_buffer(PyObject *self)
{
    fmux_transport_t *transport = fmux_transport(self);
    if (transport->buffer == NULL &&
        (transport->buffer = PyObject_CallNoArgs(fmux_objects.deque)) == NULL)
        return NULL;
    Py_INCREF(transport->buffer);
    return transport->buffer;
}

PyObject *fmux_buffered(PyObject *self, bool was_buffering)
{
    int result = 0;
    if (!was_buffering) {
        PyObject *fd = PyLong_FromLong(fmux_transport(self)->fd);
        PyObject *callback = PyObject_GetAttr(self, fmux_names._write_ready);
        result = fd == NULL || callback == NULL
                     ? -1
                     : fmux_call_loop(self, fmux_names._add_writer, fd, callback, NULL);
        Py_XDECREF(fd);
        Py_XDECREF(callback);
    }
    /* This may call the protocol, which may close the transport. */
    return result < 0 ? NULL : FMUX_CALL_METHOD(_maybe_pause_protocol, self);
}

PyObject *fmux_transport_get_buffer(PyObject *self, void *unused)
{
    (void)unused;
    return fmux_transport_buffer(self);
}

int fmux_transport_set_buffer(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    fmux_transport_t *transport = fmux_transport(self);
    PyObject *old = transport->buffer;
    Py_XINCREF(value);
    transport->buffer = value;
    Py_XDECREF(old);
    return 0;
}

/* ---- life ------------------------------------------------------------------------ */

static int fmux__traverse(PyObject *self, visitproc visit, void *arg)
{
    fmux_transport_t *transport = fmux_transport(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(transport->loop);
    Py_VISIT(transport->sock);
    Py_VISIT(transport->protocol);
    Py_VISIT(transport->extra);
    Py_VISIT(transport->server);
    Py_VISIT(transport->buffer);
    Py_VISIT(transport->empty_waiter);
    Py_VISIT(transport->closed_sock);
    Py_VISIT(transport->context);
    Py_VISIT(transport->address);
    return 0;
}

static int fmux__clear(PyObject *self)
{
    fmux_transport_t *transport = fmux_transport(self);
    Py_CLEAR(transport->loop);
    Py_CLEAR(transport->sock);
    Py_CLEAR(transport->protocol);
    Py_CLEAR(transport->extra);
    Py_CLEAR(transport->server);
    Py_CLEAR(transport->buffer);
    Py_CLEAR(transport->empty_waiter);
    Py_CLEAR(transport->closed_sock);
    Py_CLEAR(transport->context);
    Py_CLEAR(transport->address);
    return 0;
}

static void fmux__dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (fmux_transport(self)->owns_fd)
        close(fmux_transport(self)->fd);
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
        fmux_transport(self)->max_size = FMUX_PIECE;
    return self;
}

/* ---- the types --------------------------------------------------------------------- */

PyGetSetDef fmux_transport_attributes[] = {
    FMUX_TRANSPORT_ATTRIBUTES,
    {NULL, NULL, NULL, NULL, NULL},
};

/* A standard class, whose own fields stay in front; sets the offset of ours, behind
 * those of _FlowControlMixin, which has the most. */
static PyObject *fmux__base(const char *name)
{
    PyObject *transports = PyImport_ImportModule("asyncio.transports");
    PyObject *base = transports == NULL ? NULL : PyObject_GetAttrString(transports, name);
    PyObject *largest =
        base == NULL ? NULL : PyObject_GetAttrString(transports, "_FlowControlMixin");
    PyObject *size =
        largest == NULL ? NULL : PyObject_GetAttrString(largest, "__basicsize__");
    Py_XDECREF(transports);
    Py_XDECREF(largest);
    if (size == NULL)
        Py_CLEAR(base);
    else
        fmux_transport_offset = PyLong_AsSsize_t(size);
    Py_XDECREF(size);
    return base;
}

int fmux_transport_make(PyObject *module, const char *name, const char *base_name,
                        PyMethodDef *methods, PyMemberDef *members, PyGetSetDef *attributes)
{
    PyObject *base = fmux__base(base_name);
    if (base == NULL)
        return -1;
    if (fmux__number_offset == 0)
        fmux__find_number();
    for (PyMemberDef *m = members; m->name != NULL; m++)
        m->offset += fmux_transport_offset;
    PyType_Slot slots[] = {
        {Py_tp_doc, "The state of a transport."},
        {Py_tp_new, fmux__new},
        {Py_tp_methods, methods},
        {Py_tp_getset, attributes},
        {Py_tp_members, members},
        {Py_tp_traverse, fmux__traverse},
        {Py_tp_clear, fmux__clear},
        {Py_tp_dealloc, fmux__dealloc},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)(fmux_transport_offset + (Py_ssize_t)sizeof(fmux_transport_t)),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
        .slots = slots,
    };
    PyTypeObject *type = fmux_make_type(module, &spec, base);
    Py_DECREF(base);
    return type == NULL ? -1 : 0; /* the module keeps it */
}
