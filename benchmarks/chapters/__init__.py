"""Chapters of the benchmarks: each module defines one set of comparisons.

run.py needs four names of each: the settings QUICK and FULL, steps(settings), which is the number of progress steps,
and run(settings, workspace, results, progress).
"""

#: name -> one line for --help, --list and the report
DESCRIPTIONS = {
    "poll": "poll() returning (descriptor, events): Poller, the epoll and poll mirrors, pyzmq, a loop in C",
    "selectors": "select() returning keys, and registrations: Poller, the mirrors of selectors",
    "select": "select() on lists, below and above the limit of 1024 descriptors",
    "asyncio": "event loops (asyncio, uvloop, rloop): CPU time of HTTP and echo servers and of calls; latency, memory",
    "echo": "echo servers under load: Poller, selectors, asyncio, uvloop, gevent, trio",
    "idle": "10 active connections among 10 to the limit of open files: select, poll, epoll",
}
