"""Servers to put under load, for the chapters servers, echo and asyncio.

asyncio_server.py is run by path, which puts this folder on sys.path: no file here may have the name of a standard
module.
"""
