"""A real web server: answers by path come in, a server of the tests' own on loopback goes out, which counts what it was asked."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from standardwebhooks import Webhook

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Post:
    """What somebody sent."""

    path: str
    headers: dict[str, str]
    body: bytes

    def signed_by(self, secret: str) -> bool:
        """Whether a webhook's signature is right, however old it is: the clock of a test may be days away, or the look at it late."""
        stamp = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        signature = Webhook(secret).sign(self.headers["webhook-id"], stamp, self.body.decode())
        return signature in self.headers["webhook-signature"].split()


@dataclass
class Web:
    """A running server."""

    port: int
    scheme: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of each GET."""
    posted: list[Post] = field(default_factory=list)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """The URL of a path here."""
        return f"{self.scheme}://{host}:{self.port}{path}"

    def give(self, path: str, body: bytes, *, status: int = 200, **headers: str) -> str:
        """Answer `path` with `body`; returns its URL. Underscores of header names stand for hyphens."""

        def answer(asked: BaseHTTPRequestHandler) -> None:
            asked.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                asked.send_header(name.replace("_", "-"), value)
            asked.end_headers()
            asked.wfile.write(body)

        self.answers[path] = answer
        return self.url(path)


@contextmanager
def web_server(certificate: Path | None = None) -> Iterator[Web]:
    """A server of one's own; with a PEM file of key and certificate it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            web.asked.append((self.path, dict(self.headers)))
            self._answer()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            web.posted.append(Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self._answer()

        def _answer(self) -> None:
            self.close_connection = True
            with suppress(ConnectionError):
                if (answer := web.answers.get(self.path)) is not None:
                    answer(self)
                else:
                    self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no error of the test."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        web = Web(server.server_address[1], "http" if certificate is None else "https")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="web", daemon=True)
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
