"""fastmux beside libraries that change the standard modules, in every order. Each test runs an interpreter of its own.

The extra ``greenlets`` installs the libraries. Without them their tests are skipped.
"""

from __future__ import annotations

import importlib.util

import pytest

import fastmux

needs_extension = pytest.mark.skipif(
    fastmux.implementation != "c", reason="without the extension there is nothing to patch"
)

SETUP = {
    "gevent": """
def monkey_patch():
    global sleep, spawn
    import gevent.monkey
    from gevent import sleep, spawn
    gevent.monkey.patch_all()
""",
    "eventlet": """
import warnings
def monkey_patch():
    global sleep, spawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # eventlet is deprecated
        import eventlet
        from eventlet import sleep, spawn
        eventlet.monkey_patch()
""",
}


@pytest.fixture(params=SETUP)
def library(request):
    skip_without(request.param)
    return request.param


def skip_without(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"no {library} here (pip install '.[greenlets]')")


ORDERS = [
    "monkey_patch() import",
    "monkey_patch() import patch()",
    "monkey_patch() import patch() unpatch()",
    "import monkey_patch() patch()",
    "import monkey_patch() patch() unpatch()",
    "import patch() monkey_patch()",
    "import patch() monkey_patch() unpatch()",
    "import patch() unpatch() monkey_patch() patch()",
]

#: Steps of an order as functions. patch() checks the warning: there is one if the library came first.
STEPS = """
import sys, warnings
done = []
def patch():
    import fastmux, select, selectors
    before = dict(vars(select)), dict(vars(selectors))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fastmux.patch()
    if "monkey_patch()" in done and fastmux.implementation == "c":
        (warning,) = caught
        assert warning.category is RuntimeWarning and warning.filename == "<string>", warning
        for name in "select.select", "selectors.SelectSelector", "selectors.DefaultSelector":
            assert f"{name} (by {LIBRARY}." in str(warning.message), warning
        assert (vars(select), vars(selectors)) == before
    else:
        assert not caught, caught[0]
def unpatch():
    import fastmux
    fastmux.unpatch()
for step in ORDER.split():
    if step == "import": import fastmux
    else: globals()[step[:-2]]()
    done.append(step)
"""

#: Each wait ends only if another greenlet runs meanwhile.
WAITS = """
import asyncio, os, select, selectors, signal, socket, socketserver, subprocess, sys
signal.alarm(40)  # ends a process that is blocked
def check(wait):
    r, w = os.pipe()
    def write():
        for _ in range(3):
            sleep(0)
        os.write(w, b"x\\n")
    spawn(write)
    result = wait(r)
    os.close(r)
    os.close(w)
    return result

assert check(lambda r: select.select([r], [], []) == ([r], [], []))
if hasattr(select, "poll"):
    def wait(r):
        poll = select.poll()
        poll.register(r, select.POLLIN)
        return poll.poll() == [(r, select.POLLIN)]
    assert check(wait)
for name in "DefaultSelector", "SelectSelector", "PollSelector":
    if hasattr(selectors, name):
        def wait(r):
            with getattr(selectors, name)() as selector:
                key = selector.register(r, selectors.EVENT_READ, "data")
                assert key == selectors.SelectorKey(r, r, selectors.EVENT_READ, "data")
                result = selector.select() == [(key, selectors.EVENT_READ)]
                assert selector.unregister(r) is key and not selector.get_map()
                return result
        assert check(wait), name

def wait(r):
    command = [sys.executable, "-c", "import sys; print(input()); print('error', file=sys.stderr)"]
    return subprocess.run(command, stdin=r, capture_output=True, check=True)
done = check(wait)
assert (done.stdout, done.stderr) == (b"x\\n", b"error\\n"), done

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())
with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
    answers = []
    def ask():
        with socket.create_connection(server.server_address) as sock:
            sock.sendall(b"question\\n")
            answers.append(sock.recv(100))
    spawn(ask)
    server.handle_request()
    while not answers:
        sleep(0)
    assert answers == [b"QUESTION\\n"]

async def main(r):
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(r, ready.set_result, r)
    await ready
    loop.remove_reader(r)
check(lambda r: asyncio.run(main(r)))
"""


def program(library, order):
    return f"LIBRARY, ORDER = {library!r}, {order!r}\n{SETUP[library]}{STEPS}"


@pytest.mark.parametrize("order", ORDERS)
def test_other_greenlets_run_while_one_waits(run_python, library, order):
    run_python(program(library, order) + WAITS)


@pytest.mark.parametrize("order", ["monkey_patch() import patch()", "import patch() monkey_patch() unpatch()"])
def test_without_the_extension_other_greenlets_run_as_well(run_python, library, order):
    run_python(program(library, order) + WAITS, FASTMUX_PURE="1")


def test_other_greenlets_run_while_one_waits_in_a_program_started_by_run(run_python, tmp_path, library):
    script = tmp_path / "script.py"
    script.write_text(f"{SETUP[library]}monkey_patch()\n{WAITS}")
    start = "import runpy, sys; sys.argv = ['fastmux', *sys.argv[1:]]; runpy.run_module('fastmux', run_name='__main__')"
    run_python(start, "run", str(script))


#: Everything that a program can import from fastmux waits in the kernel.
BLOCKING = """
import os, select, selectors
from fastmux import Poller, StdlibPoller, READ, select as mirror, selectors as mirrors
assert "epoll" in StdlibPoller.mechanisms and mirrors.DefaultSelector is mirrors.EpollSelector
r, w = os.pipe()
def check(wait, expected):
    ran = []
    spawn(ran.append, True)
    assert not wait(0.001) and not ran
    os.write(w, b"x")
    assert wait(None) == expected, expected
    os.read(r, 1)
check(lambda timeout: mirror.select([r], [], [], timeout)[0], [r])
for poll, milliseconds in (mirror.poll(), 1000), (mirror.epoll(), 1):
    poll.register(r, READ)
    # PyPy's epoll objects take no None.
    check(lambda timeout: poll.poll(*() if timeout is None else [timeout * milliseconds]), [(r, READ)])
for cls in mirrors.EpollSelector, mirrors.PollSelector, mirrors.SelectSelector:
    with cls() as selector:
        assert isinstance(selector, mirrors.BaseSelector) and isinstance(selector, selectors.BaseSelector)
        key = selector.register(r, selectors.EVENT_READ)
        assert key == selectors.SelectorKey(r, r, selectors.EVENT_READ, None)
        assert type(key) is selectors.SelectorKey is mirrors.SelectorKey
        check(selector.select, [(key, selectors.EVENT_READ)])
        for wrong in lambda: selector.register(r, 1), lambda: selector.unregister(-1), lambda: selector.modify("x", 1):
            try: wrong()
            except (KeyError, ValueError): pass
            else: raise AssertionError(cls)
        key = selector.modify(r, selectors.EVENT_READ, "data")
        assert selector.unregister(r) is key and not selector.get_map()
for cls in Poller, StdlibPoller:
    for mechanism in cls.mechanisms:
        with cls(mechanism) as poller:
            key = poller.register(r)
            assert type(key) is selectors.SelectorKey
            check(poller.select, [(key, READ)])
"""


@pytest.mark.parametrize(
    ("order", "pure"),
    [
        ("monkey_patch() import", None),
        ("monkey_patch() import", "1"),
        # Without the extension the mirrors contain the standard classes, which gevent changes.
        pytest.param("import monkey_patch()", None, marks=needs_extension),
    ],
)
def test_the_mirrors_and_pollers_are_the_same_in_every_order(run_python, library, order, pure):
    early = "import fastmux.select, fastmux.selectors\n" if order.startswith("import") else ""
    run_python(early + program(library, order) + BLOCKING, FASTMUX_PURE=pure)


def test_an_import_while_changed_modules_take_the_place_of_the_standard_ones(run_python):
    skip_without("eventlet")
    run_python(
        """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import eventlet
from eventlet import spawn
eventlet.import_patched("fastmux")
import sys, fastmux.selectors
sys.modules["selectors"] = fastmux.selectors  # its keys are those of eventlet's module
"""
        + BLOCKING
    )


@needs_extension
def test_unpatch_restores_what_no_other_library_has_changed(run_python):
    run_python("""
import selectors, fastmux
from selectors import EpollSelector, PollSelector, SelectSelector
fastmux.patch()
selectors.DefaultSelector = mine = object()
del selectors.EpollSelector
def _select(*arguments): return arguments
_select.__globals__["__name__"] = "library"
selectors.SelectSelector._select = staticmethod(_select)
fastmux.unpatch()
assert selectors.DefaultSelector is mine and not hasattr(selectors, "EpollSelector")
assert selectors.SelectSelector is SelectSelector is fastmux.selectors.SelectSelector
assert selectors.PollSelector is PollSelector is not fastmux.selectors.PollSelector
""")


CUSTOM = """
import functools, select, selectors, sys, unittest.mock, warnings
class Own(selectors.PollSelector):
    pass
class Proxy:
    def __init__(self, wrapped): self.wrapped, self.__module__ = wrapped, wrapped.__module__
    def __call__(self): return 1 / 0
    def __getattr__(self, name): return getattr(self.wrapped, name)
    __class__ = property(lambda self: type(self.wrapped))
def change():
    selectors.DefaultSelector = Own
    select.poll = functools.wraps(select.poll)(lambda: 1 / 0)
    select.epoll = Proxy(select.epoll)
    selectors.SelectSelector._select = unittest.mock.Mock()
"""


@needs_extension
@pytest.mark.parametrize("order", ["change() import", "import change()"])
def test_patch_replaces_everything_else_and_names_what_it_keeps(run_python, order):
    run_python(
        f"{CUSTOM}\nif {order.startswith('import')}: import fastmux\nchange()\n"
        + """
import fastmux, fastmux.select, fastmux.selectors
def kept(): return select.poll, select.epoll, selectors.SelectSelector, selectors.DefaultSelector
before = kept()
standard = select.select, selectors.PollSelector
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    with fastmux.patch():
        assert select.select is fastmux.select.select and selectors.PollSelector is fastmux.selectors.PollSelector
        assert before == kept()
assert standard == (select.select, selectors.PollSelector) and before == kept()
(warning,) = caught
names = str(warning.message).rpartition(": ")[2].split(", ")
assert names[:2] == ["select.poll (by __main__)", "select.epoll (by __main__)"], warning
assert names[2:] == ["selectors.SelectSelector (by unittest.mock)", "selectors.DefaultSelector (by __main__)"], warning

assert fastmux.selectors.DefaultSelector is fastmux.selectors.EpollSelector
assert fastmux.select.poll().poll(0) == fastmux.selectors.SelectSelector().select(0) == []
assert fastmux.StdlibPoller("poll").poll(0) == fastmux.StdlibPoller("epoll").poll(0) == []
assert issubclass(fastmux.selectors.PollSelector, selectors.PollSelector)
"""
    )


@needs_extension
def test_a_warning_as_an_exception_prevents_patch(run_python):
    run_python(
        CUSTOM
        + """
import fastmux
change()
before = dict(vars(select)), dict(vars(selectors))
try: fastmux.patch()
except RuntimeWarning: pass
else: raise AssertionError
assert before == (vars(select), vars(selectors))
"""
    )


@pytest.mark.parametrize("default", ["selectors.PollSelector", "selectors.DefaultSelector"])
def test_names_that_the_system_lacks_are_no_change(run_python, default):
    run_python(f"""
import select, selectors
del select.epoll, selectors.EpollSelector
selectors.DefaultSelector = {default}
import fastmux
fastmux.patch()
assert not hasattr(fastmux.select, "epoll") and not hasattr(fastmux.selectors, "EpollSelector")
assert selectors.PollSelector is fastmux.selectors.PollSelector
assert selectors.DefaultSelector is fastmux.selectors.DefaultSelector is {default}
assert "epoll" not in fastmux.StdlibPoller.mechanisms
""")


@pytest.mark.parametrize("contents", ["", "def select(*lists): raise AssertionError"], ids=["empty", "function"])
def test_a_fake_module_is_not_taken_for_the_standard_one(run_python, contents):
    run_python(
        f"contents = {contents!r}"
        + """
import selectors, sys, types, unittest.mock
def spawn(*call): pass
for name, names in ("select", {}), ("selectors", vars(selectors)):
    sys.modules[name] = types.ModuleType(name)
    exec(contents, vars(sys.modules[name]))
    vars(sys.modules[name]).update(names)
sys.modules["selectors"].PollSelector = unittest.mock.Mock()
import fastmux.select, fastmux.selectors
"""
        + BLOCKING
    )
