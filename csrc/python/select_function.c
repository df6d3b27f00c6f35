/* select_function.c - select.select: poll or select on Python collections.
 *
 * A program around select builds its lists for every call. So every call converts
 * objects to numbers, and places in a list back to objects. This takes 10 ns per
 * object here and 40 in Python, which is more than the kernel's part of the call.
 */
#include "interpreter.h"

#include <stdlib.h>
#include <string.h>

enum { FMUX__ROOM = 512 }; /* descriptors that need no allocation */

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

static PyObject *fmux__select_files(PyObject *const *iterables, int64_t ns)
{
    fmux_files_t files;
    files.select.records = files.few_records;
    files.select.places = files.few_places;
    files.files = files.few_files;
    files.room = FMUX__ROOM;
    files.length = 0;
    PyObject *result = NULL;
    if (fmux__files_extend(&files, 0, iterables[0]) == 0 &&
        fmux__files_extend(&files, 1, iterables[1]) == 0 &&
        fmux__files_extend(&files, 2, iterables[2]) == 0) {
        int n = fmux_ask(fmux__ask_select, &files.select, ns,
                         fmux_quick((int)files.length, ns));
        if (n >= 0)
            result = fmux__files_result(&files);
        else if (n != FMUX_RAISED)
            fmux_raise(n);
    }
    for (Py_ssize_t i = 0; i < files.length; i++)
        Py_DECREF(files.files[i]);
    fmux__files_free(&files);
    return result;
}

static PyObject *fmux__select(PyObject *module, PyObject *const *args,
                              Py_ssize_t count)
{
    (void)module;
    if (fmux_check_count("select", count, 3, 4) < 0)
        return NULL;
    PyObject *timeout = count == 3 ? Py_None : args[3];
    int64_t ns = fmux_timeout(timeout, &fmux_select_rule);
    if (ns == FMUX_UNUSUAL) {
        PyObject *usual = fmux_convert("for_select", timeout);
        if (usual == NULL)
            return NULL;
        ns = fmux_timeout(usual, &fmux_select_rule);
        Py_DECREF(usual);
    }
    return fmux__select_files(args, ns);
}

fmux_object_t fmux_add_select(fmux_object_t module)
{
    static PyMethodDef function[] = {
        {"select", FMUX_FASTCALL(fmux__select), METH_FASTCALL,
         "select($module, rlist, wlist, xlist, timeout=None, /)\n--\n\n"
         "Wait until a file is ready, and return the ready ones of each list, in "
         "the same order.\n\n"
         "The lists hold ints or objects with a fileno() method, to wait for "
         "readable, writable and exceptional files. timeout is seconds; None waits "
         "for ever."},
        {NULL, NULL, 0, NULL},
    };
    if (PyModule_AddFunctions(fmux_borrow(module), function) < 0)
        return fmux_give(NULL);
    Py_INCREF(Py_None);
    return fmux_give(Py_None);
}
