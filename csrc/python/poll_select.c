/* poll_select.c - select.poll and select.select: poll and select on Python collections.
 *
 * A program around select builds its lists for every call. So every call converts
 * objects to numbers, and places in a list back to objects. This takes 10 ns per
 * object here and 40 in Python, which is more than the kernel's part of the call.
 */
#include "interpreter.h"

#include <stdlib.h>
#include <string.h>

enum {
    FMUX__ROOM = 512,  /* descriptors that need no allocation */
    FMUX__SHORT = 1024 /* descriptors of a quick call with timeout 0 */
};

/* Whether to make a call for this many descriptors quick, see fmux_ask. */
static int fmux__quick(int length, int64_t timeout_ns)
{
    return length <= (timeout_ns == 0 ? FMUX__SHORT : FMUX_FEW);
}

/* ---- poll ----------------------------------------------------------------- */

int fmux_poll_set(fmux_context_t *context, PyObject *fd, uint32_t mask)
{
    PyObject *number = mask == 0 ? NULL : PyLong_FromUnsignedLong(mask);
    int result = mask == 0        ? PyDict_DelItem(context->masks, fd)
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
                                   fmux_context_t *in_use, int selector)
{
    const fmux_context_t context = *in_use; /* which may move */
    in_use->busy = 0;
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
        selector ? fmux_key_list(&all, rows, &context, 1)
                 : fmux_pair_list(&all, rows, context.pairs);
    if (fds != few)
        free(fds);
    return result;
}

/* Set list to the records to poll. The first call after a change writes them to
 * room or to the heap, the second one to the context, from which later calls take
 * them.
 * Returns 0, or -1 with an exception. */
static int fmux__poll_records(PyObject *object, struct pollfd *room,
                              fmux_poll_list_t *list)
{
    fmux_context_t *context = (void *)PyByteArray_AsString(object);
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
        Py_ssize_t size = (Py_ssize_t)sizeof *context +
                          length * (Py_ssize_t)sizeof *room;
        if (PyByteArray_Size(object) < size &&
            PyByteArray_Resize(object, size) < 0)
            return -1;
        context = (void *)PyByteArray_AsString(object);
        fmux__fill((struct pollfd *)(context + 1), context->masks);
        context->length = length;
        context->fresh = 2;
    }
    list->records = (struct pollfd *)(context + 1);
    list->length = (int)context->length;
    return 0;
}

static fmux_object_t fmux__poll(fmux_object_t object, int64_t timeout_ns,
                                int selector)
{
    if (timeout_ns == FMUX_UNUSUAL)
        return fmux_give_errno(-EDOM);
    if (fmux_borrow_context(object)->busy)
        return fmux_give_errno(-EBUSY);

    struct pollfd room[FMUX__ROOM];
    fmux_poll_list_t list;
    if (fmux__poll_records(fmux_borrow(object), room, &list) < 0)
        return fmux_give(NULL);
    fmux_context_t *context = fmux_borrow_context(object);
    context->busy = 1;
    int n = fmux_ask(fmux__ask_poll, &list, timeout_ns,
                     fmux__quick(list.length, timeout_ns));
    int own =
        list.records != room && list.records != (struct pollfd *)(context + 1);
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

fmux_object_t fmux_poll_pairs_now(fmux_object_t context)
{
    return fmux__poll(context, 0, 0);
}

fmux_object_t fmux_poll_keys_now(fmux_object_t context)
{
    return fmux__poll(context, 0, 1);
}

fmux_object_t fmux_poll_pairs(fmux_object_t context,
                              fmux_object_t timeout)
{
    return fmux__poll(context,
                      fmux_timeout(fmux_borrow(timeout), &fmux_poll_rule), 0);
}

fmux_object_t fmux_poll_keys(fmux_object_t context,
                             fmux_object_t timeout)
{
    return fmux__poll(context,
                      fmux_timeout(fmux_borrow(timeout), &fmux_selector_rule),
                      1);
}

/* ---- select ---------------------------------------------------------------- */

/* The files of a call, and their descriptors in select.records. */
typedef struct {
    fmux_select_list_t select;
    Py_ssize_t length;
    Py_ssize_t room; /* of the three arrays, which begin as the few_ arrays */
    PyObject **files;
    PyObject *few_files[FMUX__ROOM];
    struct pollfd few_records[FMUX__ROOM];
    int32_t few_places[FMUX__ROOM];
} fmux_files_t;

static void fmux__files_free(fmux_files_t *files)
{
    if (files->files != files->few_files) {
        free(files->files);
        free(files->select.records);
        free(files->select.places);
    }
}

/* Make the arrays four times as long. Returns 0, or -1 with an exception. */
static int fmux__files_grow(fmux_files_t *files)
{
    size_t length = (size_t)files->length;
    size_t room = 4 * (size_t)files->room;
    PyObject **objects = malloc(room * sizeof *objects);
    struct pollfd *records = malloc(room * sizeof *records);
    int32_t *places = malloc(room * sizeof *places);
    if (objects == NULL || records == NULL || places == NULL) {
        free(objects);
        free(records);
        free(places);
        PyErr_NoMemory();
        return -1;
    }
    memcpy(objects, files->files, length * sizeof *objects);
    memcpy(records, files->select.records, length * sizeof *records);
    fmux__files_free(files);
    files->files = objects;
    files->select.records = records;
    files->select.places = places;
    files->room = (Py_ssize_t)room;
    return 0;
}

/* Add one file; takes the reference. Returns 0, or -1 with an exception. */
static int fmux__files_append(fmux_files_t *files, PyObject *file)
{
    if (files->length == files->room && fmux__files_grow(files) < 0) {
        Py_DECREF(file);
        return -1;
    }
    files->files[files->length] = file;
    int fd = PyObject_AsFileDescriptor(file);
    files->select.records[files->length++].fd = fd;
    return fd < 0 ? -1 : 0;
}

/* Add the files of one kind. A fileno() method may change the list meanwhile.
 * Returns 0, or -1 with an exception. */
static int fmux__files_extend(fmux_files_t *files, int kind, PyObject *iterable)
{
    Py_ssize_t before = files->length;
    PyObject *list =
        PySequence_Fast(iterable, "arguments 1-3 must be sequences");
    if (list != NULL && !PyList_Check(list)) {
        PyObject *tuple = list;
        list = PySequence_List(tuple);
        Py_DECREF(tuple);
    }
    if (list == NULL)
        return -1;
    int result = 0;
    PyObject *file;
    for (Py_ssize_t i = 0;
         result == 0 && (file = fmux_item(list, i)) != NULL; i++)
        result = fmux__files_append(files, file);
    Py_DECREF(list);
    files->select.asked[kind] = (int)(files->length - before);
    return result;
}

static int fmux__ask_select(void *list, int64_t timeout_ns)
{
    return fmux_select_list(list, timeout_ns);
}

/* Build the tuple of three lists. */
static PyObject *fmux__files_result(const fmux_files_t *files)
{
    const fmux_select_list_t *select = &files->select;
    const int32_t *place = select->places;
    PyObject *const *asked = files->files;
    PyObject *lists[3];
    int made = 0;
    for (; made < 3; made++) {
        PyObject *list = PyList_New(0);
        for (int i = 0; list != NULL && i < select->found[made]; i++)
            if (PyList_Append(list, asked[*place++]) < 0)
                Py_CLEAR(list);
        if (list == NULL)
            break;
        lists[made] = list;
        asked += select->asked[made];
    }
    /* The last allocation: gc.get_objects() must not return a tuple with empty
     * places. */
    PyObject *result = made < 3 ? NULL : PyTuple_New(3);
    while (made-- > 0)
        if (result != NULL)
            (void)PyTuple_SetItem(result, made, lists[made]);
        else
            Py_DECREF(lists[made]);
    return result;
}

fmux_object_t fmux_select_files(fmux_object_t readers, fmux_object_t writers,
                                fmux_object_t others, fmux_object_t timeout)
{
    int64_t ns = fmux_timeout(fmux_borrow(timeout), &fmux_select_rule);
    if (ns == FMUX_UNUSUAL)
        return fmux_give_errno(-EDOM);
    fmux_files_t files;
    files.select.records = files.few_records;
    files.select.places = files.few_places;
    files.files = files.few_files;
    files.room = FMUX__ROOM;
    files.length = 0;
    PyObject *result = NULL;
    if (fmux__files_extend(&files, 0, fmux_borrow(readers)) == 0 &&
        fmux__files_extend(&files, 1, fmux_borrow(writers)) == 0 &&
        fmux__files_extend(&files, 2, fmux_borrow(others)) == 0) {
        int n = fmux_ask(fmux__ask_select, &files.select, ns,
                         fmux__quick((int)files.length, ns));
        if (n >= 0)
            result = fmux__files_result(&files);
        else if (n != FMUX_RAISED)
            result = PyLong_FromLong(n);
    }
    for (Py_ssize_t i = 0; i < files.length; i++)
        Py_DECREF(files.files[i]);
    fmux__files_free(&files);
    return fmux_give(result);
}
