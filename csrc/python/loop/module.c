/* module.c - the module fastmux._loop: what its types need of the interpreter. */
#include "loop.h"

#include <dlfcn.h>

fmux_python_t fmux_python;
fmux_objects_t fmux_objects;
fmux_names_t fmux_names;

PyTypeObject *fmux_make_type(PyObject *module, PyType_Spec *spec, PyObject *base)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, base);
    const char *name = strrchr(spec->name, '.') + 1;
    if (type == NULL || PyObject_SetAttrString(module, name, type) < 0) {
        Py_XDECREF(type);
        return NULL;
    }
    return (PyTypeObject *)type;
}

bool fmux_is_exit(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
           PyErr_ExceptionMatches(PyExc_SystemExit);
}

PyObject *fmux_take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        (void)PyException_SetTraceback(value, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* ---- look-ups --------------------------------------------------------------- */

/* The functions are in the program, or in a library of the interpreter that may
 * have been loaded without making its symbols visible. */
static void *fmux__symbol(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);
    Dl_info info;
    if (found == NULL && dladdr((void *)&PyObject_GetAttr, &info) != 0) {
        void *library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
        if (library != NULL) {
            found = dlsym(library, name);
            dlclose(library); /* the interpreter itself stays loaded */
        }
    }
    return found;
}

static PyObject *(*fmux__vectorcall_dict)(PyObject *, PyObject *const *, size_t,
                                          PyObject *);

/* PyObject_Vectorcall, which Python 3.10 does not export. */
static PyObject *fmux__vectorcall(PyObject *callable, PyObject *const *args,
                                  size_t nargsf, PyObject *kwnames)
{
    PyObject *keywords = kwnames == NULL ? NULL : PyDict_New();
    if (kwnames != NULL && keywords == NULL)
        return NULL;
    PyObject *const *values = args + (nargsf & ~FMUX_PLACE_BEFORE);
    PyObject *result = NULL;
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames), i = 0;
    while (i < named && PyDict_SetItem(keywords, PyTuple_GetItem(kwnames, i),
                                       values[i]) == 0)
        i++;
    if (i == named)
        result = fmux__vectorcall_dict(callable, args, nargsf, keywords);
    Py_XDECREF(keywords);
    return result;
}

static int fmux__find_functions(void)
{
    static const char *const names[] = {
        "PyObject_Vectorcall",
        "PyObject_VectorcallMethod",
        "PyContext_CopyCurrent",
        "PyContext_Enter",
        "PyContext_Exit",
        "PyObject_GetBuffer",
        "PyBuffer_Release",
        "PySys_Audit",
    };
    enum { COUNT = sizeof names / sizeof *names };
    _Static_assert(sizeof fmux_python == COUNT * sizeof(void *),
                   "one name for each function");
    void *found[COUNT];
    for (int i = 0; i < COUNT; i++)
        found[i] = fmux__symbol(names[i]);
    memcpy(&fmux_python, found, sizeof fmux_python);
    if (fmux_python.vectorcall == NULL) {
        void *other = fmux__symbol("PyObject_VectorcallDict");
        memcpy(&fmux__vectorcall_dict, &other, sizeof other);
        if (other != NULL)
            fmux_python.vectorcall = fmux__vectorcall;
        memcpy(found, &fmux_python, sizeof fmux_python);
    }
    for (int i = 0; i < COUNT; i++) {
        if (found[i] == NULL) {
            PyErr_Format(PyExc_ImportError, "this interpreter has no %s",
                         names[i]);
            return -1;
        }
    }
    return 0;
}

static PyObject *fmux__intern(const char *name)
{
    size_t length = strlen(name);
    length -= name[length - 1] == '_';
    PyObject *text = PyUnicode_FromStringAndSize(name, (Py_ssize_t)length);
    if (text != NULL)
        PyUnicode_InternInPlace(&text);
    return text;
}

static int fmux__intern_names(void)
{
#define FMUX__INTERN(name)                               \
    if ((fmux_names.name = fmux__intern(#name)) == NULL) \
        return -1;
    FMUX_NAMES(FMUX__INTERN)
    return 0;
}

/* module.name; borrowed for as long as the module exists: it is never released. */
static PyObject *fmux__find(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *found =
        module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return found;
}

static PyObject *fmux__dict_of(const char *module_name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *dict = module == NULL ? NULL : PyModule_GetDict(module);
    Py_XINCREF(dict);
    Py_XDECREF(module);
    return dict;
}

/* The dict of a class behind its __dict__, which is a read-only proxy. */
static PyObject *fmux__type_dict(PyObject *type)
{
    PyObject *proxy = PyObject_GetAttrString(type, "__dict__");
    PyObject *referents = fmux__find("gc", "get_referents");
    PyObject *list = proxy == NULL || referents == NULL ? NULL : FMUX_CALL(referents, proxy);
    PyObject *dict = NULL;
    if (list != NULL && PyList_Size(list) == 1 && PyDict_Check(PyList_GetItem(list, 0))) {
        dict = PyList_GetItem(list, 0);
        Py_INCREF(dict);
    } else if (list != NULL) {
        PyErr_SetString(PyExc_ImportError, "the dict of a class cannot be found");
    }
    Py_XDECREF(proxy);
    Py_XDECREF(referents);
    Py_XDECREF(list);
    return dict;
}

/* owner.name.__get__ */
static PyObject *fmux__getter(PyObject *owner, const char *name)
{
    PyObject *descriptor = PyObject_GetAttrString(owner, name);
    PyObject *get =
        descriptor == NULL ? NULL : PyObject_GetAttrString(descriptor, "__get__");
    Py_XDECREF(descriptor);
    return get;
}

static int fmux__find_objects(void)
{
    fmux_objects_t *o = &fmux_objects;
    bool found =
        (o->handle_type = fmux__find("asyncio.events", "Handle")) != NULL &&
        (o->handle_run = PyObject_GetAttr(o->handle_type, fmux_names._run)) !=
            NULL &&
        (o->context_type = fmux__find("contextvars", "Context")) != NULL &&
        (o->time_dict = fmux__dict_of("time")) != NULL &&
        (o->monotonic = fmux__find("time", "monotonic")) != NULL &&
        (o->tasks_dict = fmux__dict_of("asyncio.tasks")) != NULL &&
        (o->futures_dict = fmux__dict_of("asyncio.futures")) != NULL &&
        (o->task_type = fmux__find("_asyncio", "Task")) != NULL &&
        (o->standard = fmux__find("asyncio", "SelectorEventLoop")) != NULL &&
        (o->standard_datagram = fmux__find("asyncio.selector_events",
                                           "_SelectorDatagramTransport")) != NULL &&
        (o->deque = fmux__find("collections", "deque")) != NULL &&
        (o->buffered_protocol = fmux__find("asyncio", "BufferedProtocol")) != NULL &&
        (o->standard_stream = fmux__find("asyncio.selector_events",
                                         "_SelectorSocketTransport")) != NULL &&
        (o->server_class = fmux__find("asyncio", "Server")) != NULL &&
        (o->server_attach = PyObject_GetAttr(o->server_class, fmux_names._attach)) != NULL &&
        (o->server_detach = PyObject_GetAttr(o->server_class, fmux_names._detach)) != NULL &&
        (o->weak_set = fmux__find("weakref", "WeakSet")) != NULL &&
        (o->socket_base = fmux__find("_socket", "socket")) != NULL &&
        (o->socket_class = fmux__find("socket", "socket")) != NULL &&
        (o->socket_dict = fmux__type_dict(o->socket_class)) != NULL;
    if (!found)
        return -1;
    PyObject *set = PyObject_CallNoArgs(o->weak_set);
    if (set == NULL)
        return -1;
    o->weak_set_defers = PyObject_HasAttrString(set, "_pending_removals");
    Py_DECREF(set);
    PyObject *methods = fmux__type_dict(o->standard_stream);
    if (methods == NULL)
        return -1;
    /* Its own writelines() begins with `if not list_of_data`; the inherited one joins. */
    o->skips_false_lines = PyDict_GetItemString(methods, "writelines") != NULL;
    Py_DECREF(methods);
    if (!PyObject_HasAttrString(o->server_class, "close_clients"))
        o->server_class = Py_None; /* before Python 3.13 it only counts */
    PyObject *socket = o->socket_base;
    found =
        (o->fileno = PyObject_GetAttrString(socket, "fileno")) != NULL &&
        (o->socket_accept = PyObject_GetAttrString(socket, "_accept")) != NULL &&
        (o->socket_new = PyObject_GetAttrString(socket, "__new__")) != NULL &&
        (o->socket_init = PyObject_GetAttrString(socket, "__init__")) != NULL &&
        (o->socket_family = fmux__getter(socket, "family")) != NULL &&
        (o->socket_type = fmux__getter(socket, "type")) != NULL &&
        (o->socket_proto = fmux__getter(socket, "proto")) != NULL;
    return found ? 0 : -1;
}

/* ---- the module ---------------------------------------------------------------- */

/* The interpreter whose objects are the static ones: the first one. From Python 3.13 on,
 * an extension is always initialized in the main one. */
static int64_t fmux__owner = -1;

static int64_t fmux__interpreter(void)
{
    return PyInterpreterState_GetID(PyInterpreterState_Get());
}

static PyObject *fmux__check(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (fmux__owner == fmux__interpreter())
        return fmux_none();
    PyErr_SetString(PyExc_ImportError, "fastmux._loop belongs to another interpreter");
    return NULL;
}

static PyObject *fmux__setup(PyObject *module, PyObject *args)
{
    (void)module;
    fmux_objects_t *o = &fmux_objects;
    if (!PyArg_ParseTuple(args, "OOOO", &o->queue, &o->report, &o->open_array, &o->fail))
        return NULL;
    Py_INCREF(o->queue);
    Py_INCREF(o->report);
    Py_INCREF(o->open_array);
    Py_INCREF(o->fail);
    return fmux_none();
}

static PyMethodDef fmux__functions[] = {
    {"check", fmux__check, METH_NOARGS, "check(): raise ImportError in another interpreter."},
    {"setup", fmux__setup, METH_VARARGS,
     "setup(queue, report, open_array, fail): set the functions that the types call."},
    {"accept", fmux_accept, METH_O,
     "accept(listener): accept a connection; return (socket, address), or None."},
    {"is_plain", fmux_is_plain_method, METH_O,
     "is_plain(sock): whether system calls do what the methods of a socket do: it is no "
     "subclass, and nothing is patched."},
    FMUX_METHOD("serve", fmux_serve, METH_FASTCALL,
                "serve(loop, transport_class, listener, protocol_factory, server, context, backlog): accept "
                "connections; return False if the standard method has to."),
    FMUX_METHOD("attempt", fmux_attempt, METH_FASTCALL,
                "attempt(function, *args): function(*args), or None if it would block."),
    FMUX_METHOD("receive", fmux_sock_receive, METH_FASTCALL,
                "receive(sock, size): sock.recv(size), or None if it would block."),
    FMUX_METHOD("send", fmux_sock_send, METH_FASTCALL,
                "send(sock, data): sock.send(data), or None if it would block."),
    {"set_ready", fmux_set_ready, METH_O,
     "set_ready(future): set the result None, unless the future is done."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef fmux__module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fastmux._loop",
    .m_doc = "The objects of the event loop.",
    .m_size = -1,
    .m_methods = fmux__functions,
};

PyMODINIT_FUNC PyInit__loop(void);

PyMODINIT_FUNC PyInit__loop(void)
{
    if (fmux__owner == -1)
        fmux__owner = fmux__interpreter();
    if (fmux_done(fmux__check(NULL, NULL)) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&fmux__module);
    if (module != NULL &&
        (fmux__find_functions() < 0 || fmux__intern_names() < 0 ||
         fmux__find_objects() < 0 || fmux_ring_init(module) < 0 ||
         fmux_handles_init(module) < 0 || fmux_core_init(module) < 0 ||
         fmux_stream_init(module) < 0 || fmux_datagram_init(module) < 0 ||
         fmux_pipe_init(module) < 0 ||
         fmux_sock_calls_init(module) < 0))
        Py_CLEAR(module);
    return module;
}
