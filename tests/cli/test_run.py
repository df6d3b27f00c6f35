"""python -m fastmux run, compared with plain python: environment, output, errors and exit status."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile

import pytest

TIMEOUT = 60.0
RUN = ["-m", "fastmux", "run"]


#: Frames of runpy and of fastmux in a traceback, with their source lines; and its first line, which a SyntaxError of
#: the script has on fastmux only.
EXTRA_FRAMES = re.compile(
    r'^((?:  \| )?)  File "(?:<frozen runpy>|[^"]*/runpy\.py|[^"]*/fastmux/[^"]*)".*\n(?:\1    .*\n)*'
    r"|^Traceback \(most recent call last\):\n",
    re.MULTILINE,
)


@pytest.fixture
def both(start):
    """Run a program on plain python and on fastmux; return the status, output and errors of both, which are equal.

    A traceback on fastmux may begin with frames of runpy.
    """

    def run(*arguments):
        outcomes = []
        for how in ([], RUN):
            process = start(*how, *arguments)
            output, errors = process.communicate(timeout=TIMEOUT)
            outcomes.append((process.returncode, output, EXTRA_FRAMES.sub("", errors)))
        expected, actual = outcomes
        assert actual == expected
        return actual

    return run


PRINT_ENVIRONMENT = """
import sys, os
module = sys.modules["__main__"]
print(__name__, __file__, __doc__, getattr(__spec__, "name", None))
print(sys.argv, sys.path[0], sorted(vars()) == sorted(vars(module)), sorted(vars()))
print(vars() is vars(module), __builtins__, os.getcwd())
class Here: pass
import pickle
assert type(pickle.loads(pickle.dumps(Here()))) is Here
import fastmux
"""


def test_a_script_sees_the_same_environment(both, tmp_path):
    (tmp_path / "program.py").write_text(PRINT_ENVIRONMENT)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "program.py").write_text(PRINT_ENVIRONMENT)

    for arguments in (["program.py"], ["there/program.py", "--help", "-m", "x", "--"], ["./program.py", ""]):
        status, output, _ = both(*arguments)
        assert status == 0
        assert repr(arguments) in output


def test_a_script_behind_a_link_finds_its_neighbours(both, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "program.py").write_text("import neighbour")
    (tmp_path / "there" / "neighbour.py").write_text("print('found')")
    (tmp_path / "link.py").symlink_to("there/program.py")

    assert both("link.py") == (0, "found\n", "")


def test_a_module_sees_the_same_environment(both, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("import sys; print('imported', __name__, sys.argv)")
    (package / "__main__.py").write_text(PRINT_ENVIRONMENT)
    (package / "part.py").write_text(PRINT_ENVIRONMENT)

    assert both("-m", "package", "-m", "other")[0] == 0
    assert both("-m", "package.part", "run", "--json")[0] == 0


def test_a_directory_and_a_zip_file_are_run_by_their_main(both, tmp_path):
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "__main__.py").write_text(PRINT_ENVIRONMENT)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", "import sys, neighbour; print(sys.argv, sys.path[0], __package__)")
        archive.writestr("neighbour.py", "")

    assert both("directory", "1")[0] == 0
    assert both("archive.zip", "2")[0] == 0


def test_a_program_from_a_pipe_is_run(tmp_path):
    for how in ([], RUN):
        command = [sys.executable, *how, "/dev/stdin", "x"]
        done = subprocess.run(command, input="import sys; print(sys.argv)", capture_output=True, text=True)
        assert done.stdout == "['/dev/stdin', 'x']\n"


ENDINGS = {
    "number": "import sys; sys.exit(3)",
    "text": "import sys; sys.exit('the reason')",
    "nothing": "raise SystemExit",
    "error": "def function():\n    1 / 0\nfunction()",
    "chain": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('key') from error",
    "context": "try:\n    1 / 0\nexcept ZeroDivisionError:\n    None + 1",
    "syntax": "print('never')\ndef (:\n",
    "null": "x = '\\ud800'\nraise ValueError(x)",
    "own hook": "import sys\nsys.excepthook = lambda *it: print(it[0])\nraise KeyError",
    "atexit": "import atexit\natexit.register(print, 'last words')\nraise OSError(2, 'x')",
    "thread": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='T')\nt.start()\nt.join()",
    "daemon": "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "interrupt": "raise KeyboardInterrupt",
    "group": "import sys\nif sys.version_info >= (3, 11):\n    raise ExceptionGroup('g', [ValueError(1), KeyError(2)])",
    "abort": "import os; os._exit(9)",
}


@pytest.mark.parametrize("how", ["script", "module"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_in_the_same_way(both, tmp_path, ending, how):
    (tmp_path / "program.py").write_text(ENDINGS[ending], encoding="utf-8")

    both(*(["program.py"] if how == "script" else ["-m", "program"]))


def test_a_missing_program_is_reported_in_the_same_way(both, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "broken.py").write_text("import does_not_exist")

    for arguments in (
        ["missing.py"],
        ["missing.py", "x"],
        ["-m", "missing"],
        ["-m", "package"],
        ["-m", "package.missing"],
        ["-m", "broken"],
    ):
        assert both(*arguments)[0] != 0


def test_options_of_the_interpreter_apply(both, tmp_path):
    (tmp_path / "program.py").write_text("import sys, warnings; assert False, 'unless -O'\n")
    (tmp_path / "warn.py").write_text("import warnings; warnings.warn('x', DeprecationWarning)")
    for options in (["-O"], []):
        process = subprocess.run(
            [sys.executable, *options, *RUN, "program.py"], cwd=tmp_path, capture_output=True, text=True
        )
        assert process.returncode == (0 if options else 1)
    process = subprocess.run([sys.executable, "-W", "error", *RUN, "warn.py"], cwd=tmp_path, capture_output=True)
    assert process.returncode == 1


@pytest.mark.parametrize(
    "waiting",
    ["import time; print('ready'); time.sleep(60)",
     "import selectors; print('ready'); selectors.DefaultSelector().select()",
     "import select; print('ready'); select.select([], [], [])",
     "import select; print('ready'); select.poll().poll()"],
    ids=["sleep", "selector", "select", "poll"],
)  # fmt: skip
def test_control_c_ends_it_in_the_same_way(start, tmp_path, waiting):
    (tmp_path / "program.py").write_text(f"try:\n    {waiting}\nfinally:\n    print('finally')")
    outcomes = []
    for how in ([], RUN):
        process = start(*how, "program.py")
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)  # so that the signal usually interrupts the call; the test holds before and after it, too
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=TIMEOUT)
        outcomes.append((process.returncode, output, errors.splitlines()[-1]))

    assert outcomes[0] == outcomes[1] == (-signal.SIGINT, "finally\n", "KeyboardInterrupt")


def test_the_program_runs_on_fastmux(start, tmp_path):
    program = """
import asyncio, select, selectors
import fastmux
async def main():
    loop = asyncio.get_running_loop()
    assert type(loop) is fastmux.EventLoop
    assert isinstance(loop._selector, fastmux.selectors.DefaultSelector)
assert select.select is fastmux.select.select
assert selectors.DefaultSelector is fastmux.selectors.DefaultSelector
assert selectors.PollSelector is fastmux.selectors.PollSelector
asyncio.run(main())
"""
    (tmp_path / "program.py").write_text(program)
    process = start(*RUN, "program.py")
    _, errors = process.communicate(timeout=TIMEOUT)

    assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_program_can_have_children(both, tmp_path, method):
    program = f"""
import multiprocessing, sys, warnings
def square(number):
    return number * number
if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(pool.map(square, range(5)))
"""
    (tmp_path / "program.py").write_text(program)

    assert both("program.py") == (0, "[0, 1, 4, 9, 16]\n", "")
    assert both("-m", "program") == (0, "[0, 1, 4, 9, 16]\n", "")


def test_unittest_runs_on_it(start, tmp_path):
    program = """
import fastmux, selectors, unittest
class Test(unittest.TestCase):
    def test_it(self):
        self.assertIs(selectors.PollSelector, fastmux.selectors.PollSelector)
    def test_that(self):
        self.fail()
"""
    (tmp_path / "test_something.py").write_text(program)
    process = start(*RUN, "-m", "unittest", "-v", "test_something")
    _, errors = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 1
    assert "Ran 2 tests" in errors
    assert "FAILED (failures=1)" in errors


def fetch(port, path="/"):
    """Get a page of a local server, as soon as it listens."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            with opener.open(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT) as answer:
                return answer.read()
        except (ConnectionError, urllib.error.URLError):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_http_server_answers(start, tmp_path):
    (tmp_path / "page.html").write_text("a page")
    process = start(*RUN, "-m", "http.server", "0", "--bind", "127.0.0.1")
    port = int(re.search(r"port (\d+)", process.stdout.readline())[1])

    for _ in range(20):
        assert fetch(port, "/page.html") == b"a page"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert "Keyboard interrupt received" in output


def test_a_threaded_werkzeug_server_answers(start, tmp_path):
    pytest.importorskip("werkzeug")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = f"""
import fastmux, selectors
from werkzeug.serving import run_simple
from werkzeug.wrappers import Request, Response

@Request.application
def application(request):
    return Response(f"{{request.path}} {{selectors.PollSelector is fastmux.selectors.PollSelector}}")

run_simple("127.0.0.1", {port}, application, threaded=True)
"""
    (tmp_path / "program.py").write_text(program)
    process = start(*RUN, "program.py")

    for number in range(20):
        assert fetch(port, f"/{number}") == b"/%d True" % number
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
