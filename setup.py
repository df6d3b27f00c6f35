"""The compiled part of the build; everything else is in pyproject.toml."""

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext


class OptionalExtension(build_ext):
    """Go on without the extension where it cannot be built: fastmux then runs on the standard library."""

    def finalize_options(self) -> None:
        super().finalize_options()
        for extension in self.extensions:
            extension.optional = True


class StableAbiWheel(bdist_wheel):
    """Tag the wheel by what was really compiled: free-threaded builds have no limited API."""

    def finalize_options(self) -> None:
        if all(extension.py_limited_api for extension in self.distribution.ext_modules):
            self.py_limited_api = "cp310"  # keep equal to requires-python
        super().finalize_options()


setup(
    cffi_modules=["csrc/build_ffi.py:ffi"],
    cmdclass={"build_ext": OptionalExtension, "bdist_wheel": StableAbiWheel},
)
