"""Fixtures for all tests: pollers, files to watch, threads, signals, and a check for leaked descriptors.

A test with ``poller`` or ``make_poller`` runs once for each implementation and mechanism; with ``epoll_poller`` only on
epoll, with ``scanning_poller`` only on poll and select.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import random
import resource
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import hypothesis
import pytest

import fastmux

#: For ``--hypothesis-profile=thorough``.
hypothesis.settings.register_profile("thorough", max_examples=1000)

#: Seconds after which a test gives up.
TIMEOUT = 20.0
#: Ports that the kernel does not give to clients (net.ipv4.ip_local_port_range).
PORTS = range(20000, 32000)


def until_threads_are_gone() -> None:
    """Wait until the kernel has ended all joined threads."""
    deadline = time.monotonic() + TIMEOUT
    # Each thread is a link of the directory, besides two. Unlike listdir(), stat() needs no descriptor.
    while os.stat("/proc/self/task").st_nlink - 2 > len(sys._current_frames()):
        assert time.monotonic() < deadline, "a thread outside Python: use -o faulthandler_timeout=0"
        time.sleep(0.0001)


if "libasan" in os.environ.get("LD_PRELOAD", ""):
    # The sanitizer's malloc() does not take its locks at a fork. If another thread holds one, the child deadlocks.
    os.register_at_fork(before=until_threads_are_gone)


class Kind(NamedTuple):
    """A class of poller and one of its mechanisms."""

    cls: type[fastmux.StdlibPoller]
    mechanism: str

    def __str__(self) -> str:
        return f"{self.cls.__name__}-{self.mechanism}"


CLASSES = dict.fromkeys([fastmux.Poller, fastmux.StdlibPoller])  # the same class without the extension
KINDS = [Kind(cls, mechanism) for cls in CLASSES for mechanism in cls.mechanisms]
with fastmux.Poller() as poller:
    poller.wakeup()  # the first one opens a socket for all, which stays open


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "make_poller" not in metafunc.fixturenames:
        return
    kinds = KINDS
    if "epoll_poller" in metafunc.fixturenames:
        kinds = [kind for kind in KINDS if kind.mechanism == "epoll"]
    if "scanning_poller" in metafunc.fixturenames:
        kinds = [kind for kind in KINDS if kind.mechanism != "epoll"]
    metafunc.parametrize("make_poller", kinds, indirect=True, ids=str)


# Descriptors

PYPY = platform.python_implementation() == "PyPy"
PYPY_TOOLS = Path(__file__).with_name("pypy.py")
if PYPY:
    runpy.run_path(str(PYPY_TOOLS))  # after fastmux, which has looked already for what is missing


#: Parts of the names of tests that do not suit PyPy.
NOT_ON_PYPY = {
    "test_state_machines.py": "without the extension it compares the standard library with itself",
    "test_memory.py": "a limit of the address space stops its garbage collector",
    "test_an_interrupted_wait_leaves_nothing_behind": "the garbage collector releases the wait",
    "test_a_close_in_the_midst_of_a_wait": "a garbage collection at each line takes minutes",
    # Its module ssl leaves an error in OpenSSL's queue; the next call of any connection raises it.
    "test_a_damaged_record_ends_the_connection": "an error of one TLS connection ends others",
    "test_data_in_flight_is_dropped_by_close": "an error of one TLS connection ends others",
    "test_random_peers_over_tls_lose_and_mix_up_nothing": "an error of one TLS connection ends others",
    "test_every_public_name_of_the_standard_module_is_there[select]": "pypy.py adds names to the standard module",
    "test_constants_are_equal": "pypy.py adds names to the standard module",
    "test_a_missing_program_is_reported_in_the_same_way": "its message begins with another name of the interpreter",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items if PYPY else ():
        for part, reason in NOT_ON_PYPY.items():
            if part in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=reason))


def collect_garbage() -> None:
    for _ in range(3 if PYPY else 1):  # a finalizer may leave more
        gc.collect()


@pytest.fixture
def collect_unreferenced() -> Callable[[], None]:
    """Release objects without references: CPython has done so already, and PyPy has to collect them."""
    return collect_garbage if PYPY else lambda: None


def open_files() -> dict[int, str]:
    """The open descriptors of this process and what they refer to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor that listdir itself was using
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


# A shell that starts this in the background makes it, and its children, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_descriptor_leak(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaks descriptors, or closes descriptors of others."""
    before = open_files()
    yield
    if PYPY and request.node.get_closest_marker("filterwarnings"):
        collect_garbage()  # whose warnings this test ignores, and others do not
    if open_files() != before:
        collect_garbage()  # which is no leak
        assert open_files() == before


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    """The command line of a headless browser, without the address."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        missing = "no Chromium here (Debian: apt-get install chromium)"
        if os.environ.get("FASTMUX_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    # Only the visit itself: no background traffic, no first-run page.
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync"]
    return [program, "--headless", "--no-sandbox", *quiet, f"--user-data-dir={tmp_path / 'profile'}"]


@pytest.fixture
def open_descriptors() -> Callable[[], dict[int, str]]:
    """Return the open descriptors and their targets."""

    def of_living_objects() -> dict[int, str]:
        if PYPY:  # counts no references
            collect_garbage()
        return open_files()

    return of_living_objects


@pytest.fixture
def descriptors_limit() -> Iterator[Callable[[int], None]]:
    """Set the soft limit of open files, up to the hard one, until the end of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit(wanted: int) -> None:
        if hard != resource.RLIM_INFINITY and wanted > hard:
            pytest.skip(f"needs {wanted} open files, and the hard limit is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def tracemalloc() -> Any:
    """The module, which PyPy lacks."""
    return pytest.importorskip("tracemalloc")


# Pollers


class Factory:
    """Creates pollers of one kind, and closes them at the end."""

    def __init__(self, kind: Kind) -> None:
        self.cls = kind.cls
        self.mechanism = kind.mechanism
        self.made: list[Any] = []

    def __call__(self, **options: Any) -> fastmux.StdlibPoller:
        poller = self.cls(self.mechanism, **options)
        self.made.append(poller)
        return poller

    def forget(self) -> None:
        """Leave the pollers to the garbage collector."""
        self.made.clear()


@pytest.fixture
def make_poller(request: pytest.FixtureRequest) -> Iterator[Factory]:
    """Create pollers of the class and mechanism of this test run."""
    factory = Factory(request.param)
    yield factory
    for poller in factory.made:
        poller.close()
    factory.forget()


@pytest.fixture
def poller(make_poller: Factory) -> fastmux.StdlibPoller:
    return make_poller()


@pytest.fixture
def epoll_poller(make_poller: Factory) -> fastmux.StdlibPoller:
    return make_poller()


@pytest.fixture
def scanning_poller(make_poller: Factory) -> fastmux.StdlibPoller:
    """A poller on poll or select, which scan every descriptor in each call."""
    return make_poller()


@pytest.fixture(params=["poll", "select", "wait"])
def wait(request: pytest.FixtureRequest, poller: fastmux.StdlibPoller) -> Callable[..., Any]:
    """One of the three waiting methods of the poller; the result is false if nothing is ready."""
    method: Callable[..., Any] = getattr(poller, request.param)
    return method


# Files to watch


@pytest.fixture
def make_socketpair() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Create pairs of connected, non-blocking AF_UNIX stream sockets."""
    made: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (ours, theirs):
            end.setblocking(False)
            made.append(end)
        return ours, theirs

    yield make
    for end in made:
        end.close()


@pytest.fixture
def socketpair(
    make_socketpair: Callable[[], tuple[socket.socket, socket.socket]],
) -> tuple[socket.socket, socket.socket]:
    return make_socketpair()


@pytest.fixture
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection over the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname(), timeout=TIMEOUT)
        theirs, _ = server.accept()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


@pytest.fixture
def make_eventfd() -> Iterator[Callable[..., int]]:
    """Create eventfds, which are readable while their counter is not 0."""
    made: list[int] = []

    def make(counter: int = 0) -> int:
        made.append(os.eventfd(counter, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        return made[-1]

    yield make
    for fd in made:
        os.close(fd)


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], contextlib.AbstractContextManager[list[int]]]:
    """Choose so many free TCP ports of the loopback interface, until the end of a with block.

    The name of a socket keeps each from tests in other processes.
    """

    @contextlib.contextmanager
    def choose(count: int) -> Iterator[list[int]]:
        with contextlib.ExitStack() as stack:
            ports: list[int] = []
            while len(ports) < count:
                port = random.choice(PORTS)
                claim = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                try:
                    claim.bind(f"\0fastmux-tests-{port}")
                    with socket.create_server(("127.0.0.1", port)):
                        ports.append(port)
                except OSError:
                    claim.close()
            yield ports

    return choose


# The oracle


def poll_stdlib(mechanism: str, interest: dict[int, int]) -> list[tuple[int, int]]:
    """Return the ready (descriptor, events) pairs by the standard library, sorted."""
    found: dict[int, int] = {}
    if mechanism == "select":
        bits = (fastmux.READ, fastmux.WRITE, fastmux.PRIORITY)
        wanted = [[fd for fd, events in interest.items() if events & bit] for bit in bits]
        for bit, ready in zip(bits, select.select(*wanted, 0)):
            for fd in ready:
                found[fd] = found.get(fd, 0) | bit
        return sorted(found.items())
    with contextlib.ExitStack() as stack:
        reference: Any = select.poll() if mechanism == "poll" else stack.enter_context(select.epoll())
        for fd, events in interest.items():
            reference.register(fd, events)
        return sorted(reference.poll(0))


@pytest.fixture
def oracle() -> Callable[[str, dict[int, int]], list[tuple[int, int]]]:
    """Poll with the standard library: mechanism and {fd: events} -> sorted pairs."""
    return poll_stdlib


# Threads, signals, processes

#: Numbers of the blocking system calls of the mechanisms, for known architectures.
_BLOCKING_CALLS = {
    "x86_64": {7, 23, 232, 270, 271, 281, 441},
    "aarch64": {22, 72, 73, 441},
}.get(platform.machine())


class Task(threading.Thread):
    """A thread that stores the result or the exception of its function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(daemon=True)
        self._function, self._args = function, args
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._function(*self._args)
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        """Join, and return the result or raise the exception of the function."""
        self.join(TIMEOUT)
        if self.is_alive():
            pytest.fail(f"{self._function} has not ended after {TIMEOUT} s")
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._value

    def until_blocked(self) -> Task:
        """Return once the thread sleeps in a system call that waits for descriptors."""
        deadline = time.monotonic() + TIMEOUT
        while not is_blocked(self.native_id):
            assert self.is_alive(), "the thread has ended instead of waiting"
            assert time.monotonic() < deadline, "the thread is not waiting"
            time.sleep(0.001)
        return self


def is_blocked(native_id: int | None) -> bool:
    """Return whether a thread sleeps in a system call that waits for descriptors."""
    files = Path(f"/proc/self/task/{native_id}")
    try:
        if (files / "stat").read_text().rpartition(")")[2].split()[0] != "S":
            return False
        call = (files / "syscall").read_text().split()[0]
    except PermissionError:
        return True  # best guess: the call is not readable here
    except OSError:
        return False  # the thread has ended
    return call.isdigit() and (_BLOCKING_CALLS is None or int(call) in _BLOCKING_CALLS)


@pytest.fixture
def start_thread() -> Iterator[Callable[..., Task]]:
    """Run a function in a thread. The exception of a thread without a call of result() fails the test."""
    tasks: list[Task] = []

    def start(function: Callable[..., Any], *args: Any) -> Task:
        tasks.append(Task(function, *args))
        tasks[-1].start()
        return tasks[-1]

    yield start
    for task in tasks:
        task.result()


@pytest.fixture
def when_blocked(start_thread: Callable[..., Task]) -> Callable[[Callable[[], Any]], None]:
    """Call a function in another thread once this one sleeps in a system call that waits for descriptors."""

    def call(function: Callable[[], Any]) -> None:
        main = threading.current_thread()

        def run() -> None:
            deadline = time.monotonic() + TIMEOUT
            while not is_blocked(main.native_id):
                assert time.monotonic() < deadline, "the thread is not waiting"
                time.sleep(0.001)
            function()

        start_thread(run)

    return call


@pytest.fixture
def on_alarm() -> Iterator[Callable[..., None]]:
    """Call a function on SIGALRM: once after ``delay`` seconds, then every ``interval`` seconds.

    A signal during a call of the function is dropped.
    """
    previous = signal.getsignal(signal.SIGALRM)

    def set_alarm(function: Callable[[], Any], delay: float, interval: float = 0.0) -> None:
        running = False

        def handler(signum: int, frame: FrameType | None) -> None:
            nonlocal running
            if running:
                return
            running = True
            try:
                function()
            finally:
                running = False

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, delay, interval)

    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """Run a program in a fresh interpreter and return its output; variable=None unsets the variable."""

    def run(program: str, *args: str, **variables: str | None) -> str:
        if PYPY:
            program = f"import runpy; runpy.run_path({str(PYPY_TOOLS)!r})\n{program}"
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **variables}
        finished = subprocess.run(
            [sys.executable, "-W", "error", "-c", program, *args],
            env={name: value for name, value in environment.items() if value is not None},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=3 * TIMEOUT,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run
