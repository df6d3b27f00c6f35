"""Pipes and subprocesses: pipe.py has the transports of pipes, process.py that of a subprocess."""
