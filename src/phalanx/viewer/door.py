"""A door before a web server of this machine: who knows the token comes in.

    door = Door("0.0.0.0", 8080, inner_port)
    door.token                                # for http://<machine>:8080/?token=...
    door.close()

The first request with the token gets a cookie, and with it everything passes, WebSockets too. What
comes is only read up to the end of its first head; then bytes are passed on as they are.
"""

import asyncio
import contextlib
import hmac
import secrets
import threading
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

COOKIE = "phalanx-view"
MOST_BYTES = 32 * 1024
"""Of a head."""
SECONDS = 10.0
"""For a head to arrive."""
WORDS = "This page needs the whole address that Phalanx printed, with its token.\n"


class Door:
    """Listens on `host`:`port` and passes on to 127.0.0.1:`inner`. Raises OSError if it cannot."""

    def __init__(self, host: str, port: int, inner: int) -> None:
        self.host, self.port, self.inner = host, port, inner
        self.token = secrets.token_urlsafe(16)
        self._inside: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_forever()
            self._loop.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        server = asyncio.start_server(self._meet, host, port, limit=MOST_BYTES)
        try:  # in the thread, as this one may have a loop that runs: a notebook's
            self._server = asyncio.run_coroutine_threadsafe(server, self._loop).result(SECONDS)
        except OSError:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise

    def close(self) -> None:
        """Let nobody in any more, and see those out who are: the server behind would wait for
        them."""

        async def end() -> None:
            self._server.close()
            for writer in self._inside:
                writer.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=1.0)
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join(SECONDS)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._inside.add(writer)
        with contextlib.closing(writer):
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
                answer = self._answer(head.decode("latin-1"))
                if answer is None:
                    await self._pass_on(head, reader, writer)
                else:
                    writer.write(answer.encode())
                    await writer.drain()
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
                return
            finally:
                self._inside.discard(writer)

    def _answer(self, head: str) -> str | None:
        """What to say to a request; None for one that may pass."""
        first, *lines = head.split("\r\n")
        fields = dict(line.lower().partition(":")[::2] for line in lines)
        address = urlsplit(([*first.split(" "), "", ""])[1])
        given = parse_qs(address.query).get("token", [""])[0]
        if self._is_token(given):
            cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
            return _response("303 See Other", f"Location: /\r\nSet-Cookie: {cookie}\r\n", "")
        raw = next((x.partition(":")[2] for x in lines if x.lower().startswith("cookie:")), "")
        try:
            cookies = SimpleCookie(raw.strip())
        except CookieError:
            cookies = SimpleCookie()
        own_page = fields.get("origin", "").strip().partition("://")[2]
        foreign = own_page and own_page != fields.get("host", "").strip()
        if COOKIE in cookies and self._is_token(cookies[COOKIE].value) and not foreign:
            return None
        return _response("403 Forbidden", "", WORDS)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    async def _pass_on(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        inside, out = await asyncio.open_connection("127.0.0.1", self.inner)
        with contextlib.closing(out):
            out.write(head)
            await asyncio.gather(_copy(reader, out), _copy(inside, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


def _response(status: str, fields: str, body: str) -> str:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\n{fields}\r\n{body}"
    )
