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

/* ---- registrations (keys.c) -----------------------------------------------
 *
 * The core's call and the entry in table, as one step for the interpreter: no
 * signal handler and no other thread runs between the two. table is a list: tag
 * -> key, or (key, events) once that was reported. It grows as needed.
 * Each returns the tag, or the error of the core's function. */

/* Watch key.fd. */
int fmux_key_add(fmux_t *mux, fmux_object_t table, fmux_object_t key,
                 uint32_t mask);

/* Change the mask of key.fd, and enter the new key. */
int fmux_key_modify(fmux_t *mux, fmux_object_t table, fmux_object_t key,
                    uint32_t mask);

/* Enter a new key for a watched descriptor; no system call. mask is not used. */
int fmux_key_replace(fmux_t *mux, fmux_object_t table, fmux_object_t key,
                     uint32_t mask);

/* Stop watching fd, and clear its entry. */
int fmux_key_remove(fmux_t *mux, fmux_object_t table, int fd);

/* ---- waits on a ready array (waits.c) -------------------------------------
 *
 * Each waits, runs signal handlers, continues with the rest of the time, and
 * builds the result. A ready array of NULL counts as busy. timeout is None or a
 * number of seconds; the functions without one do not sleep. (A call with one
 * argument is the cheapest.)
 * Returns the result, or an int: -EBUSY (try another array), -EDOM (an argument
 * that is not of the usual type or range: convert it first), or an error of
 * fmux_wait. */

/* The context of a ready array: objects that its owner keeps alive. */
typedef struct {
    fmux_object_t table; /* list: tag -> key, or (key, events) */
    fmux_object_t keys;  /* dict: descriptor -> key */
    fmux_object_t cache; /* list of (fd, events), see results.c */
} fmux_context_t;

/* [(fd, events)], for a Poller. maxevents is -1 or 1 to the capacity. */
fmux_object_t fmux_pairs(fmux_ready_t *ready);
fmux_object_t fmux_pairs_wait(fmux_ready_t *ready, fmux_object_t timeout);
fmux_object_t fmux_pairs_some(fmux_ready_t *ready, fmux_object_t timeout,
                              fmux_object_t maxevents);

/* [(fd, events)], for select.epoll: in whole milliseconds; negative timeouts are
 * left to the caller. */
fmux_object_t fmux_epoll_wait(fmux_ready_t *ready, fmux_object_t timeout);
fmux_object_t fmux_epoll_some(fmux_ready_t *ready, fmux_object_t timeout,
                              fmux_object_t maxevents);

/* [(key, events)], for a Poller. */
fmux_object_t fmux_keys(fmux_ready_t *ready);
fmux_object_t fmux_keys_wait(fmux_ready_t *ready, fmux_object_t timeout);

/* [(key, events)], for a selector. */
fmux_object_t fmux_selector(fmux_ready_t *ready);
fmux_object_t fmux_selector_wait(fmux_ready_t *ready, fmux_object_t timeout);

/* The number of rows, which stay in a private array; an error as a negative
 * number. */
fmux_object_t fmux_rows(fmux_ready_t *ready);
fmux_object_t fmux_rows_wait(fmux_ready_t *ready, fmux_object_t timeout);

/* [(key, events)] for the first n rows of an array, for a selector. */
fmux_object_t fmux_selector_rows(fmux_ready_t *ready, int n);

/* ---- waits on lists (lists.c) ---------------------------------------------- */

/* poll(2) on a dict of descriptor -> mask.
 *
 * state is a bytearray. fmux_poll_begin prepares an empty one for a dict of masks
 * and, for a selector, a dict of descriptor -> key; the owner keeps both alive.
 * Set state[FMUX_POLL_FRESH] = 0 after each change of masks: from the second call
 * without a change on, the records for the kernel are kept in state.
 * Returns a list, or an int: -EBUSY (another thread is in a call with state),
 * -EDOM (convert the timeout first), or an error of fmux_poll_list. */
fmux_object_t fmux_poll_begin(fmux_object_t state, fmux_object_t masks,
                              fmux_object_t keys, fmux_object_t cache);

/* [(fd, events)]; timeout in milliseconds, negative is for ever. */
fmux_object_t fmux_poll_pairs(fmux_object_t state, fmux_object_t timeout);

/* [(key, events)]; timeout in seconds, negative is 0. */
fmux_object_t fmux_poll_keys(fmux_object_t state, fmux_object_t timeout);

enum { FMUX_POLL_FRESH = 4 };

/* select on three iterables of files; timeout in seconds.
 * Returns a tuple of three lists, or an int: -EDOM (convert the timeout first),
 * or an error of fmux_select_list. */
fmux_object_t fmux_select_files(fmux_object_t readers, fmux_object_t writers,
                                fmux_object_t others, fmux_object_t timeout);

/* cffi: end */

#endif
