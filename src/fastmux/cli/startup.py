"""Put a process on fastmux: called by ``run``, and by the start-up hook in its child processes."""

from __future__ import annotations

import contextlib
import os
import sys

from fastmux import _binding
from fastmux._patch import patch

from .imports import when_created, when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Final

#: Contains only sitecustomize.py, which Python imports at its start if PYTHONPATH has this folder.
HOOK: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hook")

_started = _told = False


def start() -> None:
    """Patch select and selectors now, and asyncio and uvloop when the program imports them.

    Importing asyncio takes several times as long as everything else here, and most programs do not use it.
    """
    global _started
    if _started:
        return
    _started = True
    patch()
    if sys.platform != "win32":  # the loop there, on IOCP, can do what a selector loop cannot
        when_imported("asyncio", _install)
    when_imported("uvloop", _replace if _binding.is_set("FASTMUX_REPLACE_UVLOOP") else _watch)


def start_children(wanted: bool) -> None:
    """Let the Python processes that this one starts, and theirs, call start() or not."""
    path = os.environ.get("PYTHONPATH")
    folders = [folder for folder in path.split(os.pathsep) if folder != HOOK] if path else []
    if wanted:
        folders.insert(0, HOOK)
    if folders:
        os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    else:
        os.environ.pop("PYTHONPATH", None)


def _install(asyncio: ModuleType) -> None:
    from fastmux.loop.install import install

    install()


def _replace(uvloop: ModuleType) -> None:
    """Replace the class that everything in uvloop creates: new_event_loop(), run() and the policy of install()."""
    from fastmux.loop import EventLoop

    uvloop.Loop = EventLoop  # type: ignore[attr-defined]


def _watch(uvloop: ModuleType) -> None:
    when_created(uvloop.Loop, _tell)


def _tell(cls: type) -> None:
    """Say, once in a process, that it runs on uvloop."""
    global _told
    if not _told and sys.stderr is not None:
        _told = True
        message = (
            f"process {os.getpid()} runs on uvloop, which the program has selected; run --replace-uvloop changes this"
        )
        with contextlib.suppress(OSError, ValueError):
            print(f"fastmux: {message}", file=sys.stderr, flush=True)
