"""python -m fastmux run takes effect in child processes, by a start-up hook on PYTHONPATH."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys

import pytest

import fastmux

TIMEOUT = 60.0
RUN = ["-m", "fastmux", "run"]

#: Prints the class of the loop, as a script and as python -c.
SHOW = """
import asyncio
async def main():
    cls = type(asyncio.get_running_loop())
    print(f"{cls.__module__}.{cls.__qualname__}", flush=True)
asyncio.run(main())
"""
OURS = "fastmux.EventLoop\n"
STANDARD = "asyncio.unix_events._UnixSelectorEventLoop\n"
#: Starts python with its arguments.
PARENT = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)"


@pytest.fixture
def output(start, tmp_path):
    """Run a program whose children run child.py; return its output."""
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "child.py").write_text(SHOW)

    def run(*arguments, **variables):
        process = start(*arguments, **variables)
        output, errors = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, errors) == (0, "")
        return output

    return run


def test_a_child_runs_on_fastmux_and_so_does_its_child(output):
    assert output(*RUN, "parent.py", "child.py") == OURS
    assert output(*RUN, "parent.py", "parent.py", "parent.py", "child.py") == OURS
    assert output(*RUN, "-m", "parent", "-c", SHOW) == OURS


def test_selectors_of_a_child_are_those_of_fastmux(output):
    program = "import selectors, subprocess; print(selectors.DefaultSelector, subprocess._PopenSelector)"

    expected = f"{fastmux.selectors.DefaultSelector} {fastmux.selectors.PollSelector}\n"
    assert expected == output(*RUN, "parent.py", "-c", program)


@pytest.mark.parametrize("option", ["-I", "-S", "-E"])
def test_the_hook_does_nothing_without_the_environment_or_the_module_site(output, option):
    assert output(*RUN, "parent.py", option, "child.py") == STANDARD


def test_no_children_leaves_children_as_they_are(output):
    assert output(*RUN, "--no-children", "parent.py", "child.py") == STANDARD
    assert output(*RUN, "parent.py", *RUN, "--no-children", "parent.py", "child.py") == STANDARD
    assert output(*RUN, "parent.py", *RUN, "--no-children", "child.py") == OURS


def test_an_environment_without_fastmux_is_left_alone(output, tmp_path):
    """Another module fastmux stands for an older version as well."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    program = f"import os; os.environ['PYTHONPATH'] += os.pathsep + {str(hidden)!r}\n{PARENT}"
    (tmp_path / "parent.py").write_text(program)
    for contents in ("raise ImportError('no such module')", ""):
        (hidden / "fastmux.py").write_text(contents)
        assert output(*RUN, "parent.py", "child.py") == STANDARD


@pytest.mark.parametrize("variable", [None, "", "there", "there:elsewhere", "there:"])
def test_the_variable_keeps_what_it_had(output, tmp_path, variable):
    """Only the hook is added; the program and its children have the same sys.path as without."""
    (tmp_path / "path.py").write_text("import sys; print(sys.path)")
    expected = [output("path.py", PYTHONPATH=variable), output("parent.py", "path.py", PYTHONPATH=variable)]

    assert expected[0] == output(*RUN, "path.py", PYTHONPATH=variable)
    assert expected[1] == output(*RUN, "parent.py", "path.py", PYTHONPATH=variable)
    show = "import os; print(repr(os.environ.get('PYTHONPATH')))"
    assert f"{variable or None!r}\n" == output(*RUN, "--no-children", "parent.py", "-c", show, PYTHONPATH=variable)


def test_the_sitecustomize_of_the_user_is_executed(output, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("print('customized', __name__, flush=True)\nname = 'own'")
    show = f"import sitecustomize; print(sitecustomize.name)\n{SHOW}"
    path = str(folder)

    assert output(*RUN, "parent.py", "-c", show, PYTHONPATH=path) == "customized sitecustomize\n" * 2 + "own\n" + OURS
    # As usual without fastmux.
    assert output("parent.py", "-c", show, PYTHONPATH=path) == "customized sitecustomize\n" * 2 + "own\n" + STANDARD


@pytest.mark.parametrize("contents", ["1 / 0", "import missing", "raise ImportError('x')"])
def test_a_sitecustomize_that_fails_is_reported_as_usual(start, tmp_path, contents):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(contents)
    (tmp_path / "parent.py").write_text(
        f"import os; os.environ['PYTHONPATH'] += os.pathsep + {str(folder)!r}\n{PARENT}"
    )
    outcomes = []
    for how in (RUN, []):
        process = start(*how, "parent.py", "-c", "print(1)", PYTHONPATH=str(tmp_path))
        output, errors = process.communicate(timeout=TIMEOUT)
        outcomes.append((process.returncode, output, errors.splitlines()[-1]))

    assert outcomes[1] == outcomes[0]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_child_of_multiprocessing_runs_on_fastmux(output, tmp_path, method):
    (tmp_path / "program.py").write_text(f"""
import multiprocessing, warnings
def work():
    exec({SHOW!r}, {{}})
if __name__ == "__main__":
    warnings.simplefilter("ignore")
    child = multiprocessing.get_context({method!r}).Process(target=work)
    child.start()
    child.join()
""")

    assert output(*RUN, "program.py") == OURS
    assert output(*RUN, "-m", "program") == OURS


def test_the_hook_is_valid_in_every_version_of_python(start, tmp_path):
    """A child may be a Python that is too old for fastmux: any installed one executes the hook."""
    hook = os.path.join(os.path.dirname(fastmux.__file__), "cli", "hook")
    pythons = {"/usr/bin/python2", "/usr/bin/python3", sys.executable}
    program = f"import subprocess\nfor each in {sorted(filter(os.path.exists, pythons))!r}:\n"
    program += "    print(subprocess.run([each, '-c', 'print(1)'], capture_output=True, text=True))"
    process = start("-c", program, PYTHONPATH=hook)
    output, errors = process.communicate(timeout=TIMEOUT)

    assert errors == ""
    assert all("returncode=0, stdout='1\\n', stderr=''" in line for line in output.splitlines())


#: A package like uvloop.
UVLOOP = """
import asyncio
class Loop(asyncio.AbstractEventLoop):
    def __init__(self):
        self.loop = asyncio.SelectorEventLoop()
    def __getattribute__(self, name):
        return object.__getattribute__(self, name) if name in ("loop", "__class__") else getattr(self.loop, name)
def new_event_loop():
    return Loop()
"""
SELECT_UVLOOP = """
import sys, uvloop
if sys.argv[1:]:
    import subprocess
    subprocess.run([sys.executable, sys.argv[0]], check=True)
for _ in range(2):
    loop = uvloop.new_event_loop()
    print(type(loop).__module__, type(loop).__name__, isinstance(loop, uvloop.Loop), flush=True)
    loop.close()
"""


@pytest.fixture
def uvloop(tmp_path):
    (tmp_path / "uvloop.py").write_text(UVLOOP)
    (tmp_path / "program.py").write_text(SELECT_UVLOOP)


def test_a_program_that_selects_uvloop_keeps_it_and_each_process_says_so_once(start, uvloop):
    process = start(*RUN, "program.py", "child")
    output, errors = process.communicate(timeout=TIMEOUT)

    assert output == "uvloop Loop True\n" * 4
    first, second = errors.splitlines()
    assert re.search(r"^fastmux: process \d+ runs on uvloop, .*--replace-uvloop", first)
    assert f"fastmux: process {process.pid} runs on uvloop" in second


@pytest.mark.parametrize("how", ["option", "variable"])
def test_replace_uvloop_runs_it_on_fastmux(output, uvloop, how):
    options, variables = (["--replace-uvloop"], {}) if how == "option" else ([], {"FASTMUX_REPLACE_UVLOOP": "1"})

    assert output(*RUN, *options, "program.py", "child", **variables) == "fastmux EventLoop True\n" * 4


def test_an_import_of_uvloop_that_fails_can_be_repeated(output, tmp_path):
    (tmp_path / "uvloop.py").write_text("if not counter: counter.append(1); raise ImportError\n" + UVLOOP)
    (tmp_path / "program.py").write_text(f"""
import builtins
builtins.counter = []
try:
    import uvloop
except ImportError:
    pass
{SELECT_UVLOOP}
print(uvloop.__loader__ is uvloop.__spec__.loader, type(uvloop.__loader__).__name__)
""")

    assert output(*RUN, "--replace-uvloop", "program.py") == "fastmux EventLoop True\n" * 2 + "True SourceFileLoader\n"
