"""Web server on several ports in one process: print the port of each connection.

    python examples/watch_ports.py --port 8001 8002 8003

What to notice:

- One call waits for all ports. accept() waits for one socket only: without a poller, each port needs a process or a
  thread.
- The data of a registration identifies the ready object: a Listener for each port, a Connection for each client. The
  rest is as in watch_browser.py.
- If a port is unavailable, the program names it and exits: it does not serve some of the ports only.
"""

from __future__ import annotations

import contextlib

import fastmux
from fastmux import READ
from serving import Listener, Stop, count, log, log_address, open_listener, parse, run, server_command_line
from watch_browser import serve


def main() -> int:
    args = parse(server_command_line(__doc__, port=[8001, 8002, 8003]))
    with contextlib.ExitStack() as stack:
        poller = stack.enter_context(fastmux.Poller(args.mechanism))
        stop = stack.enter_context(Stop(poller))
        sockets = [stack.enter_context(open_listener(args.host, port)) for port in args.port]
        for sock in sockets:
            log_address(sock)
        connections = serve(poller, [Listener(poller, sock, READ | args.edge) for sock in sockets], stop)
    log(count(connections, "connection"))
    return 0


if __name__ == "__main__":
    run(main)
