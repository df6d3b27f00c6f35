/* calls.h - the functions for Python that take or return Python objects.
 *
 * python/build_ffi.py passes the block between the markers to cffi as it stands.
 */
#ifndef FASTMUX_CALLS_H
#define FASTMUX_CALLS_H

#include "fastmux.h"

/* cffi: begin */

/* A Python object: borrowed as an argument, a new reference as a result. A result
 * of NULL means that an exception is set. binding.h passes objects through cffi
 * as they are. */
typedef unsigned long fmux_object_t;

/* Make the cache of (fd, events) pairs, one per process; see results.c. */
fmux_object_t fmux_pairs(void);

/* ---- contexts (contexts.c) --------------------------------------------------
 *
 * A context is the mux of a Poller or a selector, with its registrations and ready
 * arrays. keys is the map of keys, a dict: descriptor -> key. */

/* Make the first context, from which others are made. pairs is the cache of fmux_pairs,
 * key_type is SelectorKey, unchanged is the default of data in Poller.modify(). */
fmux_object_t fmux_first_context(fmux_object_t pairs, fmux_object_t key_type,
                                 fmux_object_t unchanged);

/* Make the context of an EpollSelector, shared with forked children; or of a Poller
 * with this capacity, which takes these events. Returns the context, or an int: an
 * error of fmux_open. */
fmux_object_t fmux_selector_context(fmux_object_t like, fmux_object_t keys);
fmux_object_t fmux_poller_context(fmux_object_t like, fmux_object_t keys,
                                  int mechanism, int shared, int capacity,
                                  uint32_t events);

/* Close the mux, and drop the keys in the table of pairs. */
int fmux_context_close(fmux_object_t context);

/* Make a ready array besides those of the context. Arguments and results as of
 * fmux_ready_open. */
int fmux_context_ready_open(fmux_object_t context, void *memory, int bytes,
                            int rows, int shared, fmux_ready_t **ready_out);

/* The capacity of a Poller, which doubles when it has more registrations. */
int fmux_context_capacity(fmux_object_t context);

/* As the functions of the mux. add and modify leave the table of pairs alone. */
int fmux_context_add(fmux_object_t context, int fd, uint32_t mask);
int fmux_context_modify(fmux_object_t context, int fd, uint32_t mask);
int fmux_context_set_shared(fmux_object_t context, int shared);
int fmux_context_wakeup(fmux_object_t context);
int fmux_context_fileno(fmux_object_t context);

/* The counters: a tuple in the order of Stats. */
fmux_object_t fmux_context_stats(fmux_object_t context);

/* Hide an object with a finalizer from the garbage collector, which runs the
 * finalizers of a cycle in any order: a destructor in the cycle may still use the
 * object. The last reference frees it. Only for objects that refer to no cycle. */
void fmux_hide(fmux_object_t object);

/* ---- registrations (registrations.c) -----------------------------------------------
 *
 * Each makes its changes in one step for the interpreter: no signal handler and
 * no other thread runs in between. */

/* register(), unregister() and modify() of a Poller or a selector. A context of None
 * stands for a selector that makes all calls in Python.
 * Return the key, or an int: -EDOM (nothing is changed; the caller continues in
 * Python: for events and files of other types and the errors of the standard
 * selector), or an error of fmux_add or fmux_modify. After an error of fmux_modify
 * that says that fd is not watched, the key of a Poller is removed. */
fmux_object_t fmux_file_register(fmux_object_t context, fmux_object_t file,
                                 fmux_object_t events, fmux_object_t data);
fmux_object_t fmux_file_unregister(fmux_object_t context, fmux_object_t file);
fmux_object_t fmux_file_modify(fmux_object_t context, fmux_object_t file,
                               fmux_object_t events, fmux_object_t data);

/* Register a file under a descriptor that the caller has read from it. */
fmux_object_t fmux_fd_register(fmux_object_t context, fmux_object_t file, int fd,
                               fmux_object_t events, fmux_object_t data);

/* The parts of a registration without the map of keys, for other events of an
 * EpollSelector. Watch key.fd, and enter the key into the table of pairs, which grows
 * as needed. Returns the tag, or an error of fmux_add. */
int fmux_key_add(fmux_object_t context, fmux_object_t key, uint32_t mask);

/* Change the mask of key.fd, and enter the new key. Returns as fmux_modify. */
int fmux_key_modify(fmux_object_t context, fmux_object_t key, uint32_t mask);

/* Replace the key of fd in the table of pairs. Returns the tag, or -ENOENT. */
int fmux_key_replace(fmux_object_t context, int fd, fmux_object_t key);

/* Stop watching fd, and clear its place in the table of pairs. Returns as
 * fmux_remove. */
int fmux_key_remove(fmux_object_t context, int fd);

/* ---- waits (waits.c) --------------------------------------------------------
 *
 * Each waits, runs signal handlers, continues with the rest of the time, and
 * builds the result. timeout is None or a number of seconds; the _now functions do
 * not sleep. (They exist because a call with one argument is the cheapest.)
 * Returns the result, or an int: -EDOM (an argument that is not of the usual type or
 * range: convert it first; or a context of None), or an error of fmux_wait. */

/* [(fd, events)], for a Poller. maxevents is at least 1. */
fmux_object_t fmux_pairs_now(fmux_object_t context);
fmux_object_t fmux_pairs_wait(fmux_object_t context, fmux_object_t timeout);
fmux_object_t fmux_pairs_some(fmux_object_t context, fmux_object_t timeout,
                              int maxevents);

/* [(key, events)]. */
fmux_object_t fmux_keys_now(fmux_object_t context);
fmux_object_t fmux_keys_wait(fmux_object_t context, fmux_object_t timeout);
fmux_object_t fmux_selector_now(fmux_object_t context);
fmux_object_t fmux_selector_wait(fmux_object_t context, fmux_object_t timeout);

/* The number of rows, which stay in a private array; an error as a negative number,
 * -EBUSY for an array of NULL, of another thread, or with fewer rows than the
 * capacity. */
fmux_object_t fmux_rows_now(fmux_ready_t *ready);
fmux_object_t fmux_rows_wait(fmux_ready_t *ready, fmux_object_t timeout);

/* ---- select.epoll (epoll_object.c) ------------------------------------------------
 *
 * A set is a bytearray that nothing else may change. -ESHUTDOWN: it is closed. */

/* Make a set, which becomes object._set: around fd, or a new one if fd is negative. pairs
 * is the cache of fmux_pairs. Returns the set, or an int: an error of epoll_create1. */
fmux_object_t fmux_epoll_open(fmux_object_t object, int fd, fmux_object_t pairs);
int fmux_epoll_close(fmux_object_t set);
int fmux_epoll_fileno(fmux_object_t set);

/* operation: FMUX_SET_ADD, FMUX_SET_MODIFY or FMUX_SET_REMOVE. */
int fmux_epoll_control(fmux_object_t set, int operation, int fd, uint32_t mask);

/* [(fd, events)], at most 1023 unless maxevents says otherwise; or an int: -EDOM
 * (a negative or unusual timeout: convert it first), or an error of epoll_wait. */
fmux_object_t fmux_epoll_now(fmux_object_t set);
fmux_object_t fmux_epoll_wait(fmux_object_t set, fmux_object_t timeout);
fmux_object_t fmux_epoll_some(fmux_object_t set, fmux_object_t timeout,
                              int maxevents);

/* ---- select.poll (poll_object.c) -------------------------------------------------- */

/* Add the builtin function poll() to a module, which must keep the result, a poll
 * object, as its attribute _poll. */
fmux_object_t fmux_add_poll(fmux_object_t module, fmux_object_t first_context);

/* Make another poll object; keys is None, or the map of keys of a selector. */
fmux_object_t fmux_poll_object(fmux_object_t like, fmux_object_t keys);

/* The context of a poll object; None if it was not made for these keys. */
fmux_object_t fmux_poll_context(fmux_object_t poll, fmux_object_t keys);

/* poll(2) on the masks of a context; timeout in seconds, negative is 0. From the
 * second call without a change on, the records for the kernel are kept in the
 * context.
 * Returns a list of (key, events), or an int: -EBUSY (another thread is in a call
 * with the context), -EDOM (convert the timeout first), or an error of
 * fmux_poll_list. */
fmux_object_t fmux_poll_keys_now(fmux_object_t context);
fmux_object_t fmux_poll_keys(fmux_object_t context, fmux_object_t timeout);

/* ---- select.select (select_function.c) -------------------------------------------- */

/* Add the builtin function select() to a module. Returns None. */
fmux_object_t fmux_add_select(fmux_object_t module);

/* cffi: end */

#endif
