"""Sign-in through an issuer: a browser comes in and is sent there; it comes back with a code, and goes on with a session.

One secret in a cookie makes state, nonce and verifier, so any replica can receive who comes back, and nobody else's browser fits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import quote, unquote, urlsplit

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import RedirectResponse

from service.oidc import Issuer, SignInRefused
from service.people import person_of
from service.problems import ServiceError
from service.rooms import Rooms
from service.settings import OidcTerms
from service.sign_in import begin_session

PENDING: Final = "undercurrent_sign_in"
HERE: Final = "/sign-in/issuer"
BACK: Final = f"{HERE}/back"
LASTS_S: Final = 600
SECRET_CHARS: Final = 43
Page = Callable[[Request, ServiceError], Response]
"""Makes the page that tells a person why not."""


class NoIssuer(ServiceError):
    slug = "no-issuer"
    title = "This service has no other sign-in than by key"
    status = 404


def install(app: FastAPI, page: Page) -> None:
    """Add the two addresses to `app`; what is refused there is shown as `page`."""
    router = APIRouter(include_in_schema=False)

    async def leave(request: Request, rooms: Rooms, next: Annotated[str, Query(max_length=2000)] = "/") -> Response:
        """Send the browser to the issuer."""
        try:
            secret = secrets.token_urlsafe(32)
            issuer, terms = _issuer(rooms.issuer), rooms.settings.oidc
            url = await issuer.authorization_url(
                redirect_uri=_back(request, terms), state=_made(secret, "state"), nonce=_made(secret, "nonce"), challenge=_challenge(secret)
            )
        except ServiceError as error:
            return page(request, error)
        response = RedirectResponse(url, status_code=303, headers={"Cache-Control": "no-store"})
        # Lax: who comes back is sent by another site.
        response.set_cookie(
            PENDING,
            f"{secret}.{quote(own_path(next), safe='')}",
            max_age=LASTS_S,
            path=HERE,
            secure=_is_secure(request, terms),
            httponly=True,
            samesite="lax",
        )
        return response

    async def come_back(
        request: Request, rooms: Rooms, state: str = "", code: str = "", iss: str | None = None, error: str | None = None
    ) -> Response:
        """Receive the browser from the issuer."""
        try:
            issuer, terms = _issuer(rooms.issuer), rooms.settings.oidc
            secret, _, following = request.cookies.get(PENDING, "").partition(".")
            if len(secret) != SECRET_CHARS or not hmac.compare_digest(_made(secret, "state").encode(), state.encode()):
                raise SignInRefused("This browser did not begin this sign-in, or too long ago.", expected="its own `state`", got="another")
            if error is not None or not code:
                raise SignInRefused("The issuer let nobody in.", expected="a code", got=(error or "none")[:200])
            claims = await issuer.claims(
                code, redirect_uri=_back(request, terms), verifier=_made(secret, "verifier"), nonce=_made(secret, "nonce"), issuer=iss
            )
            person = person_of(claims, terms)
        except ServiceError as refusal:
            answer: Response = page(request, refusal)
        else:
            answer = RedirectResponse(own_path(unquote(following)), status_code=303, headers={"Cache-Control": "no-store"})
            await begin_session(
                answer, rooms, person.name, person.scopes, tenant=person.tenant, subject=person.subject, secure=_is_secure(request, terms)
            )
        answer.delete_cookie(PENDING, path=HERE, httponly=True, samesite="lax")
        return answer

    router.add_api_route(HERE, leave)
    router.add_api_route(BACK, come_back)
    app.include_router(router)


def own_path(wanted: str) -> str:
    """`wanted` if it is a page of this service, else the first one: nobody is sent elsewhere by a link to here."""
    # Browsers read a backslash as a slash, and leave out tabs and line ends.
    is_own = wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted and wanted.isascii() and wanted.isprintable()
    return wanted if is_own and " " not in wanted else "/"


def _issuer(issuer: Issuer | None) -> Issuer:
    if issuer is None:
        raise NoIssuer("This service has no issuer.", expected="one (UNDERCURRENT_OIDC__ISSUER)", got="none")
    return issuer


def _made(secret: str, what: str) -> str:
    """What only the holder of the secret can know, and nobody who knows it learns the secret, nor another."""
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), what.encode(), "sha256")).decode().rstrip("=")


def _challenge(secret: str) -> str:
    """RFC 7636, section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(_made(secret, "verifier").encode()).digest()).decode().rstrip("=")


def _public_url(request: Request, terms: OidcTerms) -> str:
    return (terms.public_url or str(request.base_url)).rstrip("/")


def _back(request: Request, terms: OidcTerms) -> str:
    return f"{_public_url(request, terms)}{BACK}"


def _is_secure(request: Request, terms: OidcTerms) -> bool:
    return urlsplit(_public_url(request, terms)).scheme == "https"
