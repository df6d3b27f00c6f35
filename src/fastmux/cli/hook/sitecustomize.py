"""Start-up hook of ``python -m fastmux run``, imported by Python in each child process.

A child may be any Python: too old for fastmux, or in an environment without it. So this file is valid in all versions.
"""

import os
import sys


def _start():  # type: () -> None
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if folder != here]
    try:
        if sys.version_info >= (3, 10):  # noqa: UP036  (a child may be older)
            try:
                from fastmux.cli.startup import start
            except ImportError:
                pass
            else:
                start()
    finally:
        _import_next()


def _import_next():  # type: () -> None
    """Import the sitecustomize that Python would have imported, if there is one."""
    own = sys.modules.pop("sitecustomize", None)
    try:
        __import__("sitecustomize")
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise  # Python reports it
    finally:
        if own is not None:
            sys.modules.setdefault("sitecustomize", own)


if __name__ == "sitecustomize":
    _start()
