"""install() and uninstall() make asyncio create fastmux loops. Both change the whole process, so each test runs an
interpreter of its own."""

from __future__ import annotations

import multiprocessing

import pytest

#: Every way to get a new loop from asyncio: function -> the class of the loop.
WAYS = """
import asyncio, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of policies

async def main():
    return type(asyncio.get_running_loop())

def class_of(loop):
    loop.close()
    return type(loop)

def run_by_runner(**options):
    with asyncio.Runner(**options) as runner:
        return runner.run(main())

ways = {
    "run": lambda: asyncio.run(main()),
    "new_event_loop": lambda: class_of(asyncio.new_event_loop()),
    "SelectorEventLoop": lambda: class_of(asyncio.SelectorEventLoop()),
}
if sys.version_info < (3, 16):
    ways["policy"] = lambda: class_of(asyncio.DefaultEventLoopPolicy().new_event_loop())
if sys.version_info >= (3, 11):
    ways["Runner"] = run_by_runner
    ways["loop_factory"] = lambda: run_by_runner(loop_factory=asyncio.SelectorEventLoop)
if sys.version_info >= (3, 13):
    ways["EventLoop"] = lambda: class_of(asyncio.EventLoop())

def classes():
    return {name: way() for name, way in ways.items()}
"""


def test_every_way_to_get_a_loop_creates_one_of_fastmux_until_uninstall(run_python):
    run_python(
        WAYS
        + """
standard = classes()
import fastmux
fastmux.install()
assert classes() == dict.fromkeys(ways, fastmux.EventLoop), classes()
fastmux.uninstall()
assert classes() == standard, classes()
"""
    )


def test_uninstall_restores_every_name_of_every_module(run_python):
    run_python("""
import asyncio, sys, types
early = types.ModuleType("early")
exec("from asyncio import SelectorEventLoop as Loop", vars(early))
sys.modules["early"] = early
import fastmux.loop.install
def everything():
    return {
        (module, name): id(value)
        for module in list(sys.modules) for name, value in vars(sys.modules[module]).items()
        if not name.startswith("__") and module != "__main__" and not module.startswith("fastmux")
    }
before = everything()
fastmux.install()
assert early.Loop is asyncio.SelectorEventLoop is fastmux.EventLoop
assert everything() != before
fastmux.uninstall()
assert everything() == before
""")


def test_installing_twice_is_installing_once(run_python):
    run_python("""
import asyncio, fastmux
standard = asyncio.SelectorEventLoop
fastmux.uninstall()
fastmux.install(); fastmux.install()
assert asyncio.SelectorEventLoop is fastmux.EventLoop
fastmux.uninstall()
assert asyncio.SelectorEventLoop is standard
fastmux.uninstall()
""")


def test_any_number_of_threads_may_install_and_uninstall_at_once(run_python):
    run_python("""
import asyncio, sys, threading, fastmux
standard = asyncio.SelectorEventLoop
sys.setswitchinterval(1e-6)
def work():
    for _ in range(30):
        fastmux.install()
        asyncio.new_event_loop().close()
        fastmux.uninstall()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert asyncio.SelectorEventLoop is standard is type(loop := asyncio.new_event_loop())
loop.close()
""")


def test_subclasses_of_the_standard_loop_keep_working(run_python):
    run_python("""
import asyncio, fastmux
class Before(asyncio.SelectorEventLoop):
    pass
fastmux.install()
class After(asyncio.SelectorEventLoop):
    def call_soon(self, *args, **options):
        self.calls = getattr(self, "calls", 0) + 1
        return super().call_soon(*args, **options)
for cls in Before, After:
    loop = cls()
    async def main():
        assert asyncio.get_running_loop() is loop
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line")
        writer.write_eof()
        assert await reader.read() == b"line"
        writer.close()
    async def serve(reader, writer):
        writer.write(await reader.read())
        writer.close()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    server.close()
    loop.close()
assert issubclass(After, fastmux.EventLoop) and not issubclass(Before, fastmux.EventLoop)
assert loop.calls > 1
""")


#: A policy as that of uvloop, which creates loops of its own.
OTHER_POLICY = """
import asyncio, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of policies
class OtherLoop(asyncio.SelectorEventLoop):
    pass
class OtherPolicy(asyncio.DefaultEventLoopPolicy):
    def _loop_factory(self):
        return OtherLoop()
async def main():
    return type(asyncio.get_running_loop())
"""


def test_the_last_of_install_and_set_event_loop_policy_wins(run_python):
    run_python(
        OTHER_POLICY
        + """
import fastmux
policy = OtherPolicy()
asyncio.set_event_loop_policy(policy)
assert asyncio.run(main()) is OtherLoop
fastmux.install()
assert asyncio.run(main()) is fastmux.EventLoop
fastmux.uninstall()
assert asyncio.get_event_loop_policy() is policy
fastmux.install()
asyncio.set_event_loop_policy(policy)
assert asyncio.run(main()) is OtherLoop
fastmux.uninstall()
assert asyncio.get_event_loop_policy() is policy
"""
    )


def test_a_python_without_policies_creates_fastmux_loops(run_python):
    """As planned for Python 3.16."""
    run_python("""
import asyncio, asyncio.unix_events
asyncio.set_event_loop(None)  # creates the policy of this version
for name in "DefaultEventLoopPolicy", "_DefaultEventLoopPolicy":
    vars(asyncio.unix_events).pop(name, None)
new_event_loop = asyncio.new_event_loop
import fastmux
fastmux.install()
async def main():
    return type(asyncio.get_running_loop())
assert asyncio.run(main()) is fastmux.EventLoop
fastmux.uninstall()
assert asyncio.new_event_loop is asyncio.events.new_event_loop is new_event_loop
""")


def test_names_that_were_changed_since_install_stay(run_python):
    run_python("""
import asyncio, fastmux
fastmux.install()
asyncio.SelectorEventLoop = mine = object()
fastmux.uninstall()
assert asyncio.SelectorEventLoop is mine
""")


def test_install_does_not_patch_select_and_selectors(run_python):
    run_python("""
import select, selectors
before = dict(vars(select)), dict(vars(selectors))
import fastmux
fastmux.install()
assert (vars(select), vars(selectors)) == before
""")


def test_an_interrupted_install_changes_everything_or_nothing(run_python):
    run_python("""
import asyncio, sys
from fastmux.loop import install as module
standard = asyncio.SelectorEventLoop, asyncio.new_event_loop
class Interruption(BaseException):
    pass
def interrupt_at(line):
    def trace(frame, event, argument):
        if frame.f_code.co_filename != module.__file__:
            return None
        nonlocal line
        names = frame.f_locals
        # Not the search through all names of all modules.
        line -= event == "line" and (frame.f_code.co_name != "_rename" or names.get("value") is names["old"])
        if not line:
            raise Interruption
        return trace
    return trace
line, done = 0, False
while not done:
    line += 1
    sys.settrace(interrupt_at(line))
    try:
        module.install()
    except Interruption:
        pass
    finally:
        sys.settrace(None)
    done = asyncio.SelectorEventLoop is module.EventLoop  # interrupted after all changes
    loop = asyncio.new_event_loop()
    assert type(loop) is asyncio.SelectorEventLoop, line
    loop.close()
    if done:
        module.uninstall()
    assert (asyncio.SelectorEventLoop, asyncio.new_event_loop) == standard, line
assert line > 20, line
""")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_forked_child_inherits_it(run_python, tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text("""
import asyncio, multiprocessing, sys, warnings
import fastmux
async def main():
    return asyncio.get_running_loop().__class__.__name__
def work(connection):
    connection.send(asyncio.run(main()))
if __name__ == "__main__":
    warnings.simplefilter("ignore")
    fastmux.install()
    context = multiprocessing.get_context(sys.argv[1])
    ours, theirs = context.Pipe()
    child = context.Process(target=work, args=(theirs,))
    child.start()
    print(ours.recv())
    child.join()
""")
    start = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    expected = "EventLoop" if method == "fork" else "_UnixSelectorEventLoop"

    assert f"{expected}\n" == run_python(start, str(script), method)
