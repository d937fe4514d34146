"""The web server behind a view."""

import contextlib
import errno
import socket

import viser
from rich.console import Console

from phalanx.errors import PhalanxError

HOST, PORT = "127.0.0.1", 8080
TRIES = 100
"""Ports that are tried from `PORT` on."""


def open_server(title: str, host: str = HOST, port: int | None = None) -> viser.ViserServer:
    """A server at `host`; prints its address. port: None takes the first free one from 8080.

    Only this machine reaches 127.0.0.1; with 0.0.0.0 everyone does who reaches this machine.
    Raises PhalanxError for a port that is taken and for a host that is not this machine's.
    """
    port = free_port(host, port)
    with contextlib.redirect_stdout(None):  # viser prints a table, and its own word at the end
        server = viser.ViserServer(host=host, port=port, label=title, verbose=False)
    server.gui.configure_theme(show_share_button=False, control_width="large")
    # The page of viser can ask for a public address through a server of others; never give one.
    server.request_share_url = lambda verbose=True: None
    out = Console(highlight=False, soft_wrap=True).print
    out(f"{title}: [bold]{address(server)}[/bold]  (Ctrl-C stops it)")
    if host not in ("127.0.0.1", "localhost", "::1"):
        out("anyone who reaches this machine can open it and move the robot")
    return server


def close(server: viser.ViserServer) -> None:
    """Stop serving."""
    with contextlib.redirect_stdout(None):
        server.stop()


def address(server: viser.ViserServer) -> str:
    """The address to type into a browser."""
    host = server.get_host()
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{host}]' if ':' in host else host}:{server.get_port()}"


def free_port(host: str, port: int | None) -> int:
    """`port` if it is free, or the first free one. viser itself would silently take another one,
    and would try a thousand for a host that is not this machine's."""
    for candidate in [port] if port else range(PORT, PORT + TRIES):
        error = _problem(host, candidate)
        if error is None:
            return candidate
        if error.errno == errno.EADDRINUSE and not port:
            continue
        if error.errno == errno.EADDRINUSE:
            raise PhalanxError(
                f"port {port} is taken; choose another with port=, or leave it out for a free one"
            ) from error
        if error.errno == errno.EACCES:
            raise PhalanxError(f"port {port} needs more rights; choose one above 1023") from error
        raise PhalanxError(
            f"host={host} is no address of this machine ({str(error.strerror).lower()}); leave it"
            " out for this machine only, or give 0.0.0.0 for all its addresses"
        ) from error
    raise PhalanxError(f"ports {PORT} to {PORT + TRIES - 1} are all taken; choose one with port=")


def _problem(host: str, port: int) -> OSError | None:
    """What keeps a server from using this address, None if nothing does."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        return error
    return None
