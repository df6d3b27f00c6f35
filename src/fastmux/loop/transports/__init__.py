"""The transports of the event loop: stream sockets, datagram sockets, pipes, subprocesses, and TLS on a stream."""
