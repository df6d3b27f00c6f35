"""The private parts of asyncio that the event loop depends on.

A failure means that a new Python has changed one of them: find its replacement before you change the list.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import signal
import ssl
import sys
import textwrap
import weakref
from asyncio import (
    base_events,
    base_subprocess,
    constants,
    format_helpers,
    futures,
    runners,
    selector_events,
    sslproto,
    unix_events,
)
from pathlib import Path

import pytest

import fastmux

if fastmux.implementation == "c":
    from fastmux.loop.transports import pipe, stream
else:
    stream = pipe = None

LOOP = asyncio.SelectorEventLoop
TRANSPORT = selector_events._SelectorSocketTransport
READ_PIPE, WRITE_PIPE = unix_events._UnixReadPipeTransport, unix_events._UnixWritePipeTransport
SUBPROCESS = unix_events._UnixSubprocessTransport

#: Since Python 3.15 the callbacks of a transport run in one context, an argument of these functions; before, in copies.
CONTEXT = ["context"] if sys.version_info >= (3, 15) else []

#: Owner, name and parameters of each function; None: it must only exist.
METHODS = [
    (LOOP, "_add_callback", ["handle"]),
    (LOOP, "_add_reader", ["fd", "callback", "args", *CONTEXT]),
    (LOOP, "_add_writer", ["fd", "callback", "args", *CONTEXT]),
    (LOOP, "_check_closed", []),
    (LOOP, "_ensure_fd_no_transport", ["fd"]),
    (LOOP, "_accept_connection", None),
    (TRANSPORT, "__del__", None),
    (LOOP, "_make_datagram_transport", ["sock", "protocol", "address", "waiter", "extra"]),
    (LOOP, "_child_watcher_callback", ["pid", "returncode", "transp"]),
    (LOOP, "_make_read_pipe_transport", ["pipe", "protocol", "waiter", "extra"]),
    (LOOP, "_make_write_pipe_transport", ["pipe", "protocol", "waiter", "extra"]),
    (LOOP, "_make_subprocess_transport", None),
    (SUBPROCESS, "_connect_pipes", ["waiter"]),
    (SUBPROCESS, "_process_exited", ["returncode"]),
    (SUBPROCESS, "_wait", []),
    (base_subprocess, "ReadSubprocessPipeProto", ["proc", "fd"]),
    (base_subprocess, "WriteSubprocessPipeProto", ["proc", "fd"]),
    (LOOP, "_make_socket_transport", ["sock", "protocol", "waiter", "extra", "server", *CONTEXT]),
    (LOOP, "_make_ssl_transport", None),
    (LOOP, "_process_events", ["event_list"]),
    (LOOP, "_remove_reader", ["fd"]),
    (LOOP, "_remove_writer", ["fd"]),
    (LOOP, "_run_once", []),
    (LOOP, "_start_serving", None),
    (LOOP, "_stop_serving", ["sock"]),
    (LOOP, "_timer_handle_cancelled", ["handle"]),
    (LOOP, "_write_to_self", []),
    (asyncio.Handle, "_run", []),
    (format_helpers, "_format_callback_source", None),
    (futures, "_set_result_unless_cancelled", ["fut", "result"]),
    (runners, "_cancel_all_tasks", ["loop"]),
    (sslproto, "SSLProtocol", None),
]


@pytest.mark.parametrize(("owner", "name", "parameters"), METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_a_private_function_takes_what_it_is_called_with(owner, name, parameters):
    function = getattr(owner, name)

    if parameters is not None:
        assert list(inspect.signature(function).parameters)[1 if inspect.isclass(owner) else 0 :] == parameters


@pytest.mark.parametrize(
    "name",
    ["_closed", "_debug", "_ready", "_scheduled", "_selector", "_stopping", "_timer_cancelled_count", "_transports"],
)
def test_a_loop_keeps_its_state_in_a_private_attribute(name):
    loop = LOOP()
    loop.close()

    assert hasattr(loop, name)


@pytest.mark.skipif(fastmux.implementation != "c", reason="only the loop in C has slots")
def test_all_private_attributes_of_a_loop_have_a_slot(tmp_path, monkeypatch):
    """A name that is found here belongs to ATTRIBUTES in asyncio_private.py."""

    async def numbers():
        yield 1

    async def main():
        loop = asyncio.get_running_loop()
        async for _ in numbers():
            pass
        await loop.run_in_executor(None, int)
        for server in (
            await loop.create_server(asyncio.Protocol, "127.0.0.1", 0),
            await loop.create_unix_server(asyncio.Protocol, "socket"),
        ):
            server.close()
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()
        loop.add_signal_handler(signal.SIGUSR1, int)
        loop.set_debug(True)
        await asyncio.sleep(0.001)
        loop.set_debug(False)
        loop.set_exception_handler(None)
        loop.set_task_factory(None)

    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    loop = fastmux.EventLoop()
    try:
        for ending in main(), loop.shutdown_asyncgens(), loop.shutdown_default_executor():
            loop.run_until_complete(ending)
    finally:
        loop.close()

    assert vars(loop) == {}


def test_a_program_may_give_a_loop_attributes_of_its_own():
    loop = fastmux.EventLoop()
    loop.close()
    loop.owner = "program"
    loop.call_soon = print

    assert vars(loop).items() >= {"owner": "program", "call_soon": print}.items()
    assert loop.call_soon is print


def test_a_transport_keeps_its_state_in_private_attributes():
    async def main():
        ours, theirs = await connected_pair()
        names = {"_loop", "_sock", "_sock_fd", "_protocol", "_buffer", "_conn_lost", "_closing", "_paused", "_eof"}
        missing = [name for name in names | {"_empty_waiter"} if not hasattr(ours, name)]
        ours.close()
        theirs.close()
        await asyncio.sleep(0)
        return missing

    async def connected_pair():
        import socket

        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        return transport, theirs

    loop = LOOP()
    try:
        assert loop.run_until_complete(main()) == []
    finally:
        loop.close()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="a server counts its transports")
def test_a_server_keeps_a_weak_set_of_its_transports():
    async def main():
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport = type("Transport", (), {})()  # weakly referenced
        server._attach(transport)
        clients, known = server._clients, server._sockets is not None
        kept = {reference() for reference in clients.data} == {transport}
        empty = getattr(clients, "_pending_removals", []) == []  # until Python 3.13
        server._detach(transport)
        server.close()
        return type(clients) is weakref.WeakSet, callable(clients._remove), known, kept, empty, clients.data

    loop = LOOP()
    try:
        assert loop.run_until_complete(main()) == (True, True, True, True, True, set())
    finally:
        loop.close()


def test_a_datagram_transport_keeps_its_state_in_private_attributes():
    async def main():
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        names = {"_loop", "_sock", "_sock_fd", "_protocol", "_buffer", "_conn_lost", "_closing", "_address"}
        missing = [name for name in names | {"_extra", "max_size"} if not hasattr(transport, name)]
        known = transport._extra["peername"], loop._transports.data[transport._sock_fd]() is transport
        transport.close()
        await asyncio.sleep(0)
        return missing, known

    loop = LOOP()
    try:
        assert loop.run_until_complete(main()) == ([], (None, True))
    finally:
        loop.close()


#: Each transport, and the standard one from which it takes methods.
TRANSPORTS = [
    (getattr(module, name, object), standard)
    for module, name, standard in [
        (stream, "_SocketTransport", TRANSPORT),
        (pipe, "_ReadPipeTransport", READ_PIPE),
        (pipe, "_WritePipeTransport", WRITE_PIPE),
    ]
]
BORROWED = [
    (ours, standard, name)
    for ours, standard in TRANSPORTS
    for name, value in vars(ours).items()
    if inspect.isfunction(value) and value.__module__ == standard.__module__
]


@pytest.mark.skipif(stream is None, reason="only the extension has transports of its own")
@pytest.mark.parametrize(("ours", "standard", "name"), BORROWED, ids=lambda value: getattr(value, "__name__", value))
def test_a_method_of_the_standard_transport_uses_only_attributes_that_ours_has(ours, standard, name):
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(standard, name))))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }

    assert used - set(dir(ours)) == set()
    assert "super" not in getattr(standard, name).__code__.co_names


@pytest.mark.skipif(stream is None, reason="only the extension has transports of its own")
@pytest.mark.parametrize(("ours", "standard"), TRANSPORTS, ids=lambda value: value.__name__)
def test_a_transport_has_all_methods_of_the_standard_one(ours, standard):
    def names(owner):
        return {name for name in dir(owner) if not name.startswith("_")}

    assert names(standard) - names(ours) == set()


def test_a_subprocess_transport_keeps_its_state_in_private_attributes():
    source = inspect.getsource(base_subprocess.BaseSubprocessTransport.__init__)

    for name in "_loop", "_pid", "_pending_calls", "_pipes", "_proc", "_protocol", "_returncode":
        assert f"self.{name} = " in source
    assert "_connect_pipes(waiter)" in source


def test_output_of_a_subprocess_is_delivered_by_call_soon():
    """As in fastmux.loop.transports.process: at once queued, unless the subprocess is not connected yet."""
    transport = base_subprocess.BaseSubprocessTransport

    assert "self.proc._pipe_data_received(self.fd, data)" in inspect.getsource(base_subprocess.ReadSubprocessPipeProto)
    assert "self._call(self._protocol.pipe_data_received, fd, data)" in inspect.getsource(transport._pipe_data_received)
    assert "if self._pending_calls is not None:" in inspect.getsource(transport._call)
    assert "self._loop.call_soon(cb, *data)" in inspect.getsource(transport._call)


def test_pipes_of_a_subprocess_are_connected_in_order():
    """The order of these calls, and the attributes that they set, are repeated in fastmux.loop.transports.process."""
    source = inspect.getsource(base_subprocess.BaseSubprocessTransport._connect_pipes)
    set_attributes = {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(source)))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }

    assert source.index("proc.stdin") < source.index("proc.stdout") < source.index("proc.stderr")
    assert source.index("connection_made") < source.index("_pending_calls = None") < source.index("set_result(None)")
    assert set_attributes <= {"_pending_calls", "_pipes_connected"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="another implementation in Python 3.10")
def test_tls_keeps_its_state_in_private_attributes():
    """All those that tls.py uses."""
    loop = LOOP()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    protocol = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, None, server_side=True)
    source = (Path(fastmux.__file__).parent / "loop" / "transports" / "tls.py").read_text()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id in ("self", "tls")}
    own = {
        "_advance",
        "_deliver",
        "_has_zero_limit",
        "_write_pieces",
        "_receive_close_notify",
        "_send",
        "_ssl_protocol",
        "data_received",
    }
    protocol._set_app_protocol(asyncio.BufferedProtocol())
    missing = {name for name in used - own if not hasattr(protocol, name)}
    protocol._app_transport._closed = True
    loop.close()

    assert missing == set()
    assert {state.name for state in sslproto.SSLProtocolState} >= {"WRAPPED"}
    assert set(sslproto.SSLAgainErrors) == {ssl.SSLWantReadError, ssl.SSLSyscallError}


def test_connections_are_made_in_the_steps_that_a_program_may_replace():
    for name in ("_connect_sock", "_create_connection_transport", "_ensure_resolved", "sock_connect"):
        assert callable(getattr(LOOP, name))


def test_the_context_of_a_transport_is_one_that_its_constructor_is_given():
    """Servers and create_connection() create the context."""
    for function in (LOOP._make_ssl_transport, LOOP._start_serving):
        assert ("context" in inspect.signature(function).parameters) == bool(CONTEXT)
    assert ("context=self._context" in inspect.getsource(TRANSPORT._add_reader)) == bool(CONTEXT)


def test_handles_have_the_slots_that_are_filled_in():
    slots = {"_callback", "_args", "_cancelled", "_loop", "_source_traceback", "_repr", "_context", "__weakref__"}

    assert set(asyncio.Handle.__slots__) == slots
    assert {"_scheduled", "_when"} == set(asyncio.TimerHandle.__slots__)


def test_a_server_adds_its_sockets_by_start_serving():
    assert "_loop._start_serving(" in inspect.getsource(base_events.Server)
    assert "_loop._stop_serving(" in inspect.getsource(base_events.Server)


def test_signals_arrive_through_the_socket_pair_of_the_loop():
    assert "self._csock" in inspect.getsource(unix_events._UnixSelectorEventLoop.add_signal_handler)


def test_writes_to_a_lost_connection_are_counted_up_to_a_threshold():
    assert constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES > 0


def test_servers_count_their_connections():
    for name in ("_attach", "_detach"):
        assert list(inspect.signature(getattr(asyncio.Server, name)).parameters)[1:] in ([], ["transport"])
