/* results.c - builds the result lists: (fd, events) and (key, events) pairs. (The
 * lists of select.select() are built in select_function.c.)
 *
 * A pair is made when it is first reported and kept for the next time: level-
 * triggered descriptors report the same pair again and again. (fd, events) pairs
 * are in one cache per process, direct-mapped by descriptor. (key, events) pairs
 * are in the table of pairs of their poller: a Python list, so that the garbage
 * collector finds the objects to which a key refers.
 *
 * A list is hidden from the garbage collector while it is built: gc.get_objects()
 * must not return one with empty places.
 */
#include "interpreter.h"

/* The events of a selector. */
enum {
    FMUX__EVENT_READ = 1,
    FMUX__EVENT_WRITE = 2,
    FMUX__EVENT_BOTH = 3,
    FMUX__EVENT_PRIORITY = 1 << 16,
    FMUX__PEER_CLOSED = 0x2000
};

/* ---- lists and references ------------------------------------------------ */

static PyObject *fmux__list_begin(Py_ssize_t length)
{
    PyObject *list = PyList_New(length);
    if (list != NULL)
        PyObject_GC_UnTrack(list);
    return list;
}

/* [item]; takes the reference to item. Not hidden: the garbage collector cannot run
 * between the two steps, because nothing is allocated. */
static PyObject *fmux__list_of_one(PyObject *item)
{
    PyObject *list = PyList_New(1);
    if (list == NULL)
        Py_DECREF(item);
    else
        (void)PyList_SetItem(list, 0, item);
    return list;
}

/* Shorten the list to its filled places, and let the garbage collector track it. */
static PyObject *fmux__list_end(PyObject *list, Py_ssize_t filled)
{
    if (list != NULL) {
        if (filled < PyList_Size(list))
            (void)PyList_SetSlice(list, filled, PyList_Size(list), NULL);
        PyObject_GC_Track(list);
    }
    return list;
}

PyObject *fmux_key_at(PyObject *keys, PyObject *number)
{
    PyObject *key = NULL;
#if defined(Py_GIL_DISABLED)
    (void)PyDict_GetItemRef(keys, number, &key);
#else
    key = PyDict_GetItemWithError(keys, number);
    Py_XINCREF(key);
#endif
    return key;
}

PyObject *fmux_find_key(PyObject *keys, int fd)
{
    PyObject *number = PyLong_FromLong(fd);
    if (number == NULL)
        return NULL;
    PyObject *key = fmux_key_at(keys, number);
    Py_DECREF(number);
    return key;
}

/* (first, second); takes the reference to second, which may be NULL. */
static PyObject *fmux__pair(PyObject *first, PyObject *second)
{
    PyObject *pair = second == NULL ? NULL : PyTuple_New(2);
    if (pair == NULL) {
        Py_XDECREF(second);
        return NULL;
    }
    Py_INCREF(first);
    (void)PyTuple_SetItem(pair, 0, first);
    (void)PyTuple_SetItem(pair, 1, second);
    return pair;
}

/* ---- (fd, events) --------------------------------------------------------- */

enum { FMUX__PAIRS = 4096 };

/* A place of the cache. */
typedef struct {
    uint64_t id;    /* fd in the high half, events in the low half; 0: empty */
    PyObject *pair; /* an owned reference */
} fmux_pair_t;

fmux_object_t fmux_pairs(void)
{
    static const fmux_pair_t empty[FMUX__PAIRS];
    PyObject *cache = PyByteArray_FromStringAndSize((const char *)empty,
                                                    sizeof empty);
    Py_XINCREF(cache); /* never freed: a thread may outlive the module */
    return fmux_give(cache);
}

static PyObject *fmux__fd_pair(fmux_pair_t *cache, int fd, uint32_t events)
{
    fmux_pair_t *place = &cache[fd & (FMUX__PAIRS - 1)];
    uint64_t id = (uint64_t)(uint32_t)fd << 32 | events;
    if (place->id == id) {
        Py_INCREF(place->pair);
        return place->pair;
    }
    PyObject *number = PyLong_FromLong(fd);
    if (number == NULL)
        return NULL;
    PyObject *pair = fmux__pair(number, PyLong_FromUnsignedLong(events));
    Py_DECREF(number);
#if !defined(Py_GIL_DISABLED) /* without the GIL, places would need a lock */
    if (pair != NULL) {
        PyObject *old = place->pair;
        Py_INCREF(pair);
        *place = (fmux_pair_t){id, pair};
        Py_XDECREF(old);
    }
#endif
    return pair;
}

PyObject *fmux_pair_list(const fmux_rows_t *rows, int n, PyObject *pairs)
{
    fmux_pair_t *cache = (void *)PyByteArray_AsString(pairs);
    if (n == 1) {
        PyObject *pair = fmux__fd_pair(cache, rows->fds[0], rows->events[0]);
        return pair == NULL ? NULL : fmux__list_of_one(pair);
    }
    PyObject *list = fmux__list_begin(n);
    for (int i = 0; list != NULL && i < n; i++) {
        PyObject *pair = fmux__fd_pair(cache, rows->fds[i], rows->events[i]);
        if (pair == NULL)
            Py_CLEAR(list);
        else
            (void)PyList_SetItem(list, i, pair);
    }
    return fmux__list_end(list, n);
}

/* ---- (key, events) -------------------------------------------------------- */

/* The events of a selector for a mask, before "& key.events". */
static long long fmux__selector_events(uint32_t mask, long long asked)
{
    if ((asked & ~FMUX__EVENT_BOTH) == 0 || asked < 0)
        /* As the standard selectors: every bit but POLLIN means writable, every bit
         * but POLLOUT readable. */
        return (mask & ~(uint32_t)POLLIN ? FMUX__EVENT_WRITE : 0) |
               (mask & ~(uint32_t)POLLOUT ? FMUX__EVENT_READ : 0);
    if (mask & (POLLERR | POLLHUP | POLLNVAL))
        return FMUX__EVENT_BOTH | FMUX__EVENT_PRIORITY | FMUX__PEER_CLOSED;
    return (mask & POLLIN ? FMUX__EVENT_READ : 0) |
           (mask & POLLOUT ? FMUX__EVENT_WRITE : 0) |
           (mask & POLLPRI ? FMUX__EVENT_PRIORITY : 0) |
           (long long)(mask & FMUX__PEER_CLOSED);
}

/* Convert a mask to the events to report for key. Returns false for a key of another
 * type, and for one whose events are not exactly an int of 64 bits; *events_out is
 * without "& key.events" then. */
static int fmux__key_events(PyObject *key, uint32_t mask, int selector,
                            long long *events_out)
{
    *events_out = mask;
    if (!selector)
        return 1;
    PyObject *asked = fmux_is_key(key) ? PyTuple_GetItem(key, 2) : Py_None;
    int other = 1;
    long long bits = PyLong_CheckExact(asked)
                         ? PyLong_AsLongLongAndOverflow(asked, &other)
                         : 0;
    *events_out = fmux__selector_events(mask, other ? 0 : bits);
    if (!other)
        *events_out &= bits;
    return !other;
}

/* The events of a selector for a mask of POLLIN and POLLOUT only; 0 for others. */
static long fmux__plain_events(uint32_t mask)
{
    return mask == POLLIN               ? FMUX__EVENT_READ
           : mask == POLLOUT            ? FMUX__EVENT_WRITE
           : mask == (POLLIN | POLLOUT) ? FMUX__EVENT_BOTH
                                        : 0;
}

/* Whether a pair for the same key was made for this mask. */
static int fmux__reusable(PyObject *pair, uint32_t mask, int selector)
{
    long long reported = PyLong_AsLongLong(PyTuple_GetItem(pair, 1));
    if (!selector)
        return reported == mask;
    if (reported == fmux__plain_events(mask) && reported != 0)
        return 1; /* so key.events contains them */
    long long events;
    return fmux__key_events(PyTuple_GetItem(pair, 0), mask, 1, &events) &&
           reported == events;
}

/* The key for row i: a new reference, or NULL, with an exception only on failure. */
static PyObject *fmux__key_of(const fmux_rows_t *rows, int i,
                              const fmux_context_t *context, PyObject *item)
{
    if (item == NULL || item == Py_None)
        return fmux_find_key(context->keys, rows->fds[i]);
    PyObject *key =
        PyTuple_CheckExact(item) ? PyTuple_GetItem(item, 0) : item;
    Py_INCREF(key);
    return key;
}

/* A new pair for a key of which fmux__key_events returns false. */
static PyObject *fmux__unusual_pair(PyObject *key, long long events)
{
    PyObject *asked = PyObject_GetAttrString(key, "events");
    PyObject *all = asked == NULL ? NULL : PyLong_FromLongLong(events);
    PyObject *number = all == NULL ? NULL : PyNumber_And(all, asked);
    PyObject *pair = number == NULL ? NULL : PyTuple_Pack(2, key, number);
    Py_XDECREF(asked);
    Py_XDECREF(all);
    Py_XDECREF(number);
    return pair;
}

/* The pair for row i. NULL without an exception: the descriptor has no key. */
static PyObject *fmux__key_pair(const fmux_rows_t *rows, int i,
                                const fmux_context_t *context, int selector)
{
    PyObject *table = context->table;
    int tag = rows->tags == NULL || table == NULL ? -1 : rows->tags[i];
    PyObject *item = tag < 0 ? NULL : fmux_item(table, tag);
    if (item != NULL && PyTuple_CheckExact(item) &&
        fmux__reusable(item, rows->events[i], selector))
        return item;
    Py_XDECREF(item);

    /* Up to Python 3.11 this may run the garbage collector, and a destructor may
     * change the registration: look the key up after it. */
    PyObject *pair = PyTuple_New(2);
    if (pair == NULL)
        return NULL;
    item = tag < 0 ? NULL : fmux_item(table, tag);
    PyObject *key = fmux__key_of(rows, i, context, item);
    Py_XDECREF(item);
    long long events;
    int plain =
        key != NULL && fmux__key_events(key, rows->events[i], selector, &events);
    PyObject *number = plain ? PyLong_FromLongLong(events) : NULL;
    if (number == NULL) {
        Py_DECREF(pair);
        pair = plain || key == NULL ? NULL : fmux__unusual_pair(key, events);
        Py_XDECREF(key);
        return pair;
    }
    (void)PyTuple_SetItem(pair, 0, key);
    (void)PyTuple_SetItem(pair, 1, number);
    if (tag >= 0 && tag < PyList_Size(table)) {
        Py_INCREF(pair);
        (void)PyList_SetItem(table, tag, pair);
    }
    return pair;
}

PyObject *fmux_row_key(const fmux_rows_t *rows, int i,
                       const fmux_context_t *context)
{
    int tag = rows->tags == NULL || context->table == NULL ? -1 : rows->tags[i];
    PyObject *item = tag < 0 ? NULL : fmux_item(context->table, tag);
    PyObject *key = fmux__key_of(rows, i, context, item);
    Py_XDECREF(item);
    return key;
}

PyObject *fmux_key_list(const fmux_rows_t *rows, int n,
                        const fmux_context_t *context, int selector)
{
    if (n == 1) {
        PyObject *pair = fmux__key_pair(rows, 0, context, selector);
        if (pair != NULL)
            return fmux__list_of_one(pair);
        return PyErr_Occurred() != NULL ? NULL : PyList_New(0);
    }
    Py_ssize_t filled = 0;
    PyObject *list = fmux__list_begin(n);
    for (int i = 0; list != NULL && i < n; i++) {
        PyObject *pair = fmux__key_pair(rows, i, context, selector);
        if (pair != NULL)
            (void)PyList_SetItem(list, filled++, pair);
        else if (PyErr_Occurred() != NULL)
            Py_CLEAR(list);
    }
    return fmux__list_end(list, filled);
}
