"""patch() and unpatch() replace functions and classes of the standard modules. Both change the whole process, so each
test runs an interpreter of its own."""

from __future__ import annotations

import pytest

import fastmux

needs_extension = pytest.mark.skipif(
    fastmux.implementation != "c", reason="without the extension there is nothing to patch"
)

CAPTURED = """
import asyncio.base_events, asyncio.selector_events, multiprocessing.connection, select, selectors, socketserver
import subprocess
"""


def test_the_standard_modules_and_their_importers_get_the_mirrors(run_python):
    program = (
        CAPTURED
        + """
import fastmux
fastmux.patch()
from selectors import DefaultSelector
import fastmux.select, fastmux.selectors
mirror = fastmux.selectors
assert select.select is fastmux.select.select
if fastmux.implementation == "c":
    assert select.epoll is fastmux.select.epoll and select.poll is fastmux.select.poll
assert DefaultSelector is mirror.DefaultSelector is mirror.EpollSelector is selectors.EpollSelector
assert selectors.SelectSelector is mirror.SelectSelector
assert subprocess._PopenSelector is mirror.PollSelector
assert socketserver._ServerSelector is mirror.PollSelector
assert multiprocessing.connection._WaitSelector is mirror.PollSelector
assert isinstance(asyncio.SelectorEventLoop()._selector, mirror.EpollSelector)
"""
    )
    run_python(program)


@needs_extension
def test_a_class_imported_before_is_replaced_under_its_own_name(run_python):
    program = """
import sys, types
early = types.ModuleType("early")
exec("from selectors import PollSelector as Waiter; from select import select as wait", vars(early))
sys.modules["early"] = early
import fastmux
with fastmux.patch():
    assert early.Waiter is fastmux.selectors.PollSelector and early.wait is fastmux.select.select
import select, selectors
assert early.Waiter is selectors.PollSelector is not fastmux.selectors.PollSelector
assert early.wait is select.select
"""
    run_python(program)


@needs_extension
def test_unpatch_restores_every_name_of_every_module(run_python):
    program = (
        CAPTURED
        + """
import sys, fastmux
def everything():
    return {
        (module, name): id(value)
        for module in list(sys.modules) for name, value in vars(sys.modules[module]).items()
        if not name.startswith("__") and module not in ("__main__", "__mp_main__") and not module.startswith("fastmux")
    }
fastmux.patch, fastmux.selectors  # imported now, not by the first call
before = everything()
fastmux.patch()
during = everything()
fastmux.unpatch()
assert during != before
assert everything() == before, set(everything().items()) ^ set(before.items())
"""
    )
    run_python(program)


@needs_extension
def test_modules_of_the_standard_library_imported_meanwhile_are_restored_too(run_python):
    program = """
import fastmux
with fastmux.patch():
    import socketserver
    assert socketserver._ServerSelector is fastmux.selectors.PollSelector
import selectors
assert socketserver._ServerSelector is selectors.PollSelector is not fastmux.selectors.PollSelector
"""
    run_python(program)


def test_patching_twice_is_patching_once(run_python):
    program = """
import selectors, fastmux
standard = selectors.PollSelector
fastmux.unpatch()
with fastmux.patch():
    with fastmux.patch():
        pass
    assert selectors.PollSelector is fastmux.selectors.PollSelector
    fastmux.patch()
assert selectors.PollSelector is standard
fastmux.patch(); fastmux.patch(); fastmux.unpatch()
assert selectors.PollSelector is standard
fastmux.unpatch()
"""
    run_python(program)


def test_an_exception_ends_the_patch_and_passes(run_python):
    program = """
import selectors, fastmux
standard = selectors.PollSelector
try:
    with fastmux.patch():
        raise KeyError("passes")
except KeyError:
    assert selectors.PollSelector is standard
"""
    run_python(program)


def test_unpatch_keeps_a_later_replacement(run_python):
    program = """
import selectors, fastmux
fastmux.patch()
selectors.PollSelector = mine = object()
fastmux.unpatch()
assert selectors.PollSelector is mine
"""
    run_python(program)


def test_any_number_of_threads_may_patch_and_unpatch_at_once(run_python):
    program = """
import select, selectors, sys, threading, fastmux
standard = selectors.PollSelector, select.select
sys.setswitchinterval(1e-6)
def work():
    for _ in range(100):
        fastmux.patch()
        selectors.PollSelector().close()
        fastmux.unpatch()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert (selectors.PollSelector, select.select) == standard
with fastmux.patch():
    assert selectors.PollSelector is fastmux.selectors.PollSelector
"""
    run_python(program)


@needs_extension
def test_odd_modules_are_left_alone(run_python):
    program = """
import importlib.util, os, sys, types
import fastmux, selectors
class Odd:
    def __getattribute__(self, name): raise RuntimeError(name)
sys.modules["odd"] = Odd()
sys.modules[1] = types.ModuleType("one")
sys.path.insert(0, os.getcwd())
with open("lazy.py", "w") as file: file.write("print('loaded')")
spec = importlib.util.find_spec("lazy")
spec.loader = importlib.util.LazyLoader(spec.loader)
sys.modules["lazy"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
with fastmux.patch():
    assert selectors.PollSelector is fastmux.selectors.PollSelector
assert selectors.PollSelector is not fastmux.selectors.PollSelector
"""
    assert run_python(program) == ""


def test_a_class_that_keeps_a_replaced_function_can_call_it(run_python):
    program = """
import select, fastmux
with fastmux.patch():
    class Loop:
        poller, wait, set_of_files = select.poll, select.select, select.epoll
    loop = Loop()
    loop.poller().register(0)
    loop.set_of_files().close()
    assert loop.wait([], [], [], 0) == ([], [], [])
"""
    run_python(program)


def test_objects_from_before_and_from_during_the_patch_keep_working(run_python):
    program = """
import os, select, selectors, fastmux
r, w = os.pipe()
os.write(w, b"x")
before = selectors.DefaultSelector()
before.register(r, 1)
with fastmux.patch():
    during = selectors.DefaultSelector()
    key = during.register(r, 1)
    assert before.select(0) == during.select(0) == [(key, 1)]
    assert isinstance(before, selectors.BaseSelector) and isinstance(during, selectors.BaseSelector)
assert during.select(0) == [(key, 1)]
during.close(); before.close()
"""
    run_python(program)


def test_the_reference_stays_on_the_standard_library(run_python):
    program = """
import os, fastmux
with fastmux.patch():
    for mechanism in fastmux.StdlibPoller.mechanisms:
        r, w = os.pipe()
        with fastmux.StdlibPoller(mechanism) as poller:
            poller.register(r)
            os.write(w, b"x")
            assert poller.poll(0) == [(r, fastmux.READ)]
"""
    run_python(program)


def test_what_is_built_on_the_standard_modules_works_on_the_mirrors(run_python):
    program = """
import asyncio, socketserver, subprocess, sys, threading, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import fastmux
fastmux.patch()

command = [sys.executable, "-c", "print(input())"]
echo = subprocess.run(command, input="through pipes\\n", capture_output=True, text=True)
assert echo.stdout == "through pipes\\n"
try:
    subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"], capture_output=True, timeout=0.2)
except subprocess.TimeoutExpired:
    pass
else:
    raise AssertionError

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "5"); self.end_headers(); self.wfile.write(b"hello")
    def log_message(self, *args): pass
with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    thread = threading.Thread(target=server.serve_forever); thread.start()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(20):
        with opener.open("http://127.0.0.1:%d/" % server.server_port, timeout=20) as answer:
            assert answer.read() == b"hello"
    server.shutdown(); thread.join()

async def main():
    async def serve(reader, writer):
        writer.write(await reader.readline()); await writer.drain(); writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\\n")
        assert await reader.read() == b"line\\n"
        writer.close()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=subprocess.PIPE)
    assert (await process.communicate())[0] == b"1\\n"
asyncio.run(main())
"""
    run_python(program)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_patched_process_can_have_children(run_python, tmp_path, method):
    """A forked child is patched, too. A spawned one is not, unless it calls patch()."""
    program = """
import multiprocessing, os, selectors, warnings
import fastmux

def work(connection, patched):
    if fastmux.implementation == "c":
        assert (selectors.PollSelector is fastmux.selectors.PollSelector) == patched
    r, w = os.pipe()
    with selectors.DefaultSelector() as selector:
        key = selector.register(r, 1)
        os.write(w, b"x")
        assert selector.select(20) == [(key, 1)]
    connection.send(connection.recv() * 2)

if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
    import sys
    fastmux.patch()
    method = sys.argv[1]
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, method == "fork"))
    process.start()
    ours.send(21)
    assert multiprocessing.connection.wait([ours, process.sentinel], 20)
    print(ours.recv())
    process.join()
    assert process.exitcode == 0, process.exitcode
"""
    script = tmp_path / "children.py"
    script.write_text(program)
    start = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    assert run_python(start, str(script), method) == "42\n"
