/* poll_object.c - select.poll: the function, and the type of its objects.
 *
 * The registrations are a dict: descriptor -> mask. The kernel's records are made from
 * it; the second call without a change keeps them for later calls.
 */
#include "interpreter.h"

#include <limits.h>
#include <stdlib.h>

enum { FMUX__ROOM = 512 }; /* descriptors that need no allocation */

/* ---- calls of poll(2) ------------------------------------------------------- */

int fmux_poll_set(fmux_context_t *context, PyObject *fd, long mask)
{
    PyObject *number = mask < 0 ? NULL : PyLong_FromLong(mask);
    int result = mask < 0         ? PyDict_DelItem(context->masks, fd)
                 : number == NULL ? -1
                                  : PyDict_SetItem(context->masks, fd, number);
    Py_XDECREF(number);
    context->fresh = 0;
    return result < 0 ? -EFAULT : 0;
}

typedef struct {
    struct pollfd *records;
    int length;
} fmux_poll_list_t;

static int fmux__ask_poll(void *list, int64_t timeout_ns)
{
    fmux_poll_list_t *self = list;
    return fmux_poll_list(self->records, self->length, timeout_ns);
}

/* Write a record for each item of masks. */
static void fmux__fill(struct pollfd *records, PyObject *masks)
{
    PyObject *fd, *mask;
    Py_ssize_t place = 0;
    while (PyDict_Next(masks, &place, &fd, &mask))
        *records++ = (struct pollfd){
            .fd = (int)PyLong_AsLong(fd),
            .events = (short)(unsigned short)PyLong_AsUnsignedLong(mask),
        };
}

/* Build the result from the n records with revents, and end the call: a destructor
 * that runs meanwhile (up to Python 3.11) may poll with the same context. */
static PyObject *fmux__poll_result(const fmux_poll_list_t *list, int n,
                                   fmux_context_t *context, int selector)
{
    context->busy = 0;
    int32_t few[2 * FMUX_FEW];
    int32_t *fds = n <= FMUX_FEW ? few : malloc(2 * (size_t)n * sizeof *fds);
    if (fds == NULL)
        return PyErr_NoMemory();
    uint32_t *events = (uint32_t *)fds + n;
    int rows = 0;
    for (int i = 0; rows < n && i < list->length; i++) {
        uint32_t found = (uint16_t)list->records[i].revents;
        if (found == 0)
            continue;
        fds[rows] = list->records[i].fd;
        events[rows++] = found;
    }
    fmux_rows_t all = {.fds = fds, .events = events, .capacity = rows};
    PyObject *result =
        selector ? fmux_key_list(&all, rows, context, 1)
                 : fmux_pair_list(&all, rows, context->pairs);
    if (fds != few)
        free(fds);
    return result;
}

/* Set list to the records to poll. The first call after a change writes them to
 * room or to the heap, the second one to the context, from which later calls take
 * them.
 * Returns 0, or -1 with an exception. */
static int fmux__poll_records(fmux_context_t *context, struct pollfd *room,
                              fmux_poll_list_t *list)
{
    Py_ssize_t length = PyDict_Size(context->masks);
    if (context->fresh == 0) {
        context->fresh = 1;
        list->length = (int)length;
        list->records = room;
        if (length > FMUX__ROOM) {
            list->records = malloc((size_t)length * sizeof *room);
            if (list->records == NULL) {
                PyErr_NoMemory();
                return -1;
            }
        }
        fmux__fill(list->records, context->masks);
        return 0;
    }
    if (context->fresh == 1) {
        if (context->room < length) {
            struct pollfd *records =
                realloc(context->records, (size_t)length * sizeof *room);
            if (records == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            context->records = records;
            context->room = length;
        }
        fmux__fill(context->records, context->masks);
        context->length = length;
        context->fresh = 2;
    }
    list->records = context->records;
    list->length = (int)context->length;
    return 0;
}

static fmux_object_t fmux__poll(fmux_object_t object, int64_t timeout_ns,
                                int selector)
{
    if (timeout_ns == FMUX_UNUSUAL)
        return fmux_give_errno(-EDOM);
    fmux_context_t *context = fmux_borrow_context(object);
    if (context->busy)
        return fmux_give_errno(-EBUSY);

    struct pollfd room[FMUX__ROOM];
    fmux_poll_list_t list;
    if (fmux__poll_records(context, room, &list) < 0)
        return fmux_give(NULL);
    context->busy = 1;
    int n = fmux_ask(fmux__ask_poll, &list, timeout_ns,
                     fmux_quick(list.length, timeout_ns));
    int own = list.records != room && list.records != context->records;
    PyObject *result = NULL;
    if (n >= 0) {
        result = fmux__poll_result(&list, n, context, selector);
    } else {
        context->busy = 0;
        if (n != FMUX_RAISED)
            result = PyLong_FromLong(n);
    }
    if (own)
        free(list.records);
    return fmux_give(result);
}

fmux_object_t fmux_poll_keys_now(fmux_object_t context)
{
    return fmux__poll(context, 0, 1);
}

fmux_object_t fmux_poll_keys(fmux_object_t context,
                             fmux_object_t timeout)
{
    return fmux__poll(context,
                      fmux_timeout(fmux_borrow(timeout), &fmux_selector_rule),
                      1);
}

/* ---- objects ---------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD fmux_context_t *context;
} fmux_poll_t;

static fmux_context_t *fmux__context_of(PyObject *poll)
{
    return ((fmux_poll_t *)poll)->context;
}

static PyObject *fmux__poll_new(PyTypeObject *type, const fmux_context_t *like,
                                PyObject *keys)
{
    PyObject *masks = PyDict_New();
    fmux_context_t *context =
        masks == NULL ? NULL : fmux_context_new(like, keys, masks);
    PyObject *self = context == NULL ? NULL : PyType_GenericAlloc(type, 0);
    Py_XDECREF(masks);
    if (self == NULL)
        Py_XDECREF(context);
    else
        ((fmux_poll_t *)self)->context = context;
    return self;
}

fmux_object_t fmux_poll_object(fmux_object_t like, fmux_object_t keys)
{
    PyObject *other = fmux_borrow(like);
    return fmux_give(fmux__poll_new(Py_TYPE(other), fmux__context_of(other),
                                    fmux_borrow(keys)));
}

fmux_object_t fmux_poll_context(fmux_object_t poll, fmux_object_t keys)
{
    fmux_context_t *own = fmux__context_of(fmux_borrow(poll));
    PyObject *context =
        own->keys == fmux_borrow(keys) ? (PyObject *)own : Py_None;
    Py_INCREF(context);
    return fmux_give(context);
}

static int fmux__poll_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(fmux__context_of(self));
    return 0;
}

static void fmux__poll_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(fmux__context_of(self));
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* Convert an event mask. Returns -1 with an exception. */
static long fmux__poll_mask(PyObject *mask)
{
    int overflow;
    long bits = PyLong_CheckExact(mask)
                    ? PyLong_AsLongAndOverflow(mask, &overflow)
                    : -1;
    if (bits >= 0 && bits <= USHRT_MAX)
        return bits;
    PyObject *number = fmux_convert("short", mask);
    bits = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    return bits;
}

/* Change a registration. mask NULL: remove it. known: it must exist. */
static PyObject *fmux__poll_change(PyObject *self, PyObject *file,
                                   PyObject *mask, int known)
{
    fmux_context_t *context = fmux__context_of(self);
    int fd = PyObject_AsFileDescriptor(file);
    long bits = fd < 0 || mask == NULL ? -1 : fmux__poll_mask(mask);
    if (fd < 0 || (mask != NULL && bits < 0))
        return NULL;
    PyObject *number = PyLong_FromLong(fd);
    int result = number == NULL ? -1 : !known;
    if (result == 0)
        result = PyDict_Contains(context->masks, number);
    if (result == 0)
        fmux_raise(-ENOENT);
    if (result > 0)
        result = fmux_poll_set(context, number, bits);
    else
        result = -1;
    Py_XDECREF(number);
    if (result < 0)
        return NULL;
    Py_INCREF(Py_None);
    return Py_None;
}

static PyObject *fmux__poll_register(PyObject *self, PyObject *const *args,
                                     Py_ssize_t count)
{
    if (fmux_check_count("register", count, 1, 2) < 0)
        return NULL;
    if (count == 2)
        return fmux__poll_change(self, args[0], args[1], 0);
    PyObject *mask = PyLong_FromLong(POLLIN | POLLPRI | POLLOUT);
    PyObject *result =
        mask == NULL ? NULL : fmux__poll_change(self, args[0], mask, 0);
    Py_XDECREF(mask);
    return result;
}

static PyObject *fmux__poll_modify(PyObject *self, PyObject *const *args,
                                   Py_ssize_t count)
{
    if (fmux_check_count("modify", count, 2, 2) < 0)
        return NULL;
    return fmux__poll_change(self, args[0], args[1], 1);
}

static PyObject *fmux__poll_unregister(PyObject *self, PyObject *file)
{
    return fmux__poll_change(self, file, NULL, 0);
}

static PyObject *fmux__poll_poll(PyObject *self, PyObject *const *args,
                                 Py_ssize_t count)
{
    if (fmux_check_count("poll", count, 0, 1) < 0)
        return NULL;
    PyObject *timeout = count == 0 ? Py_None : args[0];
    int64_t ns = fmux_timeout(timeout, &fmux_poll_rule);
    if (ns == FMUX_UNUSUAL) {
        PyObject *usual = fmux_convert("for_poll", timeout);
        if (usual == NULL)
            return NULL;
        ns = fmux_timeout(usual, &fmux_long_poll_rule);
        Py_DECREF(usual);
    }
    PyObject *result =
        fmux_borrow(fmux__poll(fmux_give((PyObject *)fmux__context_of(self)), ns, 0));
    if (result == NULL || PyList_Check(result))
        return result;
    int error = (int)PyLong_AsLong(result);
    Py_DECREF(result);
    if (error != -EBUSY)
        return fmux_raise(error);
    PyErr_SetString(PyExc_RuntimeError, "concurrent poll() invocation");
    return NULL;
}

static PyMethodDef fmux__poll_methods[] = {
    {"register", FMUX_FASTCALL(fmux__poll_register), METH_FASTCALL,
     "register($self, fd, eventmask=7, /)\n--\n\n"
     "Watch fd, an int or an object with a fileno() method, for the POLL* bits in "
     "eventmask.\n\nFor a registered descriptor this replaces the mask."},
    {"modify", FMUX_FASTCALL(fmux__poll_modify), METH_FASTCALL,
     "modify($self, fd, eventmask, /)\n--\n\n"
     "Replace the mask of a registered fd; FileNotFoundError if it is not "
     "registered."},
    {"unregister", fmux__poll_unregister, METH_O,
     "unregister($self, fd, /)\n--\n\n"
     "Stop watching fd; KeyError if it is not registered."},
    {"poll", FMUX_FASTCALL(fmux__poll_poll), METH_FASTCALL,
     "poll($self, timeout=None, /)\n--\n\n"
     "Wait, and return (fd, events) for each ready descriptor.\n\n"
     "timeout is milliseconds, rounded up; None and negative timeouts wait for "
     "ever."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot fmux__poll_slots[] = {
    {Py_tp_dealloc, __extension__(void *) fmux__poll_free},
    {Py_tp_traverse, __extension__(void *) fmux__poll_traverse},
    {Py_tp_methods, fmux__poll_methods},
    {Py_tp_doc, "A set of descriptors for poll(2), made by poll()."},
    {0, NULL},
};

static PyType_Spec fmux__poll_spec = {
    .name = "fastmux.select.poll",
    .basicsize = sizeof(fmux_poll_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = fmux__poll_slots,
};

/* ---- the function ------------------------------------------------------------ */

static PyObject *fmux__poll_make(PyObject *module, PyObject *unused)
{
    (void)unused;
    PyObject *like = PyObject_GetAttrString(module, "_poll");
    if (like == NULL)
        return NULL;
    fmux_object_t made = fmux_poll_object(fmux_give(like), fmux_give(Py_None));
    Py_DECREF(like);
    return fmux_borrow(made);
}

fmux_object_t fmux_add_poll(fmux_object_t module, fmux_object_t first_context)
{
    static PyMethodDef function[] = {
        {"poll", fmux__poll_make, METH_NOARGS,
         "poll($module, /)\n--\n\nMake a set of descriptors for poll(2)."},
        {NULL, NULL, 0, NULL},
    };
    PyObject *type = PyType_FromSpec(&fmux__poll_spec);
    if (type == NULL || PyModule_AddFunctions(fmux_borrow(module), function) < 0)
        return fmux_give(NULL);
    PyObject *first =
        fmux__poll_new((PyTypeObject *)type,
                       fmux_borrow_context(first_context), Py_None);
    Py_DECREF(type);
    return fmux_give(first);
}
