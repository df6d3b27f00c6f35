"""Interpreters as child processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

TIMEOUT = 60.0


@pytest.fixture
def start(tmp_path):
    """Start an interpreter in a directory of its own; kill it at the end of the test. variable=None unsets one."""
    started = []
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}

    def start(*arguments, **variables):
        wanted = {name: value for name, value in {**environment, **variables}.items() if value is not None}
        process = subprocess.Popen(
            [sys.executable, *arguments],
            **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE),
            text=True,
            cwd=tmp_path,
            env=wanted,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
