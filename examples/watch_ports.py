"""Wait for browsers at several ports at once, in one process: report which port each connection comes to.

    python examples/watch_ports.py --port 8001 8002 8003

What to notice:

- One call waits for all of it. accept() can wait for one socket only: without a poller, this takes a process or a
  thread for each port.
- The data of a registration says what is ready: each listening socket has its Listener there, each connection its
  Visitor. Everything else is as in watch_browser.py.
- A port that cannot be had is named, and then nothing is served: half of it would be a surprise.
"""

from __future__ import annotations

import contextlib

import fastmux
from fastmux import READ
from serving import Listener, Stop, listen, parse, run, say, server_command_line
from watch_browser import serve


def main() -> int:
    args = parse(server_command_line(__doc__, port=[8001, 8002, 8003]))
    with contextlib.ExitStack() as stack:
        poller = stack.enter_context(fastmux.Poller(args.mechanism))
        stop = stack.enter_context(Stop(poller))
        sockets = [stack.enter_context(listen(args.host, port)) for port in args.port]
        visitors = serve(poller, [Listener(poller, sock, READ | args.edge) for sock in sockets], stop)
    say(f"{visitors} connections")
    return 0


if __name__ == "__main__":
    run(main)
