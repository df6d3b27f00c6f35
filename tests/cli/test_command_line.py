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


def test_info_says_why_the_extension_is_not_in_use(start):
    process = start("-m", "fastmux", "info", "--json", FASTMUX_PURE="1")
    facts = json.loads(process.communicate(timeout=TIMEOUT)[0])
    assert (
        facts["fastmux"]["implementation"],
        facts["fastmux"]["reason"],
    ) == ("python", "FASTMUX_PURE is set in the environment")

    process = start("-m", "fastmux", "info", "--json", FASTMUX_PURE=None)
    facts = json.loads(process.communicate(timeout=TIMEOUT)[0])
    assert (facts["fastmux"]["implementation"] == "c") == ("reason" not in facts["fastmux"])


def test_an_extension_that_was_not_built_or_does_not_load_is_a_reason(start):
    """Imitated by another finder of modules; PyPy, for which there is no extension, imitates CPython."""
    program = """
import importlib.abc, platform, sys
platform.python_implementation = lambda: "CPython"
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "fastmux._native":
            %s
sys.meta_path.insert(0, Finder())
import fastmux.cli.info, importlib.util
importlib.util.find_spec = lambda name: %s
print(fastmux.implementation, fastmux.cli.info.reason())
"""
    hidden = program % ("raise ImportError('not there')", None)
    broken = program % ("raise ImportError('undefined symbol')", True)
    variables = {"FASTMUX_PURE": None}

    assert "python the extension was not built" in start("-c", hidden, **variables).communicate(timeout=TIMEOUT)[0]
    assert start("-c", broken, **variables).communicate(timeout=TIMEOUT)[0] == "python undefined symbol\n"


def test_an_interpreter_without_an_extension_is_a_reason(start):
    program = """
import fastmux.cli.info, importlib.util, platform
platform.python_implementation, platform.system = lambda: "PyPy", lambda: "Linux"
importlib.util.find_spec = lambda name: None
print(fastmux.cli.info.reason())
"""
    output = start("-c", program, FASTMUX_PURE=None).communicate(timeout=TIMEOUT)[0]
    assert output == "there is no extension for PyPy on Linux\n"


def test_info_for_a_reader_that_leaves_early_ends_quietly(start):
    program = """
import os, subprocess, sys
reader, writer = os.pipe()
os.close(reader)
done = subprocess.run([sys.executable, "-m", "fastmux", "info"], stdout=writer, stderr=subprocess.PIPE)
print(done.returncode, done.stderr)
"""
    assert start("-c", program).communicate(timeout=TIMEOUT)[0] == "1 b''\n"


def test_the_script_is_the_same_command(start, tmp_path):
    """It is an entry point of the package; the current directory is first in sys.path, as with python -m."""
    (tmp_path / "program.py").write_text("import sys; print(sys.argv, sys.path)")
    script = tmp_path / "bin" / "fastmux"
    script.parent.mkdir()
    script.write_text("from fastmux.cli.command_line import command\ncommand()")

    for arguments in (["run", "program.py", "1"], ["run", "-m", "program", "--help"], ["info"]):
        expected = start("-m", "fastmux", *arguments).communicate(timeout=TIMEOUT)
        assert expected == start(str(script), *arguments).communicate(timeout=TIMEOUT)


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
