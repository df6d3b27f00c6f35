"""The choice between the extension and the standard library."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

import fastmux
from fastmux import _binding

REPORT = """
import sys, fastmux
print(fastmux.implementation, fastmux.Poller is fastmux.StdlibPoller, "fastmux._native" in sys.modules)
"""
#: Builds without the interpreter lock run on the standard library.
INSTALLED = importlib.util.find_spec("fastmux._native") is not None and getattr(sys, "_is_gil_enabled", lambda: True)()


@pytest.mark.parametrize("value", [None, "", "0"], ids=["unset", "empty", "0"])
def test_the_extension_is_used_where_it_is_installed(run_python, value):
    expected = "c False True" if INSTALLED else "python True False"

    assert run_python(REPORT, FASTMUX_PURE=value).strip() == expected


@pytest.mark.parametrize("value", ["1", "yes"])
def test_the_environment_can_force_the_standard_library(run_python, value):
    assert run_python(REPORT, FASTMUX_PURE=value).strip() == "python True False"


def test_implementation_names_the_class_of_poller():
    assert fastmux.implementation == ("python" if fastmux.Poller is fastmux.StdlibPoller else "c")


def test_a_program_without_the_extension_works(run_python):
    program = """
import os, fastmux
fd = os.eventfd(1)
for mechanism in fastmux.Poller.mechanisms:
    with fastmux.Poller(mechanism) as poller:
        poller.register(fd)
        print(mechanism, poller.poll(1) == [(fd, fastmux.READ)])
"""

    assert run_python(program, FASTMUX_PURE="1").split() == ["epoll", "True", "poll", "True", "select", "True"]


def test_both_classes_have_the_same_mechanisms():
    """Except in a build without epoll: `nox -s no_epoll` sets FASTMUX_NO_EPOLL."""
    epoll = () if os.environ.get("FASTMUX_NO_EPOLL") else ("epoll",)

    assert fastmux.Poller.mechanisms == (*epoll, "poll", "select")
    assert fastmux.StdlibPoller.mechanisms == ("epoll", "poll", "select")


def test_both_classes_have_the_same_public_names():
    def names(cls):
        return {name for name in dir(cls) if not name.startswith("_")}

    assert names(fastmux.Poller) == names(fastmux.StdlibPoller)


def test_the_version_is_a_version():
    assert [part.isdecimal() for part in fastmux.__version__.split(".")[:2]] == [True, True]


@pytest.mark.skipif(fastmux.implementation != "c", reason="there is no extension")
def test_the_extension_for_the_stable_abi_has_the_name_that_all_pythons_find():
    """Python 3.15 prefers a name with the platform, which 3.13 and older do not find in a wheel that 3.15 has built."""
    name = Path(_binding._native.__file__).name

    assert "abi3" not in name or name == "_native.abi3.so"
