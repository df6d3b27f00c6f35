/* lists.c - poll and select on Python collections.
 *
 * A program around select builds its lists for every call, so Python objects become
 * numbers, and places in a list become objects again, each time. In Python that
 * takes longer than the kernel's part of the call (40 ns per number); here 10.
 */
#include "interpreter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FMUX__ROOM = 512,   /* descriptors that need no allocation */
    FMUX__SHORT = 1024, /* up to this many, a call that does not sleep is too
                         * short to release the interpreter lock for */
    FMUX__RAISED = -EFAULT /* an exception is set */
};

/* Call until there is a result: a zero timeout first if there are few descriptors,
 * then sleep without the interpreter lock. ask is one call of the core. */
static int fmux__ask(int (*ask)(void *list, int64_t timeout_ns), void *list,
                     int length, int64_t timeout_ns)
{
    fmux_deadline_t deadline = {timeout_ns, 0};
    if (length <= (timeout_ns == 0 ? FMUX__SHORT : FMUX_FEW)) {
        int n = ask(list, 0);
        if (n != -EINTR && (n != 0 || timeout_ns == 0))
            return n;
    }
    for (;;) {
        int64_t left_ns = fmux_time_left(&deadline);
        PyThreadState *state = PyEval_SaveThread();
        int n = ask(list, left_ns);
        PyEval_RestoreThread(state);
        if (n != -EINTR)
            return n;
        if (PyErr_CheckSignals() < 0)
            return FMUX__RAISED;
    }
}

/* ---- poll ----------------------------------------------------------------- */

/* The layout of state. The records follow. */
typedef struct {
    char busy; /* a call is in progress */
    char pad[3];
    char fresh; /* 0: masks have changed; 1: one call since; 2: the records are up
                 * to date */
    char pad2[3];
    Py_ssize_t length; /* number of records */
    PyObject *masks;   /* borrowed, as all below */
    PyObject *keys;
    PyObject *cache;
} fmux_poll_state_t;

_Static_assert(offsetof(fmux_poll_state_t, fresh) == FMUX_POLL_FRESH,
               "calls.h gives the offset to Python");

static fmux_poll_state_t *fmux__poll_state(PyObject *state)
{
    return (void *)PyByteArray_AsString(state);
}

fmux_object_t fmux_poll_begin(fmux_object_t state, fmux_object_t masks,
                              fmux_object_t keys, fmux_object_t cache)
{
    if (PyByteArray_Resize(fmux_borrow(state), sizeof(fmux_poll_state_t)) < 0)
        return fmux_give(NULL);
    *fmux__poll_state(fmux_borrow(state)) = (fmux_poll_state_t){
        .masks = fmux_borrow(masks),
        .keys = fmux_borrow(keys),
        .cache = fmux_borrow(cache),
    };
    Py_INCREF(Py_None);
    return fmux_give(Py_None);
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

/* Build the result from the n records with revents. */
static PyObject *fmux__poll_result(const fmux_poll_list_t *list, int n,
                                   const fmux_poll_state_t *head, int selector)
{
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
        selector ? fmux_key_list(&all, rows, head->cache, head->keys, 1)
                 : fmux_pair_list(&all, rows, head->cache);
    if (fds != few)
        free(fds);
    return result;
}

/* The records to poll: in state from the second call on, in room or on the heap
 * before. Returns 0, or -1 with an exception. */
static int fmux__poll_records(PyObject *state, struct pollfd *room,
                              fmux_poll_list_t *list)
{
    fmux_poll_state_t *head = fmux__poll_state(state);
    Py_ssize_t length = PyDict_Size(head->masks);
    if (head->fresh == 0) {
        head->fresh = 1;
        list->length = (int)length;
        list->records = room;
        if (length > FMUX__ROOM) {
            list->records = malloc((size_t)length * sizeof *room);
            if (list->records == NULL) {
                PyErr_NoMemory();
                return -1;
            }
        }
        fmux__fill(list->records, head->masks);
        return 0;
    }
    if (head->fresh == 1) {
        Py_ssize_t size = (Py_ssize_t)sizeof *head +
                          length * (Py_ssize_t)sizeof *room;
        if (PyByteArray_Size(state) < size &&
            PyByteArray_Resize(state, size) < 0)
            return -1;
        head = fmux__poll_state(state);
        fmux__fill((struct pollfd *)(head + 1), head->masks);
        head->length = length;
        head->fresh = 2;
    }
    list->records = (struct pollfd *)(head + 1);
    list->length = (int)head->length;
    return 0;
}

static fmux_object_t fmux__poll(PyObject *state, int64_t timeout_ns,
                                int selector)
{
    if (timeout_ns == FMUX_UNUSUAL)
        return fmux_give_errno(-EDOM);
    if (fmux__poll_state(state)->busy)
        return fmux_give_errno(-EBUSY);

    struct pollfd room[FMUX__ROOM];
    fmux_poll_list_t list;
    if (fmux__poll_records(state, room, &list) < 0)
        return fmux_give(NULL);
    fmux_poll_state_t *head = fmux__poll_state(state);
    head->busy = 1;
    int n = fmux__ask(fmux__ask_poll, &list, list.length, timeout_ns);
    PyObject *result = NULL;
    if (n >= 0)
        result = fmux__poll_result(&list, n, head, selector);
    else if (n != FMUX__RAISED)
        result = PyLong_FromLong(n);
    head->busy = 0;
    if (list.records != room && list.records != (struct pollfd *)(head + 1))
        free(list.records);
    return fmux_give(result);
}

fmux_object_t fmux_poll_pairs(fmux_object_t state, fmux_object_t timeout)
{
    return fmux__poll(fmux_borrow(state),
                      fmux_timeout(fmux_borrow(timeout), &fmux_poll_rule), 0);
}

fmux_object_t fmux_poll_keys(fmux_object_t state, fmux_object_t timeout)
{
    return fmux__poll(fmux_borrow(state),
                      fmux_timeout(fmux_borrow(timeout), &fmux_selector_rule),
                      1);
}

/* ---- select ---------------------------------------------------------------- */

typedef struct {
    fmux_select_list_t core;
    int length;   /* number of files */
    int capacity; /* room for this many */
    PyObject **files;
    PyObject *few_files[FMUX__ROOM]; /* room for few, as all below */
    struct pollfd few_records[FMUX__ROOM];
    int32_t few_places[FMUX__ROOM];
} fmux_files_t;

static void fmux__files_begin(fmux_files_t *files)
{
    files->length = 0;
    files->capacity = FMUX__ROOM;
    files->files = files->few_files;
    files->core.records = files->few_records;
    files->core.places = files->few_places;
}

static void fmux__files_free_memory(fmux_files_t *files)
{
    if (files->files == files->few_files)
        return;
    free(files->files);
    free(files->core.records);
    free(files->core.places);
}

static void fmux__files_end(fmux_files_t *files)
{
    for (int i = 0; i < files->length; i++)
        Py_DECREF(files->files[i]);
    fmux__files_free_memory(files);
}

/* Make room for more files. */
static int fmux__files_grow(fmux_files_t *files)
{
    size_t length = (size_t)files->length;
    size_t capacity = 4 * (size_t)files->capacity;
    PyObject **new_files = malloc(capacity * sizeof *new_files);
    struct pollfd *records = malloc(capacity * sizeof *records);
    int32_t *places = malloc(capacity * sizeof *places);
    if (new_files == NULL || records == NULL || places == NULL) {
        free(new_files);
        free(records);
        free(places);
        PyErr_NoMemory();
        return -1;
    }
    memcpy(new_files, files->files, length * sizeof *new_files);
    memcpy(records, files->core.records, length * sizeof *records);
    fmux__files_free_memory(files);
    files->files = new_files;
    files->core.records = records;
    files->core.places = places;
    files->capacity = (int)capacity;
    return 0;
}

/* Add all files of an iterable. A fileno() method may change a list meanwhile. */
static int fmux__files_add(fmux_files_t *files, int kind, PyObject *iterable)
{
    int start = files->length;
    PyObject *list =
        PySequence_Fast(iterable, "arguments 1-3 must be sequences");
    if (list != NULL && !PyList_Check(list)) {
        PyObject *sequence = list;
        list = PySequence_List(sequence);
        Py_DECREF(sequence);
    }
    if (list == NULL)
        return -1;
    int result = 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_Size(list); i++) {
        if (files->length == files->capacity &&
            (result = fmux__files_grow(files)) < 0)
            break;
        PyObject *file = PySequence_GetItem(list, i);
        if (file == NULL) {
            result = -1;
            break;
        }
        files->files[files->length] = file;
        int fd = PyObject_AsFileDescriptor(file);
        files->core.records[files->length++].fd = fd;
        result = fd < 0 ? -1 : 0;
    }
    Py_DECREF(list);
    files->core.asked[kind] = files->length - start;
    return result;
}

static int fmux__ask_select(void *list, int64_t timeout_ns)
{
    return fmux_select_list(list, timeout_ns);
}

/* Build the tuple of three lists. */
static PyObject *fmux__files_result(const fmux_files_t *files)
{
    const int32_t *places = files->core.places;
    PyObject *const *asked = files->files;
    PyObject *result = PyTuple_New(3);
    for (int kind = 0; result != NULL && kind < 3; kind++) {
        PyObject *list = PyList_New(0);
        for (int i = 0; list != NULL && i < files->core.found[kind]; i++)
            if (PyList_Append(list, asked[*places++]) < 0)
                Py_CLEAR(list);
        if (list == NULL)
            Py_CLEAR(result);
        else
            (void)PyTuple_SetItem(result, kind, list);
        asked += files->core.asked[kind];
    }
    return result;
}

fmux_object_t fmux_select_files(fmux_object_t readers, fmux_object_t writers,
                                fmux_object_t others, fmux_object_t timeout)
{
    int64_t ns = fmux_timeout(fmux_borrow(timeout), &fmux_select_rule);
    if (ns == FMUX_UNUSUAL)
        return fmux_give_errno(-EDOM);
    fmux_files_t files;
    fmux__files_begin(&files);
    PyObject *result = NULL;
    if (fmux__files_add(&files, 0, fmux_borrow(readers)) == 0 &&
        fmux__files_add(&files, 1, fmux_borrow(writers)) == 0 &&
        fmux__files_add(&files, 2, fmux_borrow(others)) == 0) {
        int n = fmux__ask(fmux__ask_select, &files.core, files.length, ns);
        if (n >= 0)
            result = fmux__files_result(&files);
        else if (n != FMUX__RAISED)
            result = PyLong_FromLong(n);
    }
    fmux__files_end(&files);
    return fmux_give(result);
}
