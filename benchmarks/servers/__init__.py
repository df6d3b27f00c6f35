"""Echo servers and the load generator, for the chapters asyncio and echo.

asyncio_server.py and loadgen.py are run by path, which puts this folder on sys.path: no file here may have the name of
a standard module.
"""
