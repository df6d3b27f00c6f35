"""Print the wheel tag of a build by this Python, or by a version without the GIL.

Usage: wheel_tag.py [VERSION]

Nothing is compiled. For a version, sysconfig and sys are changed to the values of that Python without the GIL.
"""

from __future__ import annotations

import collections
import runpy
import sys
import sysconfig
from typing import Any

import setuptools
from setuptools.command import bdist_wheel  # noqa: F401 (before sys is changed)

if sys.argv[1:]:
    major, minor = map(int, sys.argv[1].split("."))
    variables = sysconfig.get_config_vars()
    variables["Py_GIL_DISABLED"] = 1
    variables["VERSION"] = f"{major}.{minor}"
    variables["SOABI"] = f"cpython-{major}{minor}t-{variables['MULTIARCH']}"
    Version = collections.namedtuple("Version", "major minor micro releaselevel serial")
    sys.version_info = Version(major, minor, 0, "final", 0)  # type: ignore[assignment]

real_setup = setuptools.setup


def setup(**arguments: Any) -> None:
    command = real_setup(**arguments).get_command_obj("bdist_wheel")
    command.ensure_finalized()
    print("-".join(command.get_tag()[:2]))


setuptools.setup = setup
sys.argv = ["setup.py", "--quiet", "clean"]  # compiles nothing
runpy.run_path("setup.py", run_name="__main__")
