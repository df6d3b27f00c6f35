"""Chapters of the benchmarks: each module defines one set of comparisons.

run.py needs four names of each: the settings QUICK and FULL, steps(settings), which is the number of progress steps,
and run(settings, workspace, results, progress).
"""

#: name -> one line for --help, --list and the report
DESCRIPTIONS = {
    "servers": "HTTP servers (uvicorn, aiohttp, a Protocol), plain and TLS: asyncio, uvloop, rloop",
    "echo": "an echo server on selectors, with one import changed, on Poller, and on other libraries",
    "selectors": "select() returning keys, and registrations: Poller, the mirrors of selectors",
    "poll": "poll() returning (descriptor, events): Poller, the epoll and poll mirrors, pyzmq, a loop in C",
    "select": "select() on lists, below and above the limit of 1024 descriptors",
    "asyncio": "parts of event loops (asyncio, uvloop, rloop): echo servers, calls, latency, memory",
    "idle": "10 active connections among 10 to the limit of open files: select, poll, epoll",
}
#: Chapters with the same rows for each counterpart.
COMPACT = ("servers", "echo", "asyncio")
