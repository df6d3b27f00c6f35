"""--report and FASTMUX_REPORT=1: one line for each process, on stderr."""

from __future__ import annotations

import re
import signal

import pytest

import fastmux

TIMEOUT = 60.0
RUN = ["-m", "fastmux", "run"]
SELECTOR = f"{fastmux.selectors.DefaultSelector.__module__}.{fastmux.selectors.DefaultSelector.__qualname__}"

PROGRAM = """
import asyncio
for _ in range(2):
    asyncio.run(asyncio.sleep(0))
"""
#: What follows "(process ...): " for the program.
TWO_LOOPS = f"event loops: 2 fastmux.EventLoop; selectors: 2 {SELECTOR}; implementation: {fastmux.implementation}"
NOTHING = f"no event loop; no selector; implementation: {fastmux.implementation}"


def report(name, process, text):
    return f"fastmux: {name} (process {process.pid}): {text}\n"


@pytest.mark.parametrize(
    ("options", "variables"), [(["--report"], {}), ([], {"FASTMUX_REPORT": "1"})], ids=["option", "variable"]
)
def test_a_program_is_reported_at_its_end(start, tmp_path, options, variables):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = start(*RUN, *options, "program.py", **variables)
    _, errors = process.communicate(timeout=TIMEOUT)

    assert report("program.py", process, TWO_LOOPS) == errors


def test_without_the_option_nothing_is_printed(start, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = start(*RUN, "program.py", FASTMUX_REPORT="0")

    assert process.communicate(timeout=TIMEOUT) == ("", "")


def test_the_variable_suffices_for_a_program_that_imports_fastmux(start):
    program = "import asyncio, fastmux; fastmux.run(asyncio.sleep(0)); asyncio.run(asyncio.sleep(0))"
    process = start("-c", program, FASTMUX_REPORT="1")
    _, errors = process.communicate(timeout=TIMEOUT)

    assert re.search(
        r"fastmux: -c \(process \d+\): event loops: 1 fastmux\.EventLoop, 1 asyncio\.\S+; selectors: .*\n", errors
    )
    assert errors.count("\n") == 1


def test_a_subclass_is_reported_by_its_own_name(start):
    program = """
import asyncio, selectors
class Loop(asyncio.SelectorEventLoop): pass
class Selector(selectors.SelectSelector): pass
Loop(Selector()).close()
"""
    process = start(*RUN, "--report", "/dev/stdin")
    _, errors = process.communicate(program, timeout=TIMEOUT)

    assert "event loops: 1 __main__.Loop; selectors: 1 __main__.Selector" in errors


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("sys.exit(3)", 3),
        ("1 / 0", 1),
        ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL); signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_the_end_of_a_program_is_the_same(start, tmp_path, ending, status):
    (tmp_path / "program.py").write_text(f"import signal, sys\n{PROGRAM}\n{ending}\n")
    process = start(*RUN, "--report", "program.py")
    _, errors = process.communicate(timeout=TIMEOUT)

    assert (status, 1) == (process.returncode, errors.count(report("program.py", process, TWO_LOOPS)))


def test_a_handler_of_the_program_for_sigterm_is_its_own(start, tmp_path):
    (tmp_path / "program.py").write_text("""
import signal
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
signal.raise_signal(signal.SIGTERM)
""")
    process = start(*RUN, "--report", "program.py")

    assert ("handled\n", report("program.py", process, NOTHING)) == process.communicate(timeout=TIMEOUT)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_each_process_of_multiprocessing_is_reported_with_its_own_loops(start, tmp_path, method):
    (tmp_path / "program.py").write_text(f"""
import asyncio, multiprocessing, os, warnings
def work():
    print(os.getpid())
    asyncio.run(asyncio.sleep(0))
if __name__ == "__main__":
    warnings.simplefilter("ignore")
    exec({PROGRAM!r})
    child = multiprocessing.get_context({method!r}).Process(target=work)
    child.start()
    child.join()
""")
    process = start(*RUN, "--report", "program.py")
    output, errors = process.communicate(timeout=TIMEOUT)

    (line,) = [line for line in errors.splitlines() if f"(process {int(output)})" in line]
    assert f"event loops: 1 fastmux.EventLoop; selectors: 1 {SELECTOR};" in line
    (line,) = [line for line in errors.splitlines() if f"(process {process.pid})" in line]
    assert "event loops: 2 fastmux.EventLoop;" in line


@pytest.mark.parametrize("statement", ["sys.stderr = None", "sys.stderr.close()", "os.close(2)"])
def test_a_program_without_stderr_ends_normally(start, tmp_path, statement):
    (tmp_path / "program.py").write_text(f"import os, sys\n{PROGRAM}\n{statement}\nprint('end')")
    process = start(*RUN, "--report", "program.py")

    assert process.communicate(timeout=TIMEOUT) == ("end\n", "")
    assert process.returncode == 0
