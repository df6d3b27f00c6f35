"""fastmux on other platforms: in an interpreter without what they lack (platforms.py).

`nox -s profiles` runs the tests of the Poller in the same way.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fastmux

HERE = Path(__file__).parent
#: Platform and FASTMUX_PURE: where there may be an extension, with it and without.
PLATFORMS = [("windows", "1"), ("macos", "1"), ("bsd", "1"), ("pypy", "1")]
if fastmux.implementation == "c":
    PLATFORMS += [("macos", ""), ("bsd", "")]

pytestmark = pytest.mark.skipif(sys.implementation.name != "cpython", reason="the profiles change CPython")

PROGRAM = """
import asyncio, select, selectors, socket, sys
import fastmux

ours, theirs = socket.socketpair()
with ours, theirs, selectors.DefaultSelector() as selector:
    key = selector.register(ours, selectors.EVENT_READ)
    theirs.send(b"x")
    assert selector.select() == [(key, selectors.EVENT_READ)]
    assert select.select([ours], [], []) == ([ours], [], [])

async def loop_class():
    return type(asyncio.get_running_loop())

if sys.platform != "win32":  # there the profile has no ProactorEventLoop
    assert asyncio.run(loop_class()) is fastmux.EventLoop
print(type(selector).__name__, *sys.argv[1:])
"""


@pytest.fixture(params=PLATFORMS, ids=lambda param: f"{param[0]}-{'pure' if param[1] else 'c'}")
def platform(request):
    return request.param


@pytest.fixture
def run_as(platform, monkeypatch):
    """Run a program as on a platform, and return its output."""
    name, pure = platform
    monkeypatch.setenv("FASTMUX_PURE", pure)

    def run(*arguments):
        command = [sys.executable, "-W", "error", str(HERE / "platforms.py"), name, *map(str, arguments)]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run


def test_the_main_features_work(run_as):
    assert "Poller:" in run_as(HERE / "smoke.py")


def test_a_program_can_be_run_on_fastmux(platform, run_as, tmp_path):
    """The default selector stays that of the platform."""
    (tmp_path / "program.py").write_text(PROGRAM)
    expected = {
        "windows": "SelectSelector",
        "macos": "KqueueSelector",
        "bsd": "KqueueSelector",
        "pypy": "EpollSelector",
    }

    assert run_as("-m", "fastmux", "run", tmp_path / "program.py", "argument").split() == [
        expected[platform[0]],
        "argument",
    ]


def test_info_shows_what_the_platform_has(platform, run_as):
    shown = run_as("-m", "fastmux", "info")

    assert ("open files, soft  unknown" in shown) == (platform[0] == "windows")
    assert "mechanisms" in shown
