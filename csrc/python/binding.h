/* binding.h - how the module that cffi generates treats the interpreter: the only
 * place where C knows of Python. Included by that module only, behind Python.h.
 *
 * Which calls let go of the interpreter lock
 * ------------------------------------------
 * cffi lets
 * go of the interpreter lock around every call, and saves and restores errno.
 * Taking the lock back costs about as much as all that a wait does outside the
 * kernel. A call that cannot block need not let go; and errno is not used here,
 * results carry it.
 *
 * A call is quick if it makes at most a system call that does not wait. It may
 * take mux->lock: whoever holds that is never waiting for the interpreter. (poll
 * looks at every descriptor: for more than a few Python calls the other form.)
 * cffi names the wrapper of f _cffi_f_f, and the compiler decides the
 * comparisons below, so nothing of them is left in the code.
 */
#ifndef FASTMUX_BINDING_H
#define FASTMUX_BINDING_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FMUX_WRAPS(name) (__builtin_strcmp(__func__, "_cffi_f_" name) == 0)
/* Two of the macros make one block, which formatters take for none. */
/* clang-format off */
#define FMUX_QUICK                                                            \
    (FMUX_WRAPS("fmux_wait_now") || FMUX_WRAPS("fmux_wait_try") ||            \
     FMUX_WRAPS("fmux_wait_try_some") || FMUX_WRAPS("fmux_wakeup") ||         \
     FMUX_WRAPS("fmux_add") || FMUX_WRAPS("fmux_modify") ||                   \
     FMUX_WRAPS("fmux_remove") || FMUX_WRAPS("fmux_fileno") ||                \
     FMUX_WRAPS("fmux_set_shared") ||                                         \
     FMUX_WRAPS("fmux_poll_once_now") || FMUX_WRAPS("fmux_select_files"))

#undef Py_BEGIN_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS                                                \
    {                                                                         \
        PyThreadState *_save = FMUX_QUICK ? NULL : PyEval_SaveThread();
#undef Py_END_ALLOW_THREADS
#define Py_END_ALLOW_THREADS                                                  \
        if (!FMUX_QUICK)                                                      \
            PyEval_RestoreThread(_save);                                      \
    }
/* clang-format on */

#undef _cffi_restore_errno
#define _cffi_restore_errno() ((void)0)
#undef _cffi_save_errno
#define _cffi_save_errno() ((void)0)

/* select() on lists of files
 * --------------------------
 * What select is asked about changes with every call, so lists of Python objects
 * have to become numbers, and places in them lists of objects, each time. In
 * Python that takes longer than the kernel's part of the call (40 ns per
 * number), here 10; and the interpreter's own function says in its own words
 * what is wrong with a file that is none.
 */

/* cffi: begin */

/* select() on ints and objects with a fileno() method. lists is the id() of a list
 * of three sequences, which are replaced by lists of what is ready in them.
 * Signal handlers are run, and the call goes on with what is left of the time.
 * Returns how many are ready; or -EFAULT, with an exception appended to the list;
 * or what else fmux_select_once returns. */
int fmux_select_files(uintptr_t lists, int64_t timeout_ns);

/* cffi: end */

/* So many take no allocation; and without sleep, no time in which others could do
 * much with the interpreter lock. */
enum { FMUX_ROOM = 512 };

/* What is asked about: the files, and the memory of fmux_select_once. */
typedef struct {
    int length;   /* how many files there are */
    int capacity; /* how many there is room for */
    PyObject **files;
    int32_t *memory;
    PyObject *few_files[FMUX_ROOM];        /* room for few */
    int32_t few_memory[8 + 3 * FMUX_ROOM]; /*  "  */
} fmux_question_t;

static void fmux__question_free(fmux_question_t *question)
{
    for (int i = 0; i < question->length; i++)
        Py_DECREF(question->files[i]);
    if (question->files != question->few_files) {
        free(question->files);
        free(question->memory);
    }
}

/* Make room for one file more. */
static int fmux__question_grow(fmux_question_t *question)
{
    int capacity = 4 * question->capacity;
    int size = fmux_once_size(FMUX_SELECT, capacity);
    if (size < 0)
        return size;
    PyObject **files = malloc((size_t)capacity * sizeof *files);
    int32_t *memory = malloc((size_t)size * sizeof *memory);
    if (files == NULL || memory == NULL) {
        free(files);
        free(memory);
        return -ENOMEM;
    }
    memcpy(files, question->files, (size_t)question->length * sizeof *files);
    memcpy(memory, question->memory,
           ((size_t)question->length * 2 + 8) * sizeof *memory);
    if (question->files != question->few_files) {
        free(question->files);
        free(question->memory);
    }
    question->files = files;
    question->memory = memory;
    question->memory[1] = question->capacity = capacity;
    return 0;
}

/* Ask about all files of a list, too. A fileno() method may change it. */
static int fmux__question_add(fmux_question_t *question, int kind,
                              PyObject *list)
{
    int start = question->length;
    for (int i = 0; i < PyList_Size(list); i++) {
        if (question->length == question->capacity) {
            int result = fmux__question_grow(question);
            if (result < 0)
                return result;
        }
#ifdef Py_GIL_DISABLED
        PyObject *file = PySequence_GetItem(list, i);
        if (file == NULL)
            return -EFAULT;
#else
        PyObject *file = PyList_GetItem(list, i);
        Py_INCREF(file);
#endif
        question->files[question->length] = file;
        int fd = PyObject_AsFileDescriptor(file);
        question->memory[8 + 2 * question->length++] = fd;
        if (fd < 0)
            return -EFAULT;
    }
    question->memory[2 + kind] = question->length - start;
    return 0;
}

/* Ask until there is an answer. -EFAULT: a signal handler has raised. */
static int fmux__question_ask(fmux_question_t *question, int64_t timeout_ns)
{
    if (question->length <= (timeout_ns == 0 ? FMUX_ROOM : FMUX_FEW)) {
        /* Under load there is something already, and no need for a clock, or to
         * let go of the interpreter lock. (A signal may interrupt even this.) */
        int n = fmux_select_once(question->memory, 0);
        if (n != -EINTR && (n != 0 || timeout_ns == 0))
            return n;
    }
    int64_t now_ns = timeout_ns > 0 ? fmux_now_ns() : 0;
    if (timeout_ns > INT64_MAX - now_ns)
        timeout_ns = -1;
    int64_t deadline_ns = now_ns + timeout_ns;
    for (;;) {
        PyThreadState *state = PyEval_SaveThread();
        int n = fmux_select_once(question->memory, timeout_ns);
        PyEval_RestoreThread(state);
        if (n != -EINTR)
            return n;
        if (PyErr_CheckSignals() < 0)
            return -EFAULT;
        if (timeout_ns > 0) {
            timeout_ns = deadline_ns - fmux_now_ns();
            if (timeout_ns < 0)
                timeout_ns = 0;
        }
    }
}

/* Put a list of what was found in place of each sequence. */
static int fmux__question_answer(const fmux_question_t *question,
                                 PyObject *lists)
{
    const int32_t *asked = question->memory + 2;
    const int32_t *found = question->memory + 5;
    const int32_t *places = question->memory + 8 + 2 * question->capacity;
    PyObject **files = question->files;
    for (int kind = 0; kind < 3; files += asked[kind++]) {
        PyObject *list = PyList_New(found[kind]);
        if (list == NULL)
            return -EFAULT;
        for (int i = 0; i < found[kind]; i++) {
            PyObject *file = files[*places++];
            Py_INCREF(file);
            (void)PyList_SetItem(list, i, file);
        }
        if (PyList_SetItem(lists, kind, list) < 0)
            return -EFAULT;
    }
    return 0;
}

/* Move the exception that is set into a list, which the caller raises it from: a
 * function behind cffi has no other way to raise one. */
static void fmux__hand_over_exception(PyObject *lists)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    if (PyList_Append(lists, value) < 0)
        PyErr_Clear();
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

/* A list is taken as it is, from anything else one is made. */
static PyObject *fmux__list(PyObject *files)
{
    PyObject *sequence =
        PySequence_Fast(files, "arguments 1-3 must be sequences");
    if (sequence == NULL || PyList_Check(sequence))
        return sequence;
    PyObject *list = PySequence_List(sequence);
    Py_DECREF(sequence);
    return list;
}

int fmux_select_files(uintptr_t lists_id, int64_t timeout_ns)
{
    PyObject *lists = (PyObject *)lists_id;
    fmux_question_t question;
    question.length = 0;
    question.capacity = FMUX_ROOM;
    question.files = question.few_files;
    question.memory = question.few_memory;
    question.memory[0] = 0;
    question.memory[1] = question.capacity;
    int n = 0;
    for (int kind = 0; n == 0 && kind < 3; kind++) {
        PyObject *list = fmux__list(PyList_GetItem(lists, kind));
        n = list == NULL ? -EFAULT
                         : fmux__question_add(&question, kind, list);
        Py_XDECREF(list);
    }
    if (n == 0)
        n = fmux__question_ask(&question, timeout_ns);
    if (n > 0) {
        int result = fmux__question_answer(&question, lists);
        if (result < 0)
            n = result;
    }
    if (n == -EFAULT)
        fmux__hand_over_exception(lists);
    fmux__question_free(&question);
    return n;
}

#endif
