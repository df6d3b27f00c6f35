"""Describe the extension module to cffi: its sources, and the declarations that Python sees.

setuptools executes this at build time (``cffi_modules`` in setup.py), with the project root as the working directory.
The declarations are the marked blocks of two headers, word for word, so that the two cannot disagree.
"""

from pathlib import Path

from cffi import FFI

CORE = Path("csrc")
PYTHON = CORE / "python"
BEGIN, END = "/* cffi: begin */", "/* cffi: end */"

declarations = ""
for header in (CORE / "fastmux.h", PYTHON / "calls.h"):
    text = header.read_text(encoding="utf-8")
    declarations += text[text.index(BEGIN) : text.index(END)]

ffi = FFI()
ffi.cdef(declarations)
ffi.set_source(
    "fastmux._native",
    '#include "binding.h"',
    sources=sorted(map(str, CORE.glob("**/*.c"))),
    depends=sorted(map(str, CORE.glob("**/*.h"))),
    include_dirs=[str(CORE), str(PYTHON), str(PYTHON / "loop")],
    define_macros=[("_GNU_SOURCE", None)],
    libraries=["dl"],  # dlsym() of C libraries before glibc 2.34
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden"],
)
