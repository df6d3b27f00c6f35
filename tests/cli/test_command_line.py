"""python -m fastmux: info, help and usage errors."""

from __future__ import annotations

import json

import pytest

import fastmux

TIMEOUT = 60.0


def test_info_is_a_table_or_json(start):
    process = start("-m", "fastmux", "info")
    output, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (0, "")
    for text in (fastmux.__version__, fastmux.implementation, "epoll_pwait2", "EXCLUSIVE", "max_user_watches"):
        assert text in output

    process = start("-m", "fastmux", "info", "--json")
    facts = json.loads(process.communicate(timeout=TIMEOUT)[0])
    assert facts["fastmux"]["version"] == fastmux.__version__
    assert facts["fastmux"]["mechanisms"] == list(fastmux.Poller.mechanisms)
    assert facts["kernel features"]["EXCLUSIVE"] is True
    assert facts["limits"]["open files, soft"] > 0


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "-m"], ["run", "--what"], ["nothing"], ["info", "-x"]])
def test_a_wrong_command_line_is_status_2_and_usage(start, arguments):
    process = start("-m", "fastmux", *arguments)
    _, errors = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 2
    assert errors.startswith("usage: python -m fastmux")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "-h"], ["info", "--help"]])
def test_help_helps(start, arguments):
    process = start("-m", "fastmux", *arguments)
    output, _ = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 0
    assert output.startswith("usage: python -m fastmux")
