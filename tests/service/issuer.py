"""A small issuer of OpenID Connect over HTTP, for tests: it lets its one person in, signs real tokens, and misbehaves when told to."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "undercurrent", "s3cret:/ with % and \u00e9"


@dataclass
class FakeIssuer:
    """What it is, and what it does. The callables may be exchanged."""

    url: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    person: dict[str, Any] = field(default_factory=lambda: {"sub": "248289761001", "email": "ann@example.org", "email_verified": True})
    sign: Callable[[FakeIssuer, dict[str, Any]], str] = lambda self, claims: jwt.encode(
        {"alg": "RS256", "kid": self.key.kid}, claims, self.key
    )
    claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    back: Callable[[dict[str, str]], dict[str, str]] = lambda query: query
    answer: Callable[[str], tuple[int, bytes] | None] = lambda path: None
    """Instead of what it would answer, if it is not None."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "authorization_response_iss_parameter_supported": True,
        }

    def keys(self) -> dict[str, Any]:
        shared = {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")}
        return {"keys": [self.key.as_dict(private=False), shared]}

    def authorize(self, query: dict[str, str]) -> str:
        assert query["response_type"] == "code" and query["client_id"] == CLIENT and query["code_challenge_method"] == "S256"
        assert {"openid", "email"} <= set(query["scope"].split())
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode(self.back({'code': code, 'state': query['state'], 'iss': self.url}))}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        if (unquote_plus(name), unquote_plus(secret)) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        asked = self.codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.person}
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": self.sign(self, self.claims(claims))}


@contextmanager
def issuer() -> Iterator[FakeIssuer]:
    """One that runs on a free port of loopback."""
    it = FakeIssuer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _answer(self, form: dict[str, str]) -> None:
            parts = urlsplit(self.path)
            it.asked.append(parts.path)
            if (instead := it.answer(parts.path)) is not None:
                self._send(*instead, Location="http://127.0.0.1:9/elsewhere")
            elif parts.path == "/authorize":
                self._send(302, b"", Location=it.authorize(dict(parse_qsl(parts.query))))
            elif parts.path == "/token":
                status, said = it.token(form, self.headers["Authorization"])
                self._send(status, json.dumps(said).encode())
            else:
                self._send(200, json.dumps(it.keys() if parts.path == "/keys" else it.configuration()).encode())

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._answer({name: values[0] for name, values in parse_qs(body).items()})

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        it.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield it
        finally:
            server.shutdown()
            thread.join()
