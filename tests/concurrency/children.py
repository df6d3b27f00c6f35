"""Forked children of tests."""

from __future__ import annotations

import os
import signal
import traceback
import warnings


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        return os.fork()


def in_child(function, *args):
    """Run a function in a forked child; fail with its traceback."""
    ends = os.pipe()
    child = fork()
    if child == 0:
        signal.alarm(20)
        try:
            function(*args)
        except BaseException:
            os.write(ends[1], traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(ends[1])
    with open(ends[0]) as reader:
        report = reader.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert not report, report
    assert status == 0
