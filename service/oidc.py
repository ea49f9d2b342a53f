"""An issuer of OpenID Connect: a code that a browser brought comes in, the claims of its ID token go out. Asked by `oidc_sign_in.py`.

The issuer is the operator's setting (`UNDERCURRENT_OIDC__ISSUER`) and what it says of itself is asked of it (Discovery 1.0); only its own
answers are read, redirects are not followed, and what is not as the specification has it is a refusal. joserfc has the cryptography.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from service.problems import ServiceError
from service.settings import MIB, OidcTerms

Claims = dict[str, Any]
REFUSALS: Final = ("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope")
"""What a token endpoint may call its error (RFC 6749, section 5.2)."""
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Of keys that have two halves: with any other, whoever knows the public half could sign."""
TIMEOUT_S: Final = 10.0
KNOWN_S: Final = 3600.0
"""How long what an issuer said of itself is believed."""
AGAIN_S: Final = 30.0
"""No sooner is it asked again because of a key that it did not name."""
LEEWAY_S: Final = 60
"""What two clocks may differ."""


class IssuerUnavailable(ServiceError):
    slug = "issuer-unavailable"
    title = "The sign-in service does not answer as it should"
    status = 502


class SignInRefused(ServiceError):
    slug = "sign-in-refused"
    title = "The sign-in did not succeed"
    status = 401


@dataclass(frozen=True, slots=True)
class Known:
    """What an issuer says of itself, and its keys."""

    authorization_endpoint: str
    token_endpoint: str
    posts_secret: bool
    """The secret goes into the body: it takes no other way."""
    names_itself: bool
    """It names itself in the browser's way back (RFC 9207)."""
    keys: KeySet
    at: float


class Issuer:
    """The issuer of the settings. Used on the event loop."""

    def __init__(self, terms: OidcTerms) -> None:
        self._terms = terms
        self._issuer = terms.issuer or ""
        self._known: Known | None = None
        self._asking = asyncio.Lock()

    async def authorization_url(self, *, redirect_uri: str, state: str, nonce: str, challenge: str) -> str:
        """Where a browser is sent so that somebody signs in.

        Raises:
            IssuerUnavailable: nobody knows now.
        """
        endpoint = (await self._ask()).authorization_endpoint
        asked = {
            "response_type": "code",
            "client_id": self._terms.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(("openid", "email", *self._terms.extra_scopes)),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(asked)}"

    async def claims(self, code: str, *, redirect_uri: str, verifier: str, nonce: str, issuer: str | None) -> Claims:
        """Who it was that signed in.

        Args:
            code: what the browser brought, good for once.
            redirect_uri: as it was when the browser was sent away.
            verifier: what the challenge was made of.
            nonce: what the ID token must name.
            issuer: whom the browser says that it comes from (RFC 9207), if it does.

        Raises:
            SignInRefused: the code or its token is not good.
            IssuerUnavailable: it cannot be known now.
        """
        known = await self._ask()
        if issuer != self._issuer and (issuer is not None or known.names_itself):
            raise SignInRefused("The browser comes from another issuer.", expected=self._issuer, got=(issuer or "none")[:200])
        token = await self._redeemed(known, code, redirect_uri, verifier)
        try:
            claims = await self._decoded(known, token)
            options = {name: {"essential": True} for name in ("sub", "exp", "iat")}
            registry = jwt.JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._terms.client_id},
                nonce={"essential": True, "value": nonce},
                **options,  # type: ignore[arg-type]
            )
            registry.validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise SignInRefused(
                "The issuer's token cannot be believed.", expected="a token of this issuer for this sign-in", got=_said(error)
            ) from error
        _check_rest(claims, self._terms.client_id)
        return claims

    async def _decoded(self, known: Known, token: str) -> Claims:
        try:
            return jwt.decode(token, known.keys, algorithms=ALGORITHMS).claims
        except InvalidKeyIdError:
            # It may have got new keys since it was asked.
            if time.monotonic() - known.at < AGAIN_S:
                raise
            return jwt.decode(token, (await self._ask(since=known.at)).keys, algorithms=ALGORITHMS).claims

    async def _redeemed(self, known: Known, code: str, redirect_uri: str, verifier: str) -> str:
        """The ID token for a code."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
        secret, auth = self._terms.client_secret, None
        if secret is None or known.posts_secret:
            form["client_id"] = self._terms.client_id
        if secret is not None and known.posts_secret:
            form["client_secret"] = secret.get_secret_value()
        elif secret is not None:
            # RFC 6749, section 2.3.1: both are encoded as a form would.
            auth = httpx.BasicAuth(quote_plus(self._terms.client_id), quote_plus(secret.get_secret_value()))
        status, body = await _fetched("POST", known.token_endpoint, form, auth)
        if status in (400, 401, 403):
            # It was told our secret and the code, and may repeat them.
            got = error if (error := body.get("error")) in REFUSALS else f"status {status}"
            raise SignInRefused("The issuer refuses the code.", expected="a code that was not used yet", got=got)
        token = body.get("id_token")
        if status != 200 or not isinstance(token, str):
            raise _unavailable(known.token_endpoint, "an ID token", f"status {status}")
        return token

    async def _ask(self, since: float | None = None) -> Known:
        """What the issuer says of itself; as of later than `since`."""
        async with self._asking:
            known, now = self._known, time.monotonic()
            if known is None or now - known.at > KNOWN_S or known.at == since:
                self._known = known = await self._asked(now)
            return known

    async def _asked(self, now: float) -> Known:
        at = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        status, said = await _fetched("GET", at)
        if status != 200 or said.get("issuer") != self._issuer:
            raise _unavailable(at, f"the configuration of {self._issuer}", f"status {status}, issuer {str(said.get('issuer'))[:200]}")
        authorization, token, keys_at = [_endpoint(said, name, at) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        status, jwks = await _fetched("GET", keys_at)
        try:
            # A key of one half is no key of an issuer, whatever it says.
            keys = KeySet.import_key_set({"keys": [key for key in jwks["keys"] if key.get("kty") != "oct"]})
        except (JoseError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unavailable(keys_at, "public keys", f"status {status}, {_said(error)}") from error
        methods = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        posts = "client_secret_basic" not in methods
        return Known(authorization, token, posts, said.get("authorization_response_iss_parameter_supported") is True, keys, now)


def _check_rest(claims: Claims, client_id: str) -> None:
    """OpenID Connect Core 1.0, section 3.1.3.7, as far as joserfc leaves it to us."""
    audience, party, subject = claims["aud"], claims.get("azp"), claims["sub"]
    if ((isinstance(audience, list) and len(audience) > 1) or party is not None) and party != client_id:
        raise SignInRefused("The token is for another party.", expected=client_id, got=str(party)[:200])
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or not subject.isprintable():
        raise SignInRefused("The token names nobody.", expected="a `sub` of 1 to 255 characters", got=type(subject).__name__)


def _endpoint(said: Claims, name: str, at: str) -> str:
    url = said.get(name)
    # Where the issuer is trusted over TLS, what it names is too.
    schemes = {"https", urlsplit(at).scheme}
    if not isinstance(url, str) or urlsplit(url).scheme not in schemes or not urlsplit(url).hostname:
        raise _unavailable(at, f"a `{name}`", str(url)[:200])
    return url


async def _fetched(method: str, url: str, form: dict[str, str] | None = None, auth: httpx.BasicAuth | None = None) -> tuple[int, Claims]:
    """An answer that is a JSON object, or an empty one where it is none."""
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx.AsyncClient(timeout=TIMEOUT_S, headers={"Accept": "application/json"}) as client,
            client.stream(method, url, data=form, auth=auth) as answer,
        ):
            body = bytearray()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > MIB:
                    raise _unavailable(url, f"at most {MIB:,} bytes", "more")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise _unavailable(url, "an answer", type(error).__name__) from error
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    return answer.status_code, said if isinstance(said, dict) else {}


def _unavailable(url: str, expected: str, got: str) -> IssuerUnavailable:
    return IssuerUnavailable(f"The issuer cannot be used: {url}.", expected=expected, got=got)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
