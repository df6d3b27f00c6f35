/* address.c - socket addresses as Python objects and back.
 *
 * The functions of the socket module resolve names, and so they take longer.
 */
#include "loop.h"

#include <arpa/inet.h>
#include <stddef.h>

/* A path is text; a name in the abstract namespace begins with a null byte, and has a
 * length of its own. */
static PyObject *fmux__unix_object(const struct sockaddr_un *un, socklen_t length)
{
    Py_ssize_t size = (Py_ssize_t)length - (Py_ssize_t)offsetof(struct sockaddr_un, sun_path);
    if (size <= 0) /* as an unnamed socket in the socket module */
        return PyUnicode_FromStringAndSize(NULL, 0);
    return un->sun_path[0] == '\0'
               ? PyBytes_FromStringAndSize(un->sun_path, size)
               : PyUnicode_DecodeFSDefaultAndSize(
                     un->sun_path, (Py_ssize_t)strnlen(un->sun_path, (size_t)size));
}

/* (host, port); inet_ntop() takes longer. */
static PyObject *fmux__internet_object(const struct sockaddr_in *in)
{
    char host[INET_ADDRSTRLEN], *end = host;
    unsigned char bytes[sizeof in->sin_addr];
    memcpy(bytes, &in->sin_addr, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        unsigned byte = bytes[i];
        if (byte >= 100)
            *end++ = (char)('0' + byte / 100);
        if (byte >= 10)
            *end++ = (char)('0' + byte / 10 % 10);
        *end++ = (char)('0' + byte % 10);
        *end++ = '.';
    }
    PyObject *name = PyUnicode_FromStringAndSize(host, end - 1 - host);
    PyObject *port = PyLong_FromLong(ntohs(in->sin_port));
    PyObject *pair = name == NULL || port == NULL ? NULL : PyTuple_Pack(2, name, port);
    Py_XDECREF(name);
    Py_XDECREF(port);
    return pair;
}

PyObject *fmux_address_object(const fmux_address_t *address)
{
    char host[INET6_ADDRSTRLEN];
    const struct sockaddr_in *in = &address->in;
    const struct sockaddr_in6 *in6 = &address->in6;
    if (address->length == 0)
        return fmux_none();
    switch (address->any.ss_family) {
    case AF_INET:
        return fmux__internet_object(in);
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        return Py_BuildValue("siII", host, (int)ntohs(in6->sin6_port),
                             (unsigned)ntohl(in6->sin6_flowinfo),
                             (unsigned)in6->sin6_scope_id);
    case AF_UNIX:
        return fmux__unix_object(&address->un, address->length);
    default: /* as the socket module does with a family that it does not know */
        return Py_BuildValue("iy#", (int)address->any.ss_family,
                             (const char *)&address->any + sizeof(sa_family_t),
                             (Py_ssize_t)address->length - (Py_ssize_t)sizeof(sa_family_t));
    }
}

/* Read item i of a tuple, from 0 to most. Returns whether it is such an int; sets no
 * exception. A tuple that is shorter has 0 there. */
static bool fmux__read_item(PyObject *tuple, Py_ssize_t i, long most, uint32_t *number_out)
{
    PyObject *item = i < PyTuple_Size(tuple) ? PyTuple_GetItem(tuple, i) : NULL;
    long number = 0;
    if (item != NULL) {
        int overflow = 0;
        if (!PyLong_CheckExact(item))
            return false;
        number = PyLong_AsLongAndOverflow(item, &overflow);
        if (overflow != 0 || number < 0 || number > most)
            return false;
    }
    *number_out = (uint32_t)number;
    return true;
}

bool fmux_address_parse(PyObject *object, int family, fmux_address_t *address_out)
{
    uint32_t port, flow, scope;
    Py_ssize_t most = family == AF_INET ? 2 : 4, length;
    if ((family != AF_INET && family != AF_INET6) || !PyTuple_CheckExact(object) ||
        PyTuple_Size(object) < 2 || PyTuple_Size(object) > most ||
        !fmux__read_item(object, 1, 0xFFFF, &port) ||
        !fmux__read_item(object, 2, 0xFFFFF, &flow) ||
        !fmux__read_item(object, 3, 0xFFFFFFFF, &scope) ||
        !PyUnicode_CheckExact(PyTuple_GetItem(object, 0)))
        return false;
    const char *host = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(object, 0), &length);
    if (host == NULL || strlen(host) != (size_t)length) {
        PyErr_Clear(); /* it has surrogates */
        return false;
    }
    if (family == AF_INET) {
        address_out->length = sizeof address_out->in;
        address_out->in = (struct sockaddr_in){
            .sin_family = AF_INET,
            .sin_port = htons((uint16_t)port),
        };
        return inet_pton(AF_INET, host, &address_out->in.sin_addr) == 1;
    }
    address_out->length = sizeof address_out->in6;
    address_out->in6 = (struct sockaddr_in6){
        .sin6_family = AF_INET6,
        .sin6_port = htons((uint16_t)port),
        .sin6_flowinfo = htonl(flow),
        .sin6_scope_id = scope,
    };
    return inet_pton(AF_INET6, host, &address_out->in6.sin6_addr) == 1;
}
