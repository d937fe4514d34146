"""Ports for servers of tests."""

import contextlib
import itertools
import os
import socket

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_ports = itertools.count(10000 + _worker % 5 * 4000 + os.getpid() % 3000)


def free_port():
    """A port of this machine, never the same twice, and below those that the system gives to
    connections: nothing else takes it before it is used."""
    for port in _ports:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port
