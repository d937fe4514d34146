"""The web server behind a view."""

import contextlib
import errno
import logging
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import viser
from rich.console import Console
from rich.text import Text

from phalanx.errors import PhalanxError
from phalanx.viewer.door import Door

if TYPE_CHECKING:
    from phalanx.viewer.live_view import LiveView

HOST, PORT = "127.0.0.1", 8080
LOCAL = ("127.0.0.1", "localhost")
INNER_PORT = 18080
"""First port for a server behind a door."""
TRIES = 100
"""Ports that are tried from `PORT` on."""


def open_server(title: str, host: str = HOST, port: int | None = None) -> viser.ViserServer:
    """A server at `host`; prints its address. port: None takes the first free one from 8080.

    Only this machine reaches 127.0.0.1; with 0.0.0.0 everyone does who reaches this machine and has
    the token in the address that is printed.
    Raises PhalanxError for a port that is taken and for a host that is not this machine's.
    """
    found = free_port(host, port)
    inner = found if host in LOCAL else free_port(HOST, None, first=INNER_PORT)
    logging.getLogger("websockets.server").addFilter(_worth_a_word)
    with contextlib.redirect_stdout(None):  # viser prints a table, and its own word at the end
        server = viser.ViserServer(host=HOST, port=inner, label=title, verbose=False)
    server.door = None
    try:
        if host not in LOCAL:
            server.door = _door(host, port, server.get_port())
        elif port and port != server.get_port():  # another program was sooner
            raise _taken(port)
    except PhalanxError:
        close(server)
        raise
    server.gui.configure_theme(show_share_button=False, control_width="large")
    # The page of viser can ask for a public address through a server of others; never give one.
    server.request_share_url = lambda verbose=True: None
    out = Console(highlight=False, markup=False, soft_wrap=True).print
    out(Text.assemble(f"{title}: ", (address(server), "bold"), "  (Ctrl-C stops it)"))
    if server.door is not None:
        out("anyone who has this address can open it and move the robot; it is not encrypted")
    return server


def _worth_a_word(record: logging.LogRecord) -> bool:
    """Not a line that ends before anything was asked, as browsers open some ahead of their need."""
    return record.getMessage() != "opening handshake failed"


def serve(view: "LiveView", until: Callable[[], bool] = lambda: False) -> None:
    """Run a page until Ctrl-C, or until `until` returns True, asked twice a second."""

    def ask() -> None:
        while not view.stopped.wait(0.5):
            if until():
                view.stopped.set()

    threading.Thread(target=ask, daemon=True).start()
    try:
        view.run()
    except KeyboardInterrupt:
        print()
    finally:
        view.stopped.set()


def close(server: viser.ViserServer) -> None:
    """Stop serving."""
    if server.door is not None:
        server.door.close()
    with contextlib.redirect_stdout(None):
        server.stop()


def _door(host: str, port: int | None, inner: int) -> Door:
    """The door at `port`, or at the first free one; another program may take that meanwhile."""
    for _ in range(TRIES):
        found = free_port(host, port)
        with contextlib.suppress(OSError):
            return Door(host, found, inner)
    raise PhalanxError(f"no port of {host} can be opened; choose one with port=")


def address(server: viser.ViserServer) -> str:
    """The address to type into a browser."""
    door = server.door
    if door is None:
        return f"http://{server.get_host()}:{server.get_port()}"
    host = socket.gethostname() if door.host in ("0.0.0.0", "::") else door.host
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{door.port}/?token={door.token}"


def free_port(host: str, port: int | None, first: int = PORT) -> int:
    """`port` if it is free, or the first free one. viser itself would silently take another one,
    and would try a thousand for a host that is not this machine's."""
    for candidate in [port] if port else range(first, first + TRIES):
        error = _problem(host, candidate)
        if error is None:
            return candidate
        if error.errno == errno.EADDRINUSE and not port:
            continue
        if error.errno == errno.EADDRINUSE:
            raise _taken(candidate) from error
        if error.errno == errno.EACCES:
            raise PhalanxError(f"port {port} needs more rights; choose one above 1023") from error
        raise PhalanxError(
            f"host={host} is no address of this machine ({str(error.strerror).lower()}); leave it"
            " out for this machine only, or give 0.0.0.0 for all its addresses"
        ) from error
    raise PhalanxError(f"ports {first} to {first + TRIES - 1} are all taken; choose one with port=")


def _taken(port: int) -> PhalanxError:
    return PhalanxError(
        f"port {port} is taken; choose another with port=, or leave it out for a free one"
    )


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
