"""Single calls, timed in fresh processes: ``python -m benchmarks.calls.NAME``, started by the chapter NAME.

A module imports little beyond what it measures, because the contents of the heap influence the figures.
"""
