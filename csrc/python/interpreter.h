/* interpreter.h - Python.h, limited as cffi limits it in the module that it
 * generates: both end up in one library, and in one stable-ABI wheel.
 */
#ifndef FASTMUX_INTERPRETER_H
#define FASTMUX_INTERPRETER_H

#include <pyconfig.h>

#if !defined(Py_DEBUG) && !defined(Py_TRACE_REFS) && !defined(_CFFI_NO_LIMITED_API)
#if defined(Py_GIL_DISABLED)
#define Py_LIMITED_API 0x030f0000
#else
#define Py_LIMITED_API 0x030a0000
#endif
#endif

#include <Python.h>

#include <errno.h>

#include "calls.h"
#include "fastmux.h"

static inline PyObject *fmux_borrow(fmux_object_t object)
{
    return (PyObject *)object;
}

static inline fmux_object_t fmux_give(PyObject *object)
{
    return (fmux_object_t)object;
}

/* ---- contexts.c ------------------------------------------------------------ */

/* A ready array of a context. Under the interpreter lock, except for the wait that
 * uses it. */
typedef struct fmux_array {
    struct fmux_array *next;
    fmux_ready_t *ready;
    int rows;
    int busy; /* a wait uses it, or its result is being built */
    int32_t memory[];
} fmux_array_t;

/* The registrations of a Poller, a selector or a poll object, and what its waits
 * need. An object, so that the garbage collector finds the keys; it has no
 * finalizer and is never cleared, so the destructors of a cycle can use it. */
typedef struct {
    PyObject_HEAD fmux_t *mux; /* NULL for poll(2); a closed one after close() */
    PyObject *table;  /* with a mux: a list: tag -> key, or (key, events) once that
                       * was reported */
    PyObject *keys;   /* a dict: descriptor -> key; None for select.poll */
    PyObject *masks;  /* poll(2): a dict: descriptor -> mask */
    PyObject *pairs;      /* the cache of fmux_pairs */
    PyObject *key_type;   /* SelectorKey */
    PyObject *unchanged;  /* as data: keep the old data */
    uint32_t events;      /* the events that register() takes */
    char selector;        /* events and errors are those of a selector */
    int rows;             /* of new arrays */
    int capacity;         /* of a Poller: the most rows */
    uint64_t growths;     /* doublings of the capacity */
    uint64_t avoided;     /* calls of modify() without a system call */
    fmux_array_t *arrays; /* see fmux_take_array */
    fmux_stats_t stats;   /* of the mux, once it is freed */

    char fresh; /* poll(2): 0: masks have changed; 1: one call since; 2: the records
                 * are up to date */
    char busy;  /* poll(2): a call is in progress */
    struct pollfd *records; /* poll(2) */
    Py_ssize_t length;      /* number of records */
    Py_ssize_t room;        /* number allocated */
} fmux_context_t;

/* The context; NULL for None. */
static inline fmux_context_t *fmux_borrow_context(fmux_object_t context)
{
    PyObject *object = fmux_borrow(context);
    return object == Py_None ? NULL : (fmux_context_t *)object;
}

/* Make a context without a mux, with the type, the cache and SelectorKey of another
 * one. keys and masks may be NULL. */
fmux_context_t *fmux_context_new(const fmux_context_t *like, PyObject *keys,
                                 PyObject *masks);

/* Whether close() was called. (A context of None is NULL here.) */
int fmux_is_closed(const fmux_context_t *context);

/* Take an array that no wait uses, with a row for each registration up to the
 * capacity: make one if there is none. Returns NULL with an exception, or sets *error_out. */
fmux_array_t *fmux_take_array(fmux_context_t *context, int *error_out);

/* An errno result as an int object. */
static inline fmux_object_t fmux_give_errno(int result)
{
    return fmux_give(PyLong_FromLong(result));
}

/* A new reference to list[place], or NULL without an exception beyond its end. */
static inline PyObject *fmux_item(PyObject *list, Py_ssize_t place)
{
    if (place < 0 || place >= PyList_Size(list))
        return NULL;
#if defined(Py_GIL_DISABLED)
    PyObject *item = PyList_GetItemRef(list, place);
    if (item == NULL)
        PyErr_Clear();
#else
    PyObject *item = PyList_GetItem(list, place);
    Py_INCREF(item);
#endif
    return item;
}

/* ---- timeouts.c --------------------------------------------------------- */

/* Results of fmux_timeout below 0. */
enum {
    FMUX_FOREVER = -1,
    FMUX_UNUSUAL = -2 /* left to _timeouts.py: another type, NaN, too large */
};

/* The conversion of a timeout. */
typedef struct {
    int64_t unit_ns;  /* of the number */
    int64_t step_ns;  /* round up to a multiple of this */
    int64_t most_ns;  /* timeouts beyond +-most_ns are FMUX_UNUSUAL */
    int64_t negative; /* the result for negative numbers */
} fmux_timeout_rule_t;

extern const fmux_timeout_rule_t fmux_poller_rule;
extern const fmux_timeout_rule_t fmux_selector_rule;
extern const fmux_timeout_rule_t fmux_epoll_rule;
extern const fmux_timeout_rule_t fmux_poll_rule;
extern const fmux_timeout_rule_t fmux_long_poll_rule;
extern const fmux_timeout_rule_t fmux_select_rule;

/* Convert a timeout to nanoseconds; None is FMUX_FOREVER. */
int64_t fmux_timeout(PyObject *timeout, const fmux_timeout_rule_t *rule);

/* A deadline, computed from a timeout at the first call of fmux_time_left. */
typedef struct {
    int64_t timeout_ns; /* below 0: for ever */
    int64_t end_ns;     /* 0: not computed yet */
} fmux_deadline_t;

/* The rest of the time: 0 or more, or -1 for ever. */
int64_t fmux_time_left(fmux_deadline_t *deadline);

/* ---- waits.c ------------------------------------------------------------ */

/* An exception is set. */
enum { FMUX_RAISED = -EFAULT };

/* One call of the core, which returns -EINTR for signals. */
typedef int (*fmux_ask_t)(void *call, int64_t timeout_ns);

/* Call until there is a result; run signal handlers after each -EINTR. quick: first
 * make a call that does not sleep, and keep the interpreter lock during it.
 * Returns the result, or FMUX_RAISED. */
int fmux_ask(fmux_ask_t ask, void *call, int64_t timeout_ns, int quick);

/* Whether to make a call of poll or select for this many descriptors quick. */
static inline int fmux_quick(int length, int64_t timeout_ns)
{
    return length <= (timeout_ns == 0 ? 1024 : FMUX_FEW);
}

/* ---- results.c ---------------------------------------------------------- */

/* A new reference to keys[fd], or NULL, with an exception only on failure. */
PyObject *fmux_key_at(PyObject *keys, PyObject *fd);
PyObject *fmux_find_key(PyObject *keys, int fd);

/* List of (fd, events) for n rows, with pairs from a cache of fmux_pairs. */
PyObject *fmux_pair_list(const fmux_rows_t *rows, int n, PyObject *pairs);

/* Whether an object of the map of keys is one of ours, or like it: a subclass of a
 * selector may keep its own. */
static inline int fmux_is_key(PyObject *object)
{
    return PyTuple_Check(object) && PyTuple_Size(object) == 4;
}

/* A new reference to the key of row i, or NULL, with an exception only on failure. */
PyObject *fmux_row_key(const fmux_rows_t *rows, int i,
                       const fmux_context_t *context);

/* List of (key, events) for those of the n rows that have a key. selector: convert
 * masks to the events of a selector. */
PyObject *fmux_key_list(const fmux_rows_t *rows, int n,
                        const fmux_context_t *context, int selector);

/* ---- poll_object.c ------------------------------------------------------------ */

/* Set masks[fd]; below 0 removes it. Returns 0, or -EFAULT with an exception. */
int fmux_poll_set(fmux_context_t *context, PyObject *fd, long mask);

/* ---- builtins.c --------------------------------------------------------------- */

/* A method with METH_FASTCALL, for PyMethodDef. */
#define FMUX_FASTCALL(method) ((PyCFunction)(void (*)(void))(method))

/* Check the number of arguments. Returns 0, or -1 with an exception. */
int fmux_check_count(const char *function, Py_ssize_t count, int least,
                     int most);

/* Convert an argument of an unusual type or value with a function of
 * fastmux.select.arguments, which raises if it is invalid. */
PyObject *fmux_convert(const char *function, PyObject *argument);

/* Raise OSError for a negative result. Returns NULL. */
PyObject *fmux_raise(int result);

#endif
