"""Describe the extension module to cffi: what to compile, and what Python sees of it.

Executed by setuptools at build time (``cffi_modules`` in setup.py), with the project root as the
working directory. What Python sees is the marked block of fastmux.h, word for word, so the
two cannot disagree.
"""

from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")
BEGIN, END = "/* cffi: begin */", "/* cffi: end */"

header = (CSRC / "fastmux.h").read_text(encoding="utf-8")
declarations = header[header.index(BEGIN) : header.index(END)]

# cffi wraps every call in Py_BEGIN_ALLOW_THREADS, and saves and restores errno around it. For a call that cannot
# block, letting go of the interpreter lock costs more than the call; errno is not used, since results carry it. What
# is in QUICK holds on to the lock: these calls take mux->lock at most, and nobody who has that waits for the
# interpreter.
QUICK = ("fmux_wait_now", "fmux_wakeup", "fmux_known", "fmux_fileno", "fmux_ready_bytes", "fmux_mechanisms")

PREAMBLE = (
    """
    #include "fastmux.h"

    static inline int fmux_is_quick(const char *wrapper)
    {
        return %s;
    }
    #undef Py_BEGIN_ALLOW_THREADS
    #define Py_BEGIN_ALLOW_THREADS \\
        { PyThreadState *_save = fmux_is_quick(__func__) ? NULL : PyEval_SaveThread();
    #undef Py_END_ALLOW_THREADS
    #define Py_END_ALLOW_THREADS \\
        if (!fmux_is_quick(__func__)) PyEval_RestoreThread(_save); }
    #undef _cffi_restore_errno
    #define _cffi_restore_errno() ((void)0)
    #undef _cffi_save_errno
    #define _cffi_save_errno() ((void)0)
    """
    % " || ".join(f'__builtin_strcmp(wrapper, "_cffi_f_{name}") == 0' for name in QUICK)
)

ffi = FFI()
ffi.cdef(declarations)
ffi.set_source(
    "fastmux._native",
    PREAMBLE,
    sources=[str(CSRC / name) for name in ("fastmux.c", "epoll.c", "poll.c")],
    depends=[str(CSRC / name) for name in ("fastmux.h", "internal.h")],
    include_dirs=[str(CSRC)],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden"],
)
