/* loop.h - the objects of the event loop: handles, the queue of callbacks, the turn,
 * the transports.
 *
 * They are heap types of the module fastmux._loop, whose PyInit function is in the
 * same library as the module that cffi generates. Each has a standard counterpart
 * in asyncio, whose attributes it has, too: the private ones because the standard
 * library's own code and other programs use them.
 *
 * No bytecode runs between the system call that takes data out of the kernel and
 * the call that delivers it. So no signal handler and no other thread can
 * intervene, and an exception cannot lose the data.
 */
#ifndef FASTMUX_LOOP_H
#define FASTMUX_LOOP_H

#include "interpreter.h"

#include <structmember.h>

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A member of a type: its name, its type code, its field. */
#define FMUX_MEMBER(name, code, offset, type, field) \
    {                                                \
        name, code, (Py_ssize_t)((offset) + offsetof(type, field)), 0, NULL}
#define FMUX_METHOD(name, function, flags, doc) \
    {                                           \
        name, (PyCFunction)(void (*)(void))(function), flags, doc}

/* ---- module.c ------------------------------------------------------------- */

/* Functions that every CPython exports, but not in the limited API of 3.10. */
typedef struct {
    PyObject *(*vectorcall)(PyObject *callable, PyObject *const *args,
                            size_t nargsf, PyObject *kwnames);
    PyObject *(*vectorcall_method)(PyObject *name, PyObject *const *args,
                                   size_t nargsf, PyObject *kwnames);
    PyObject *(*context_copy)(void);
    int (*context_enter)(PyObject *context);
    int (*context_exit)(PyObject *context);
    int (*get_buffer)(PyObject *object, void *buffer, int flags);
    void (*release_buffer)(void *buffer);
    int (*audit)(const char *event, const char *format, ...);
} fmux_python_t;

extern fmux_python_t fmux_python;

/* Set in nargsf: the place before the first argument may be overwritten. */
#define FMUX_PLACE_BEFORE ((size_t)1 << (8 * sizeof(size_t) - 1))

/* Py_buffer, which is in the limited API since 3.11. */
typedef struct {
    void *buf;
    PyObject *obj;
    Py_ssize_t len, itemsize;
    int readonly, ndim;
    char *format;
    Py_ssize_t *shape, *strides, *suboffsets;
    void *internal;
} fmux_buffer_t;

enum { FMUX_BUFFER_READ = 0,
       FMUX_BUFFER_WRITE = 1 };

/* Python objects that the types use; set once, by setup(). */
typedef struct {
    PyObject *handle_type;  /* asyncio.Handle */
    PyObject *handle_run;   /* its _run, as it was at the import */
    PyObject *context_type; /* contextvars.Context */
    PyObject *time_dict;    /* of the module time */
    PyObject *monotonic;    /* time.monotonic, as it was at the import */
    PyObject *own_time;     /* LoopCore.time */
    PyObject *socket_class; /* socket.socket */
    PyObject *socket_dict;  /* its __dict__: has the methods that a program has patched */
    PyObject *queue;        /* the class of loop._ready, a subclass of Ring */
    PyObject *tasks_dict;   /* of asyncio.tasks */
    PyObject *futures_dict; /* of asyncio.futures */
    PyObject *task_type;    /* the Task in C */
    PyObject *standard;     /* asyncio.SelectorEventLoop */
    PyObject *standard_datagram; /* its transport for datagrams */
    PyObject *socket_base;  /* _socket.socket */
    PyObject *fileno;       /* its fileno */
    PyObject *socket_accept, *socket_new, *socket_init; /* its _accept, __new__, __init__ */
    PyObject *socket_family, *socket_type, *socket_proto; /* their __get__ */
    PyObject *deque;        /* collections.deque */
    PyObject *buffered_protocol; /* asyncio.BufferedProtocol */
    PyObject *standard_stream; /* its transport for streams */
    PyObject *server_class; /* asyncio.Server if it knows its transports, else None */
    PyObject *server_attach, *server_detach; /* its _attach, _detach, as they were at the import */
    PyObject *weak_set;        /* weakref.WeakSet */
    PyObject *set_ready;    /* our function */
    PyObject *report;       /* report(handle, exception) */
    PyObject *open_array;   /* open_array(selector): (array, owner) or None */
    PyObject *fail;         /* fail(result): raises */
    bool weak_set_defers;   /* a WeakSet removes nothing while it is iterated: until Python 3.13 */
    bool skips_false_lines; /* writelines(None) does nothing: since Python 3.12 */
} fmux_objects_t;

extern fmux_objects_t fmux_objects;

/* Interned names; an underscore at the end is left off. (The interpreter caches look-ups
 * by the address of the name: a new string for each call would fill that cache.) */
/* clang-format off */
#define FMUX_NAMES(X) \
    X(_cancelled) X(_run) X(_run_once) \
    X(_write_to_self) X(_add_reader) X(_add_writer) X(_remove_reader) \
    X(_remove_writer) X(_timer_handle_cancelled) X(_fatal_error) X(_flush) \
    X(append) X(clear) X(extend) X(fileno) X(get) X(get_map) X(_io_refs) X(_closed) X(_read_ready__on_eof) \
    X(_lost_write) X(_at_eof) X(_read_by_method) X(_write_by_method) X(recv) X(recv_into) \
    X(recvfrom) X(send) X(sendmsg) X(sendto) X(peername) X(_read_ready) \
    X(datagram_received) X(error_received) X(gettimeout) X(done) X(set_result) X(_asyncio_future_blocking) X(loop) \
    X(_transports) X(data) X(_ensure_fd_no_transport) X(call_at) X(call_later) X(call_soon) \
    X(call_soon_threadsafe) X(cancel) X(create_task) X(close) X(popleft) X(_write_ready) X(_write_ready_by_method) \
    X(_write_failed) X(_after_sending) X(_maybe_pause_protocol) \
    X(get_buffer) X(buffer_updated) X(data_received) X(get_debug) X(modify) \
    X(monotonic) X(register_) X(run) X(select) X(time) X(unregister) X(Future) \
    X(Task) X(context) X(name) X(_attach) X(_detach) X(copy) \
    X(_call_connection_lost) X(_fail_empty_waiter) X(connection_made) \
    X(connection_lost) X(getpeername) X(getsockname) X(sockname) X(max_size) X(set_protocol) X(_clients) \
    X(_pending_removals) X(_remove) X(_sockets)
/* clang-format on */

#define FMUX__NAME(name) PyObject *name;
typedef struct {
    FMUX_NAMES(FMUX__NAME)
} fmux_names_t;

extern fmux_names_t fmux_names;

/* A new reference to None. Headers from 3.12 on take none in Py_RETURN_NONE, also
 * where the limited API is that of an interpreter that needs one. */
static inline PyObject *fmux_none(void)
{
    Py_INCREF(Py_None);
    return Py_None;
}

/* The arguments of a call, behind a place that the callee may overwrite. */
#define FMUX_PASS(...)                                                                  \
    ((PyObject *[]){NULL, __VA_ARGS__} + 1),                                            \
        (sizeof((PyObject *[]){__VA_ARGS__}) / sizeof(PyObject *)) | FMUX_PLACE_BEFORE, \
        NULL
/* callable(arguments...); self.name(arguments...), with self as the first of them. */
#define FMUX_CALL(callable, ...) \
    fmux_python.vectorcall(callable, FMUX_PASS(__VA_ARGS__))
#define FMUX_CALL_METHOD(name, ...) \
    fmux_python.vectorcall_method(fmux_names.name, FMUX_PASS(__VA_ARGS__))

/* Drop the result of a call. Returns 0, or -1 if it has failed. */
static inline int fmux_done(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Make a type with a base, or without one if it is NULL. */
PyTypeObject *fmux_make_type(PyObject *module, PyType_Spec *spec,
                             PyObject *base);

/* Whether the exception that is set ends a program: KeyboardInterrupt, SystemExit. */
bool fmux_is_exit(void);

/* The exception that is set, as an object with a traceback; clears it. */
PyObject *fmux_take_exception(void);

/* ---- handles.c -------------------------------------------------------------- */

enum { FMUX_ARGS = 3,
       FMUX_ARGS_TUPLE = 255 };

/* The part of a Handle or a TimerHandle behind that of the standard class, whose
 * own attributes stay unused: the members below hide them. */
typedef struct {
    PyObject *callback; /* NULL once cancelled */
    PyObject *context;
    PyObject *loop;
    PyObject *args[FMUX_ARGS]; /* or one tuple, if count is FMUX_ARGS_TUPLE */
    PyObject *repr;
    PyObject *source_traceback;
    PyObject *when_object; /* a time that is not exactly a float */
    union {
        double when;
        PyObject *next; /* of the handles that are freed later */
    };
    uint8_t count;
    char cancelled;
    char scheduled; /* in the heap of timers */
} fmux_handle_t;

extern PyTypeObject *fmux_handle_type, *fmux_timer_type;
extern Py_ssize_t fmux_handle_offset;

static inline fmux_handle_t *fmux_handle(PyObject *object)
{
    return (fmux_handle_t *)((char *)object + fmux_handle_offset);
}

static inline bool fmux_is_handle(PyObject *object)
{
    return Py_TYPE(object) == fmux_handle_type ||
           Py_TYPE(object) == fmux_timer_type;
}

/* Make a handle; context NULL or None: a copy of the current one. The garbage collector
 * does not know the handle yet. It need not while the handle is in the queue of a running
 * loop: then it is reachable, and visiting it only takes time. */
PyObject *fmux_handle_new(PyTypeObject *type, PyObject *loop,
                          PyObject *callback, PyObject *const *args,
                          Py_ssize_t count, PyObject *context);

/* Make a handle of this module known to the garbage collector. */
void fmux_handle_track(PyObject *handle);

/* Drop the reference of the queue. If there are others, the garbage collector has to
 * know the handle from now on. */
void fmux_handle_leave(PyObject *handle);

/* Run one handle of any class that is not cancelled. Returns 0, or -1 with an
 * exception that ends the turn. */
int fmux_handle_run(PyObject *handle);

/* Whether a handle of any class is cancelled; -1 with an exception. */
int fmux_handle_is_cancelled(PyObject *handle);

/* Whether asyncio.Handle._run was replaced. */
bool fmux_handle_is_wrapped(void);

int fmux_handles_init(PyObject *module);

/* ---- ring.c ------------------------------------------------------------------- */

/* The queue of callbacks. */
typedef struct {
    PyObject_HEAD PyObject **items; /* a power of two, or NULL */
    Py_ssize_t size, head, count;
} fmux_ring_t;

extern PyTypeObject *fmux_ring_type;

/* Add a new reference to item. Returns 0, or -1 with an exception. */
int fmux_ring_push(fmux_ring_t *ring, PyObject *item);

/* Take the first item, or NULL if there is none. */
PyObject *fmux_ring_take(fmux_ring_t *ring);

/* Make all handles known to the garbage collector. */
void fmux_ring_track(fmux_ring_t *ring);

int fmux_ring_init(PyObject *module);

/* ---- heap.c ------------------------------------------------------------------- */

/* The heap of timers is a list, as in the standard loop. */

/* Returns 0, or -1 with an exception. */
int fmux_heap_push(PyObject *heap, PyObject *timer);

/* Take the first timer; NULL with an exception on failure. */
PyObject *fmux_heap_pop(PyObject *heap);

/* Restore the order of a whole list. */
int fmux_heap_order(PyObject *heap);

/* ---- core.c ---------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD fmux_ring_t *ready;
    PyObject *scheduled; /* a heap of timers */
    PyObject *selector;
    PyObject *selector_dict;
    PyObject *array_owner; /* keeps array alive; NULL: only standard turns */
    PyObject *array_context;
    PyObject *task_factory;
    PyObject *options; /* {"loop": self}, for new tasks and futures; made when needed */
    PyObject *gathered; /* a list: transports to flush after this turn */
    fmux_ready_t *array;
    const fmux_context_t *context;
    Py_ssize_t timer_cancelled_count;
    unsigned turns; /* since the last look for wrapped handles */
    char stopping, debug, closed;
    char gathers;    /* gather_writes */
    char repeats;    /* run_forever() calls _run_once(), which nothing replaces */
    char untracked;  /* queued handles are: in run_forever() */
    char foreign;    /* there may be a timer of another class */
    char overridden; /* a subclass or a program has replaced a method */
    char wrapped;    /* asyncio.Handle._run */
    char standard;   /* a standard turn is in progress */
    char sleeping;   /* without the interpreter lock */
    char woken;      /* a wake-up for this sleep was sent */
} fmux_loop_t;

extern PyTypeObject *fmux_loop_type;

int fmux_core_init(PyObject *module);

/* The methods of LoopCore in other files. */
typedef PyObject *fmux_fast_t(PyObject *self, PyObject *const *args, Py_ssize_t count,
                              PyObject *kwnames);

/* callbacks.c */
fmux_fast_t fmux_call_soon, fmux_call_soon_threadsafe, fmux_call_later, fmux_call_at;
fmux_fast_t fmux_create_task;
PyObject *fmux_create_future(PyObject *self, PyObject *unused);
PyObject *fmux_write_to_self(PyObject *self, PyObject *unused);
PyObject *fmux_time(PyObject *self, PyObject *unused);

/* turn.c */
PyObject *fmux_run_once(PyObject *self, PyObject *unused);

/* watch.c */
fmux_fast_t fmux_add_reader, fmux_add_writer;
PyObject *fmux_remove_reader(PyObject *self, PyObject *fd);
PyObject *fmux_remove_writer(PyObject *self, PyObject *fd);

/* class.name(self, *args) */
PyObject *fmux_call_of(PyObject *class, PyObject *self, PyObject *name,
                       PyObject *const *args, Py_ssize_t count, PyObject *kwnames);

/* sock_calls.c */
PyObject *fmux_readable(PyObject *self, PyObject *fd);
PyObject *fmux_writable(PyObject *self, PyObject *fd);

/* Call the method of the standard loop that has this name. */
static inline PyObject *fmux_standard(PyObject *self, PyObject *name, PyObject *const *args,
                                      Py_ssize_t count, PyObject *kwnames)
{
    return fmux_call_of(fmux_objects.standard, self, name, args, count, kwnames);
}

/* The context in the keywords of a call, borrowed; NULL without one. Sets
 * *valid_out to whether there is no other keyword. */
PyObject *fmux_keyword_context(PyObject *const *values, PyObject *kwnames,
                               bool *valid_out);

/* Whether the loop's time is that of the monotonic clock: fake clocks replace
 * time.monotonic, or override time(). */
bool fmux_has_own_time(const fmux_loop_t *loop);

/* The monotonic clock in seconds, as time.monotonic(). */
double fmux_loop_now(void);

/* ---- address.c ------------------------------------------------------------------- */

typedef struct {
    union {
        struct sockaddr_storage any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t length; /* 0: no address */
} fmux_address_t;

/* The address as socket.recvfrom() returns it; NULL with an exception. */
PyObject *fmux_address_object(const fmux_address_t *address);

/* Convert the address of an Internet socket that needs no name resolution. Returns false,
 * without an exception, for all others. */
bool fmux_address_parse(PyObject *object, int family, fmux_address_t *address_out);

/* ---- transport.c ---------------------------------------------------------------- */

/* The part of a transport behind that of the standard base class, whose own
 * attributes stay unused: the members below hide them. */
typedef struct {
    PyObject *loop;
    PyObject *sock; /* of a pipe: the file object */
    PyObject *protocol;
    PyObject *extra;
    PyObject *server;
    PyObject *buffer;       /* a deque of what is not sent yet; NULL before the first */
    PyObject *empty_waiter; /* of a stream */
    PyObject *closed_sock;  /* of a stream: what sock was, for get_extra_info() */
    PyObject *context;      /* of a stream's callbacks, from Python 3.15 on; else NULL or None */
    PyObject *address;      /* of a datagram socket: its only receiver */
    Py_ssize_t max_size;    /* bytes of one receive */
    Py_ssize_t high_water, low_water;
    Py_ssize_t gathered; /* bytes since the last flush */
    int fd;
    int family;    /* of a datagram socket, or with owns_fd */
    int proto;     /* with owns_fd */
    int conn_lost; /* connection_lost() is scheduled, or was called */
    char closing, paused, eof, protocol_paused, protocol_connected;
    char buffered;  /* the protocol is a BufferedProtocol */
    char owns_fd;   /* of an accepted stream: sock is made when a program asks for it */
    char gathering; /* in loop->gathered: its buffer is sent after the turn */
} fmux_transport_t;

extern Py_ssize_t fmux_transport_offset;

static inline fmux_transport_t *fmux_transport(PyObject *self)
{
    return (fmux_transport_t *)((char *)self + fmux_transport_offset);
}

enum { FMUX_PIECE = 256 * 1024 }; /* max_size of a new transport */

/* Received data on its way into a bytes object. Used with the interpreter lock, and
 * no Python code runs between receiving and copying. */
extern char fmux_piece[FMUX_PIECE];

/* self._loop.name(first, second, third), with context=self._context if there is one: only
 * since Python 3.15 do all methods of the loop take it. third may be NULL. Returns 0, or -1
 * with an exception. */
int fmux_call_loop(PyObject *self, PyObject *name, PyObject *first, PyObject *second,
                   PyObject *third);

/* Call self._fatal_error(exception, message) for the exception that is set, unless
 * that one ends the program. */
PyObject *fmux_fatal(PyObject *self, const char *message);

/* The number of a socket, -1 if it is closed, detached or NULL; -2 with an exception. */
int fmux_socket_number(PyObject *sock);

/* The number of a stream's socket, as fmux_socket_number(). */
static inline int fmux_stream_number(const fmux_transport_t *stream)
{
    return stream->owns_fd ? stream->fd : fmux_socket_number(stream->sock);
}

/* Whether a method of a socket, inherited by socket.socket, was replaced: then it is called. */
bool fmux_is_patched(PyObject *sock, PyObject *name);

/* The same for the socket of a stream. */
static inline bool fmux_stream_is_patched(const fmux_transport_t *stream, PyObject *name)
{
    return stream->owns_fd ? PyDict_GetItemWithError(fmux_objects.socket_dict, name) != NULL
                           : fmux_is_patched(stream->sock, name);
}

static inline bool fmux_try_again(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Receive up to most bytes. NULL without an exception: the end of a stream, or an error
 * of recv(2) in errno; *got_out is its result. address_out, with its length, for
 * datagrams; NULL for streams. */
PyObject *fmux_receive(int fd, Py_ssize_t most, fmux_address_t *address_out,
                       ssize_t *got_out);

/* transport.is_closing() */
PyObject *fmux_is_closing(PyObject *self, PyObject *unused);

enum { FMUX_LONG = 64 * 1024 }; /* bytes of a send that releases the interpreter lock */

/* Whether the buffer is not empty. */
bool fmux_is_buffering(const fmux_transport_t *transport);

/* The buffer: a new reference, or NULL with an exception. */
PyObject *fmux_transport_buffer(PyObject *self);

/* Call _write_ready when the file is writable, unless that is so since before, and
 * pause the protocol if the buffer is long. Returns None, or NULL with an exception. */
PyObject *fmux_buffered(PyObject *self, bool was_buffering);

#define FMUX_TRANSPORT_MEMBER(name, code, field) \
    FMUX_MEMBER(name, code, 0, fmux_transport_t, field)

/* The members of all transports. */
#define FMUX_TRANSPORT_MEMBERS                                              \
    FMUX_TRANSPORT_MEMBER("_loop", T_OBJECT, loop),                         \
        FMUX_TRANSPORT_MEMBER("_protocol", T_OBJECT, protocol),             \
        FMUX_TRANSPORT_MEMBER("_extra", T_OBJECT, extra),                   \
        FMUX_TRANSPORT_MEMBER("max_size", T_PYSSIZET, max_size),            \
        FMUX_TRANSPORT_MEMBER("_high_water", T_PYSSIZET, high_water),       \
        FMUX_TRANSPORT_MEMBER("_low_water", T_PYSSIZET, low_water),         \
        FMUX_TRANSPORT_MEMBER("_conn_lost", T_INT, conn_lost),              \
        FMUX_TRANSPORT_MEMBER("_closing", T_BOOL, closing),                 \
        FMUX_TRANSPORT_MEMBER("_paused", T_BOOL, paused),                   \
        FMUX_TRANSPORT_MEMBER("_protocol_paused", T_BOOL, protocol_paused), \
        FMUX_TRANSPORT_MEMBER("_protocol_connected", T_BOOL, protocol_connected)

/* Make the type of a transport, a subclass of a class of asyncio.transports. Adds the
 * offset to the members, once. Returns 0, or -1 with an exception. */
int fmux_transport_make(PyObject *module, const char *name, const char *base_name,
                        PyMethodDef *methods, PyMemberDef *members, PyGetSetDef *attributes);

/* The attributes of all transports. */
#define FMUX_TRANSPORT_ATTRIBUTES \
    {"_buffer", fmux_transport_get_buffer, fmux_transport_set_buffer, NULL, NULL}
PyObject *fmux_transport_get_buffer(PyObject *self, void *unused);
int fmux_transport_set_buffer(PyObject *self, PyObject *value, void *unused);
extern PyGetSetDef fmux_transport_attributes[];

/* ---- stream_send.c ---------------------------------------------------------------- */

/* Methods of a stream transport. */
PyObject *fmux_stream_write(PyObject *self, PyObject *data);
PyObject *fmux_stream_writelines(PyObject *self, PyObject *iterable);
PyObject *fmux_stream_write_ready(PyObject *self, PyObject *unused);
PyObject *fmux_stream_keep(PyObject *self, PyObject *args);
PyObject *fmux_stream_drop(PyObject *self, PyObject *number);

/* Send what a transport has gathered. Returns 0, or -1 with an exception. */
int fmux_stream_flush(PyObject *transport);

/* ---- stream_life.c ----------------------------------------------------------------- */

/* Attributes and methods of a stream transport. */
PyObject *fmux_stream_get_sock(PyObject *self, void *unused);
int fmux_stream_set_sock(PyObject *self, PyObject *value, void *unused);
PyObject *fmux_stream_get_closed_sock(PyObject *self, void *unused);
PyObject *fmux_stream_start(PyObject *self, PyObject *args);
PyObject *fmux_stream_add_reader(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *fmux_stream_add_writer(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *fmux_stream_close(PyObject *self, PyObject *unused);
PyObject *fmux_stream_connection_lost(PyObject *self, PyObject *exception);
PyObject *fmux_stream_del(PyObject *self, PyObject *unused);

/* serve(loop, transport_class, listener, protocol_factory, server, context, backlog): accept
 * connections and make their transports. False: the standard method has to. */
PyObject *fmux_serve(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* ---- stream_transport.c --------------------------------------------------------- */

int fmux_stream_init(PyObject *module);

/* ---- datagram_transport.c --------------------------------------------------------- */

int fmux_datagram_init(PyObject *module);

/* ---- pipe_transport.c ----------------------------------------------------------- */

int fmux_pipe_init(PyObject *module);

/* ---- accept.c --------------------------------------------------------------- */

/* accept(listener): (socket, address) of a connection, or perhaps None if there is
 * none; else raises as listener.accept(). */
PyObject *fmux_accept(PyObject *module, PyObject *listener);

/* A socket object around a descriptor that is not blocking. It owns the descriptor; on
 * failure nothing does. */
PyObject *fmux_socket_new(PyObject *class, int family, int type, int proto, int fd);

/* Whether system calls do what the methods of a socket do: it is no subclass, and nothing
 * is patched. */
bool fmux_is_plain(PyObject *sock);
PyObject *fmux_is_plain_method(PyObject *module, PyObject *sock);

/* The family and the protocol of a socket. Returns false with an exception. */
bool fmux_socket_kind(PyObject *sock, int *family_out, int *proto_out);

/* ---- sock_calls.c ------------------------------------------------------------- */

/* attempt(function, *args): function(*args), or None if it would block. */
PyObject *fmux_attempt(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* receive(sock, size): sock.recv(size), or None if it would block. */
PyObject *fmux_sock_receive(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* send(sock, data): sock.send(data), or None if it would block. */
PyObject *fmux_sock_send(PyObject *module, PyObject *const *args, Py_ssize_t count);

int fmux_sock_calls_init(PyObject *module);

/* Raise RuntimeError if a transport uses a file with this number. Returns 0, or -1 with an
 * exception. */
int fmux_check_unused(PyObject *loop, PyObject *fd, PyObject *file);

/* set_ready(future): set the result None, unless the future is done. */
PyObject *fmux_set_ready(PyObject *module, PyObject *future);

#endif
