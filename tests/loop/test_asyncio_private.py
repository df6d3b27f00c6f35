"""The private parts of asyncio that the event loop depends on.

A failure means that a new Python has changed one of them: find its replacement before you change the list.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import ssl
import sys
import textwrap
from asyncio import base_events, constants, format_helpers, futures, runners, selector_events, sslproto, unix_events
from pathlib import Path

import pytest

import fastmux

if fastmux.implementation == "c":
    from fastmux.loop import stream
else:
    stream = None

LOOP = asyncio.SelectorEventLoop
TRANSPORT = selector_events._SelectorSocketTransport

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


BORROWED = [
    name
    for name, value in vars(getattr(stream, "_SocketTransport", object)).items()
    if inspect.isfunction(value) and value.__module__ == selector_events.__name__
]


@pytest.mark.skipif(stream is None, reason="only the extension has a transport of its own")
@pytest.mark.parametrize("name", BORROWED)
def test_a_method_of_the_standard_transport_uses_only_attributes_that_ours_has(name):
    tree = ast.parse(textwrap.dedent(inspect.getsource(getattr(TRANSPORT, name))))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }

    assert used - set(dir(stream._SocketTransport)) == set()
    assert "super" not in getattr(TRANSPORT, name).__code__.co_names


@pytest.mark.skipif(sys.version_info < (3, 11), reason="another implementation in Python 3.10")
def test_tls_keeps_its_state_in_private_attributes():
    """All those that tls.py uses."""
    loop = LOOP()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    protocol = sslproto.SSLProtocol(loop, asyncio.Protocol(), context, None, server_side=True)
    source = (Path(fastmux.__file__).parent / "loop" / "tls.py").read_text()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    used = {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id in ("self", "tls")}
    own = {
        "_advance",
        "_deliver",
        "_has_zero_limit",
        "_write_pieces",
        "_receive_close_notify",
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
