"""examples/watch_stdin.py with a terminal, pipes and files."""

from __future__ import annotations

import signal
import subprocess

import pytest

import fastmux

from .conftest import command
from .crowd import TIMEOUT

NAME = "watch_stdin"


@pytest.fixture(params=fastmux.Poller.mechanisms)
def mechanism(request):
    return ["--mechanism", request.param]


def test_in_a_terminal_each_line_is_printed_as_it_is_typed(open_terminal, mechanism):
    terminal = open_terminal(NAME, *mechanism)

    terminal.type("first\n")
    terminal.expect("line 1: first\r\n")
    terminal.type("two at\nonce\n")
    terminal.expect("line 2: two at\r\nline 3: once\r\n")
    terminal.type("no end\x04")  # Ctrl-D within a line flushes the part so far
    terminal.type(" yet\n")
    terminal.expect("line 4: no end yet\r\n")
    terminal.type("\x04")
    terminal.expect("end of file after line 4\r\n")

    assert terminal.status() == 0


def test_ctrl_c_ends_it_in_one_line(open_terminal, mechanism):
    terminal = open_terminal(NAME, *mechanism)
    terminal.type("a line\n")
    terminal.expect("line 1: a line\r\n")

    terminal.type("\x03")

    terminal.expect("SIGINT after line 1\r\n")
    assert terminal.status() == 128 + signal.SIGINT


def test_sigterm_ends_it_in_one_line(open_terminal, mechanism):
    terminal = open_terminal(NAME, *mechanism)
    terminal.type("a line\n")
    terminal.expect("line 1: a line\r\n")

    terminal.process.terminate()

    terminal.expect("SIGTERM after line 1\r\n")
    assert terminal.status() == 128 + signal.SIGTERM


def test_from_a_pipe_lines_come_whole_however_they_were_written(mechanism, tmp_path):
    with subprocess.Popen(command(NAME, *mechanism), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for piece, lines in ((b"o", []), (b"ne\ntwo\nth", [b"line 1: one\n", b"line 2: two\n"])):
            process.stdin.write(piece)
            process.stdin.flush()
            assert [process.stdout.readline() for _ in lines] == lines
        out, _ = process.communicate(b"ree\n\nlast, without an end")

    assert out == b"line 3: three\nline 4: \nline 5: last, without an end\nend of file after line 5\n"
    assert process.returncode == 0


def test_a_regular_file_is_read_to_its_end(run_example, mechanism, tmp_path):
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")
    with path.open() as file:
        finished = run_example(NAME, *mechanism, stdin=file)

    assert finished.stdout == "line 1: one\nline 2: two\nend of file after line 2\n"
    refused = "epoll refuses standard input: a regular file is always ready. Reading it without waiting.\n"
    assert finished.stderr == (refused if "epoll" in mechanism else "")
    assert finished.returncode == 0


def test_without_any_input_it_says_so():
    shell = ["bash", "-c", '"$@" <&-', "bash", *command(NAME)]
    finished = subprocess.run(shell, capture_output=True, text=True, timeout=TIMEOUT)

    assert (finished.returncode, finished.stdout, finished.stderr) == (1, "", "there is no standard input\n")


def test_without_an_output_it_says_so(mechanism):
    shell = ["bash", "-c", 'echo line | "$@" >&-', "bash", *command(NAME, *mechanism)]
    finished = subprocess.run(shell, capture_output=True, text=True, timeout=TIMEOUT)

    assert (finished.returncode, finished.stderr) == (1, "there is no standard output\n")


def test_a_device_is_not_called_a_regular_file(run_example, mechanism):
    finished = run_example(NAME, *mechanism, stdin=subprocess.DEVNULL)

    refused = "epoll refuses standard input: this device is always ready. Reading it without waiting.\n"
    assert finished.stderr == (refused if "epoll" in mechanism else "")
    assert (finished.returncode, finished.stdout) == (0, "end of file after line 0\n")


def test_a_reader_that_leaves_early_ends_it_quietly(mechanism):
    program = 'yes | "$@" | head -n 2; echo "${PIPESTATUS[1]}"'
    finished = subprocess.run(
        ["bash", "-c", program, "bash", *command(NAME, *mechanism)], capture_output=True, text=True
    )

    assert (finished.stdout, finished.stderr) == (f"line 1: y\nline 2: y\n{128 + signal.SIGPIPE}\n", "")
