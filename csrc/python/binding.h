/* binding.h - redefines macros of the module that cffi generates, for the functions
 * of calls.h. Included by that module only, after Python.h and cffi's own macros.
 *
 * The interpreter lock
 * --------------------
 * cffi releases the interpreter lock around every call, and saves and restores
 * errno. Taking the lock back costs about as much as everything that a wait does
 * outside the kernel. So these calls keep it; waits.c releases it around a sleep, and
 * contexts.c while it closes a mux. errno is not used: results carry it. A call that
 * keeps the interpreter lock may take mux->lock, because a thread with mux->lock never
 * waits for the interpreter lock.
 *
 * Objects
 * -------
 * cffi has no type for a Python object. The macros below pass fmux_object_t, an
 * unsigned long that nothing else uses, through its conversions unchanged. So a
 * function can return any object, or raise.
 *
 */
#ifndef FASTMUX_BINDING_H
#define FASTMUX_BINDING_H

#if !defined(_cffi_to_c_int) || !defined(_cffi_from_c_int) || !defined(_cffi_save_errno)
#error "cffi does not define the macros that are redefined here"
#endif

#include "calls.h"

#undef Py_BEGIN_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#undef Py_END_ALLOW_THREADS
#define Py_END_ALLOW_THREADS }

#undef _cffi_restore_errno
#define _cffi_restore_errno() ((void)0)
#undef _cffi_save_errno
#define _cffi_save_errno() ((void)0)

_Static_assert(sizeof(fmux_object_t) == sizeof(PyObject *),
               "an unsigned long holds a pointer");
#define FMUX_IS_OBJECT(type) __builtin_types_compatible_p(type, fmux_object_t)
/* The types of arguments: an object, or an integer of 32 or 64 bits. */
#undef _cffi_to_c_int
#define _cffi_to_c_int(o, type)                                           \
    ((type)(FMUX_IS_OBJECT(type) ? (unsigned long long)(fmux_object_t)(o) \
            : sizeof(type) == 8  ? (unsigned long long)_cffi_to_c_i64(o)  \
            : (type) - 1 > 0     ? (unsigned long long)_cffi_to_c_u32(o)  \
                                 : (unsigned long long)_cffi_to_c_i32(o)))
#undef _cffi_from_c_int
#define _cffi_from_c_int(x, type)                          \
    (FMUX_IS_OBJECT(type) ? (PyObject *)(fmux_object_t)(x) \
                          : PyLong_FromLongLong((long long)(x)))

#endif
