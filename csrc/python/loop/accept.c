/* accept.c - accept a connection and make its socket object.
 *
 * The same as socket.accept() and setblocking(False), but without bytecode in
 * between: an exception of a signal handler cannot lose an accepted connection.
 */
#include "loop.h"

#include <sys/ioctl.h>
#include <unistd.h>

/* descriptor.__get__(sock), an int; -1 with an exception. */
static int fmux__field(PyObject *get, PyObject *sock)
{
    PyObject *value = FMUX_CALL(get, sock);
    long number = value == NULL ? -1 : PyLong_AsLong(value);
    Py_XDECREF(value);
    return (int)number;
}

PyObject *fmux_socket_new(PyObject *class, int family, int type, int proto, int fd)
{
    PyObject *sock = FMUX_CALL(fmux_objects.socket_new, class);
    PyObject *zero = PyLong_FromLong(0);
    PyObject *none = sock == NULL || zero == NULL ||
                             PyObject_SetAttr(sock, fmux_names._io_refs, zero) < 0 ||
                             PyObject_SetAttr(sock, fmux_names._closed, Py_False) < 0
                         ? NULL
                         : PyObject_CallFunction(fmux_objects.socket_init, "Oiiii", sock, family,
                                                 type | SOCK_NONBLOCK, proto, fd);
    Py_XDECREF(zero);
    if (none == NULL)
        Py_CLEAR(sock);
    Py_XDECREF(none);
    return sock;
}

bool fmux_is_plain(PyObject *sock)
{
    PyObject *const names[] = {
        fmux_names.recv,
        fmux_names.recv_into,
        fmux_names.recvfrom,
        fmux_names.send,
        fmux_names.sendmsg,
        fmux_names.sendto,
        fmux_names.fileno,
    };
    bool plain = (PyObject *)Py_TYPE(sock) == fmux_objects.socket_class;
    for (size_t i = 0; plain && i < sizeof names / sizeof *names; i++)
        plain = PyDict_GetItemWithError(fmux_objects.socket_dict, names[i]) == NULL;
    return plain;
}

PyObject *fmux_is_plain_method(PyObject *module, PyObject *sock)
{
    (void)module;
    return PyBool_FromLong(fmux_is_plain(sock));
}

bool fmux_socket_kind(PyObject *sock, int *family_out, int *proto_out)
{
    *family_out = fmux__field(fmux_objects.socket_family, sock);
    *proto_out = fmux__field(fmux_objects.socket_proto, sock);
    return PyErr_Occurred() == NULL;
}

/* A socket.socket around an accepted descriptor. */
static PyObject *fmux__wrap(PyObject *listener, int fd)
{
    int family, proto, type = fmux__field(fmux_objects.socket_type, listener);
    if (!fmux_socket_kind(listener, &family, &proto))
        return NULL;
    return fmux_socket_new((PyObject *)Py_TYPE(listener), family, type, proto, fd);
}

/* Accept from a socket of the Internet families. Returns the descriptor, and sets
 * *address_out; or -errno, or -1 with an exception and *address_out NULL. */
static int fmux__accept_internet(int fd, PyObject **address_out)
{
    fmux_address_t address = {.length = sizeof address.any};
    int conn = accept4(fd, (struct sockaddr *)&address.any, &address.length,
                       SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (conn < 0)
        return -errno;
    *address_out = fmux_address_object(&address);
    if (*address_out == NULL)
        close(conn);
    return *address_out == NULL ? -1 : conn;
}

/* Accept by listener._accept(), which knows all families. Returns as above. */
static int fmux__accept_other(PyObject *listener, PyObject **address_out)
{
    PyObject *accepted = FMUX_CALL(fmux_objects.socket_accept, listener);
    if (accepted == NULL)
        return -1;
    int fd = (int)PyLong_AsLong(PyTuple_GetItem(accepted, 0)), on = 1;
    if (ioctl(fd, FIONBIO, &on) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        close(fd);
        fd = -1;
    } else {
        *address_out = PyTuple_GetItem(accepted, 1);
        Py_INCREF(*address_out);
    }
    Py_DECREF(accepted);
    return fd;
}

PyObject *fmux_accept(PyObject *module, PyObject *listener)
{
    (void)module;
    int family = fmux__field(fmux_objects.socket_family, listener);
    PyObject *address = NULL, *result = NULL;
    int fd = fmux__field(fmux_objects.fileno, listener);
    if (PyErr_Occurred() != NULL)
        return NULL;
    if (family == AF_INET || family == AF_INET6) {
        fd = fmux__accept_internet(fd, &address);
        if (fd == -EAGAIN || fd == -EWOULDBLOCK)
            return fmux_none();
        if (fd < 0 && PyErr_Occurred() == NULL)
            (void)fmux_raise(fd);
    } else {
        fd = fmux__accept_other(listener, &address);
    }
    if (fd < 0)
        return NULL;
    PyObject *conn = fmux__wrap(listener, fd);
    if (conn == NULL)
        close(fd);
    else
        result = PyTuple_Pack(2, conn, address);
    Py_XDECREF(conn);
    Py_DECREF(address);
    return result;
}
