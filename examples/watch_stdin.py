"""Print each line of standard input when it arrives: the smallest program on a poller.

    python examples/watch_stdin.py
    python examples/watch_stdin.py --mechanism select < README.md

What to notice:

- Register once, wait many times: register() stores the interest, select() waits.
- A terminal is readable when a line is complete, and at Ctrl-D. The end of input is readable, too: read() returns b"".
- os.read returns available data, which may be two lines or half of one. sys.stdin.readline() would read both lines from
  the kernel and return the first; the second would stay in Python's buffer, which the poller cannot see.
- A regular file is always ready. poll and select report it each time; epoll refuses it, so it is read without waiting.
- A signal ends the wait, too (see Stop in serving.py). Reading would block then.
"""

from __future__ import annotations

import os
import signal
import sys

import fastmux
from serving import Stop, command_line, log, parse, run, watch_input


def show(number: int, line: bytes) -> None:
    sys.stdout.buffer.write(b"line %d: %s\n" % (number, line))
    sys.stdout.flush()


def main() -> int:
    args = parse(command_line(__doc__))
    with fastmux.Poller(args.mechanism) as poller, Stop(poller) as stop:
        watched = watch_input(poller)
        count, rest, ended = 0, b"", False
        while not ended and not stop:
            if watched:
                poller.select()
                if stop:
                    break
            try:
                data = os.read(sys.stdin.fileno(), 65536)
            except OSError as error:  # the terminal was closed
                sys.exit(f"cannot read standard input: {error.strerror}")
            *lines, rest = (rest + data).split(b"\n")
            ended = not data
            if ended and rest:
                lines.append(rest)
            for line in lines:
                count += 1
                show(count, line)
    if stop:
        log(f"\n{signal.Signals(stop.signal).name} after line {count}")
        return 128 + stop.signal
    log(f"end of file after line {count}")
    return 0


if __name__ == "__main__":
    run(main)
