"""Sign-in through an issuer: whoever it lets in and we allow has a session; nothing forged, stale, swapped or sent elsewhere gives one."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from pydantic import SecretStr

from service.oidc import Issuer, IssuerUnavailable
from service.oidc_sign_in import own_path
from service.people import NotWelcome, person_of
from service.settings import OidcTerms, Settings, SettingsError, read_settings
from tests.service.conftest import Serve, assert_problem
from tests.service.issuer import CLIENT, SECRET, FakeIssuer, issuer
from tests.service.test_keys import bearer, made

House = tuple[httpx.Client, FakeIssuer, Settings]


@pytest.fixture(scope="module")
def shared(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with issuer() as it:
        terms = OidcTerms(
            issuer=it.url,
            client_id=CLIENT,
            client_secret=SecretStr(SECRET),
            name="Example & Sons",
            allowed_domains=("example.org",),
            allowed_groups=("newsroom",),
            tenant_claim="org",
            scopes_claim="roles",
        )
        data_dir = tmp_path_factory.mktemp("oidc") / "data"
        settings = Settings(data_dir=data_dir, min_free_bytes=0, hz=4.0, device="cpu", require_keys=True, oidc=terms)
        with serve(settings) as client:
            yield client, it, settings


@pytest.fixture
def house(shared: House) -> House:
    """The same service and issuer, which has forgotten what it was told to do, and a browser that knows nobody."""
    client, it, _ = shared
    defaults = FakeIssuer(url=it.url, key=it.key)
    for name in ("sign", "claims", "back", "answer", "person"):
        setattr(it, name, getattr(defaults, name))
    it.person["org"] = "films"
    client.cookies.clear()
    return shared


def leave(client: httpx.Client, next: str = "/") -> str:
    """To the issuer's page and away from it; the address that it sends the browser back to."""
    away = client.get("/sign-in/issuer", params={"next": next})
    assert away.status_code == 303, away.text
    back = httpx.get(away.headers["Location"], timeout=60)
    assert back.status_code == 302
    return str(back.headers["Location"])


def test_somebody_signs_in_and_is_named(house: House) -> None:
    client, it, settings = house
    it.person["roles"] = "reviews admin something-else"
    assert "Sign in with Example &amp; Sons" in client.get("/sign-in").text
    answer = client.get(leave(client, next="/analyses/x?tab=1"))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/analyses/x?tab=1")
    cookies = answer.headers.get_list("Set-Cookie")
    (cookie,) = (one for one in cookies if one.startswith("undercurrent_session="))
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert list(client.cookies) == ["undercurrent_session"], "what was for the way is gone"
    me = client.get("/v1/me").json()
    assert (me["name"], me["tenant"], me["scopes"]) == ("ann@example.org", "films", ["admin", "reviews"])
    own = {"Origin": str(client.base_url).rstrip("/")}
    key = client.post("/v1/keys", json={"name": "hers", "scopes": ["feeds"]}, headers=own).json()
    assert key["expires_at"] is None
    told = [(item["action"], item["subject"], item["name"]) for item in client.get("/v1/audit").json()["items"]]
    assert told == [("key.created", key["id"], "ann@example.org"), ("session.created", me["key_id"], "ann@example.org")]
    held = client.cookies["undercurrent_session"]
    assert client.delete("/v1/session", headers=own).status_code == 204
    assert assert_problem(client.get("/v1/me", headers=bearer(held)), 401, "unauthenticated")["got"] == "a key that was revoked"
    # Sign-in by key goes on beside it.
    assert client.post("/v1/session", json={"key": made(settings, "feeds")}, headers=own).status_code == 201


def test_who_signs_in_gets_the_least_unless_told(house: House) -> None:
    client, it, _ = house
    it.person = {"sub": "7", "groups": ["newsroom"], "org": "films", "email": "eve@evil.example", "email_verified": True}
    assert client.get(leave(client)).status_code == 303
    assert client.get("/v1/me").json()["scopes"] == ["analyses:read"]


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def unsigned(_: FakeIssuer, claims: dict[str, Any]) -> str:
    return f"{encoded({'alg': 'none'})}.{encoded(claims)}."


def signed_with_the_public_key(it: FakeIssuer, claims: dict[str, Any]) -> str:
    # By hand: joserfc makes no key of what it sees to be another's.
    signed = f"{encoded({'alg': 'HS256', 'kid': it.key.kid})}.{encoded(claims)}"
    mac = hmac.digest(it.key.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def signed_with_a_published_secret(_: FakeIssuer, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "HS256", "kid": "shared"}, claims, OctKey.import_key(b"k" * 32), algorithms=["HS256"])


def signed_by_another(it: FakeIssuer, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": it.key.kid}, claims, RSAKey.generate_key(2048))


def cut(it: FakeIssuer, claims: dict[str, Any]) -> str:
    return jwt.encode({"alg": "RS256", "kid": it.key.kid}, claims, it.key)[:-4]


@pytest.mark.parametrize("sign", [unsigned, signed_with_the_public_key, signed_with_a_published_secret, signed_by_another, cut])
def test_a_forged_token_lets_nobody_in(house: House, sign: Callable[[FakeIssuer, dict[str, Any]], str]) -> None:
    client, it, _ = house
    it.sign = sign
    assert_problem(client.get(leave(client)), 401, "sign-in-refused")
    assert "undercurrent_session" not in client.cookies


DAY_S = 86_400.0
"""From when tests are collected, which may be an hour before they run."""


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"iss": "http://evil.example"},
        {"exp": time.time() - DAY_S},
        {"exp": None},
        {"iat": time.time() + DAY_S},
        {"nbf": time.time() + DAY_S},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": 7},
        {"exp": "tomorrow"},
    ],
    # Not the times themselves: every process that runs tests must find the same ones.
    ids="-".join,
)
def test_a_token_for_something_else_lets_nobody_in(house: House, wrong: dict[str, Any]) -> None:
    client, it, _ = house
    it.claims = lambda claims: {name: value for name, value in {**claims, **wrong}.items() if value is not None}
    assert_problem(client.get(leave(client)), 401, "sign-in-refused")
    assert "undercurrent_session" not in client.cookies


@pytest.mark.parametrize(
    "wrong", [{"state": "x"}, {"state": ""}, {"state": "\u00e9"}, {"code": "guessed"}, {"code": ""}, {"iss": "http://evil.example"}]
)
def test_a_way_back_that_is_not_ours_lets_nobody_in(house: House, wrong: dict[str, str]) -> None:
    client, it, _ = house
    it.back = lambda query: {**query, **wrong}
    assert_problem(client.get(leave(client)), 401, "sign-in-refused")
    it.back = lambda query: {name: value for name, value in query.items() if name not in wrong}
    assert_problem(client.get(leave(client)), 401, "sign-in-refused")
    it.back = lambda query: {"error": "access_denied", "state": query["state"]}
    assert assert_problem(client.get(leave(client)), 401, "sign-in-refused")["got"] == "access_denied"
    assert "undercurrent_session" not in client.cookies


def test_another_browser_and_a_second_time_do_not_fit(house: House) -> None:
    client, _, _ = house
    back = leave(client)
    with httpx.Client(base_url=client.base_url, timeout=60) as other:
        assert_problem(other.get(back), 401, "sign-in-refused")
        leave(other)
        assert_problem(other.get(back), 401, "sign-in-refused")
    kept = client.cookies["undercurrent_sign_in"]
    assert client.get(back).status_code == 303
    assert_problem(client.get(back), 401, "sign-in-refused")
    # Even with what the browser has forgotten: the code was used.
    again = client.get(back, headers={"Cookie": f"undercurrent_sign_in={kept}"})
    assert assert_problem(again, 401, "sign-in-refused")["got"] == "invalid_grant"


@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil",
        "javascript:alert(1)",
        "/\t/evil.example",
        "evil",
        "",
        "/a\r\nSet-Cookie: x=y",
    ],
)
def test_nobody_is_sent_elsewhere(house: House, wanted: str) -> None:
    client, _, _ = house
    answer = client.get(leave(client, next=wanted))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    # Nor by a cookie that somebody has changed on its way.
    assert own_path(wanted) == "/"


@pytest.mark.parametrize(
    "broken", [(500, b"oops"), (302, b""), (200, b"not json"), (200, b"[]"), (200, b"{}"), (200, b"x" * (1024**2 + 1))]
)
def test_an_issuer_that_fails_is_a_page_that_says_so(house: House, broken: tuple[int, bytes]) -> None:
    client, it, _ = house
    back = leave(client)
    it.answer = lambda path: broken
    refused = client.get(back, headers={"Accept": "text/html,*/*"})
    assert refused.status_code == 502 and refused.headers["Content-Type"].startswith("text/html")
    assert "does not answer as it should" in refused.text and refused.headers["X-Request-ID"] in refused.text
    assert "undercurrent_session" not in client.cookies


def test_what_an_issuer_says_is_text(house: House) -> None:
    client, it, _ = house
    it.back = lambda query: {"error": "<script>alert(1)</script>", "state": query["state"]}
    refused = client.get(leave(client), headers={"Accept": "text/html"})
    assert refused.status_code == 401 and "&lt;script&gt;alert(1)" in refused.text and "<script>alert" not in refused.text
    it.back = lambda query: query
    back = leave(client)
    it.answer = lambda path: (400, b'{"error": "<script>alert(1)</script>"}')
    assert assert_problem(client.get(back), 401, "sign-in-refused")["got"] == "status 400"


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/keys", ""])
async def test_an_issuer_that_is_away_or_another_is_told(house: House, path: str) -> None:
    _, it, settings = house
    asked = Issuer(settings.oidc if path else replace(settings.oidc, issuer="http://127.0.0.1:9"))
    ways = {"redirect_uri": "http://x/", "state": "s", "nonce": "n", "challenge": "c"}
    for broken in ((302, b""), (200, b'{"issuer": "http://evil.example", "keys": []}'), (200, b'{"keys": [7]}')):
        it.answer = lambda at, broken=broken: broken if at == path else None  # type: ignore[misc]
        with pytest.raises(IssuerUnavailable):
            await asked.authorization_url(**ways)
    if path:
        it.answer = lambda at: None
        assert (await asked.authorization_url(**ways)).startswith(f"{it.url}/authorize?")


def test_new_keys_of_the_issuer_are_asked_for_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    client, it, _ = house
    assert client.get(leave(client)).status_code == 303
    old = it.key
    try:
        it.key = RSAKey.generate_key(2048, {"kid": "two"})
        monkeypatch.setattr("service.oidc.AGAIN_S", 3600.0)
        assert_problem(client.get(leave(client)), 401, "sign-in-refused")
        monkeypatch.setattr("service.oidc.AGAIN_S", 0.0)
        assert client.get(leave(client)).status_code == 303
        asked = it.asked.count("/keys")
        assert client.get(leave(client)).status_code == 303
        assert it.asked.count("/keys") == asked
    finally:
        it.key = old
        assert client.get(leave(client)).status_code == 303


TERMS = OidcTerms(issuer="https://id.example.org", client_id="u", allowed_domains=("example.org",), allowed_groups=("staff",))


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"email": "ann@example.org"},
        {"email": "ann@example.org", "email_verified": "true"},
        {"email": "ann@example.org.evil.example", "email_verified": True},
        {"email": "ann@notexample.org", "email_verified": True},
        {"email": "example.org", "email_verified": False},
        {"email": ["ann@example.org"], "email_verified": True},
        {"groups": ["staffed"]},
        {"groups": {"staff": True}},
        {"groups": [["staff"]]},
    ],
    ids=str,
)
def test_who_is_not_allowed_is_told(claims: dict[str, Any]) -> None:
    with pytest.raises(NotWelcome):
        person_of({"sub": "1", **claims}, TERMS)


def test_who_is_allowed_is_somebody() -> None:
    ann = person_of({"sub": "1", "email": "ann@Example.ORG", "email_verified": True}, TERMS)
    assert (ann.name, ann.tenant, sorted(ann.scopes)) == ("ann@Example.ORG", "default", ["analyses:read"])
    assert person_of({"sub": "1", "groups": "staff others"}, TERMS).name == "1"
    assert person_of({"sub": "1"}, replace(TERMS, allowed_domains=("*",))).subject == "1"
    several = replace(TERMS, tenant_claim="org", allowed_domains=("*",))
    for wrong in ({}, {"org": ""}, {"org": ["a"]}, {"org": "x" * 65}, {"org": "a\0"}):
        with pytest.raises(NotWelcome, match="tenant"):
            person_of({"sub": "1", **wrong}, several)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ISSUER": "http://id.example.org", "CLIENT_ID": "u"}, "this machine alone"),
        ({"ISSUER": "https://id.example.org"}, "CLIENT_ID"),
        ({"ISSUER": "https://id.example.org", "CLIENT_ID": "u"}, "ALLOWED_DOMAINS"),
        ({"DEFAULT_SCOPES": '["root"]'}, "DEFAULT_SCOPES"),
    ],
)
def test_settings_that_let_in_nobody_or_anybody_are_refused(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str) -> None:
    monkeypatch.setenv("UNDERCURRENT_OIDC__CLIENT_SECRET", "never-shown")
    for name, value in given.items():
        monkeypatch.setenv(f"UNDERCURRENT_OIDC__{name}", value)
    with pytest.raises(SettingsError, match=said) as caught:
        read_settings()
    assert "never-shown" not in str(caught.value)


def test_the_browser_is_sent_back_to_where_it_reaches_us(house: House) -> None:
    client, _, _ = house
    away = parse_qs(urlsplit(client.get("/sign-in/issuer").headers["Location"]).query)
    assert away["redirect_uri"] == [f"{str(client.base_url).rstrip('/')}/sign-in/issuer/back"]
    assert away["client_id"] == [CLIENT] and SECRET not in str(away)
