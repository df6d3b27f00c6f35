"""Describe the extension module to cffi: what to compile, and what Python sees of it.

Executed by setuptools at build time (``cffi_modules`` in setup.py), with the project root as the
working directory. What Python sees is the marked blocks of two headers, word for word, so that they
cannot disagree.
"""

from pathlib import Path

from cffi import FFI

CSRC = Path("csrc")
BEGIN, END = "/* cffi: begin */", "/* cffi: end */"

declarations = ""
for name in ("fastmux.h", "binding.h"):
    header = (CSRC / name).read_text(encoding="utf-8")
    declarations += header[header.index(BEGIN) : header.index(END)]

ffi = FFI()
ffi.cdef(declarations)
ffi.set_source(
    "fastmux._native",
    '#include "fastmux.h"\n#include "binding.h"',
    sources=sorted(map(str, CSRC.glob("*.c"))),
    depends=sorted(map(str, CSRC.glob("*.h"))),
    include_dirs=[str(CSRC)],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden"],
)
