"""Benchmarks of fastmux against the standard library and other libraries: ``python -m benchmarks --quick``.

Imports go one way: results < child_process < machine < load < servers < calls <
chapters < report < run < __main__.
"""
