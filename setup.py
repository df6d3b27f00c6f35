"""The compiled part of the build; everything else is in pyproject.toml."""

import os
import platform
import re
import sys
import sysconfig

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext


class OptionalExtension(build_ext):
    """Continue without the extension where it cannot be built: fastmux then runs on the standard library."""

    def finalize_options(self) -> None:
        super().finalize_options()
        for extension in self.extensions:
            extension.optional = True

    def get_ext_filename(self, fullname: str) -> str:
        """Name a file of the stable ABI for all Pythons: the name that 3.15 prefers is not found by 3.13 and older."""
        return re.sub(r"\.abi3-[^.]+\.so$", ".abi3.so", super().get_ext_filename(fullname))

    def run(self) -> None:
        super().run()
        for extension in self.extensions:
            if not os.path.exists(self.get_ext_fullpath(extension.name)):
                self.warn(
                    f"{extension.name} was not built: is there a C compiler, and the header Python.h?"
                    " fastmux will run on the standard library, at its speed. 'python -m fastmux info' shows this."
                )


class StableAbiWheel(bdist_wheel):
    """Tag the wheel by the ABI for which cffi has compiled: not always a stable one. Builds without the GIL have their
    own stable ABI (PEP 803), from Python 3.15 on."""

    def finalize_options(self) -> None:
        if all(extension.py_limited_api for extension in self.distribution.ext_modules or ()):
            without_gil = sysconfig.get_config_var("Py_GIL_DISABLED")
            self.py_limited_api = "cp315" if without_gil else "cp310"  # keep the latter equal to requires-python
        super().finalize_options()


#: The extension passes objects to C by address, which only CPython has. The core needs a POSIX system.
buildable = platform.python_implementation() == "CPython" and sys.platform != "win32"

setup(
    cffi_modules=["csrc/python/build_ffi.py:ffi"] if buildable else [],
    cmdclass={"build_ext": OptionalExtension, "bdist_wheel": StableAbiWheel},
)
