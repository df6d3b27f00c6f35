/* binding.h - how the wrappers that cffi writes treat the interpreter.
 *
 * Included only by the module that cffi generates, behind Python.h. cffi lets
 * go of the interpreter lock around every call, and saves and restores errno.
 * Taking the lock back costs about as much as all that a wait does outside the
 * kernel. A call that cannot block need not let go; and errno is not used here,
 * results carry it.
 *
 * A call is quick if it makes at most a system call that does not wait. It may
 * take mux->lock: whoever holds that is never waiting for the interpreter.
 * cffi names the wrapper of f _cffi_f_f, and the compiler decides the
 * comparisons below, so nothing of them is left in the code.
 */
#ifndef FASTMUX_BINDING_H
#define FASTMUX_BINDING_H

#define FMUX_WRAPS(name) (__builtin_strcmp(__func__, "_cffi_f_" name) == 0)
#define FMUX_QUICK                                                            \
    (FMUX_WRAPS("fmux_wait_now") || FMUX_WRAPS("fmux_wakeup") ||              \
     FMUX_WRAPS("fmux_add") || FMUX_WRAPS("fmux_modify") ||                   \
     FMUX_WRAPS("fmux_remove") || FMUX_WRAPS("fmux_fileno"))

#undef Py_BEGIN_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS                                                \
    {                                                                         \
        PyThreadState *_save = FMUX_QUICK ? NULL : PyEval_SaveThread();
#undef Py_END_ALLOW_THREADS
#define Py_END_ALLOW_THREADS                                                  \
        if (!FMUX_QUICK)                                                      \
            PyEval_RestoreThread(_save);                                      \
    }

#undef _cffi_restore_errno
#define _cffi_restore_errno() ((void)0)
#undef _cffi_save_errno
#define _cffi_save_errno() ((void)0)

#endif
