"""Load on servers: generators in C for echo and HTTP servers, and their control.

echo_fallback.py is run by path, which puts this folder on sys.path: no Python file here may have the name of a standard
module.
"""
