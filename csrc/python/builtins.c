/* builtins.c - shared by the builtin functions and methods of the module select.
 *
 * They replace builtins, so they are builtins: unlike a Python function, a builtin
 * that a program keeps in a class does not bind to its instances.
 */
#include "interpreter.h"

int fmux_check_count(const char *function, Py_ssize_t count, int least,
                     int most)
{
    if (count >= least && count <= most)
        return 0;
    int limit = count < least ? least : most;
    PyErr_Format(PyExc_TypeError, "%s expected %s%d argument%s, got %zd",
                 function,
                 least == most   ? ""
                 : count < least ? "at least "
                                 : "at most ",
                 limit, limit == 1 ? "" : "s", count);
    return -1;
}

PyObject *fmux_convert(const char *function, PyObject *argument)
{
    PyObject *module = PyImport_ImportModule("fastmux.select.arguments");
    PyObject *result =
        module == NULL
            ? NULL
            : PyObject_CallMethod(module, function, "(O)", argument);
    Py_XDECREF(module);
    return result;
}

PyObject *fmux_raise(int result)
{
    errno = -result;
    return PyErr_SetFromErrno(PyExc_OSError);
}
