"""People: the claims of an ID token come in, who that is and what for goes out, or a refusal. Asked by `oidc_sign_in.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from service.key_store import SCOPES, Scope
from service.problems import ServiceError
from service.settings import OidcTerms


class NotWelcome(ServiceError):
    slug = "not-welcome"
    title = "This service is not for whoever has signed in"
    status = 403


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever has signed in."""

    subject: str
    """What the issuer calls them; stays when names change."""
    name: str
    """For people: the e-mail where the issuer has checked it, else the subject."""
    tenant: str
    scopes: frozenset[Scope]


def person_of(claims: Mapping[str, Any], terms: OidcTerms) -> Person:
    """Who that is.

    Raises:
        NotWelcome: neither their e-mail nor their groups let them in, or their tenant is not told.
    """
    subject = str(claims["sub"])
    email = claims.get("email")
    # Otherwise anybody could write any address into their account.
    checked = (
        email if isinstance(email, str) and claims.get("email_verified") is True and email.isprintable() and len(email) <= 320 else None
    )
    domain = checked.rpartition("@")[2].lower() if checked is not None else ""
    groups = set(_words(claims.get(terms.groups_claim)))
    by_domain = "*" in terms.allowed_domains or (domain != "" and domain in {one.lower() for one in terms.allowed_domains})
    if not by_domain and not groups & set(terms.allowed_groups):
        raise NotWelcome(
            "Whoever has signed in is not let in.",
            expected="a verified e-mail of an allowed domain, or an allowed group (UNDERCURRENT_OIDC__ALLOWED_DOMAINS, __ALLOWED_GROUPS)",
            got=f"{checked or 'no verified e-mail'}, {len(groups)} group(s)",
        )
    tenant = terms.tenant if terms.tenant_claim is None else claims.get(terms.tenant_claim)
    if not isinstance(tenant, str) or not 1 <= len(tenant) <= 64 or not tenant.isprintable():
        raise NotWelcome("Whose analyses to show is not told.", expected=f"a tenant in the claim `{terms.tenant_claim}`", got="none")
    told = frozenset(_words(claims.get(terms.scopes_claim)) if terms.scopes_claim is not None else ()) & set(SCOPES)
    return Person(subject, checked or subject, tenant, cast(frozenset[Scope], told) or frozenset(terms.default_scopes))


def _words(claim: object) -> list[str]:
    """Issuers write several values as a list, or with blanks between."""
    if isinstance(claim, str):
        return claim.split()
    return [one for one in claim if isinstance(one, str)] if isinstance(claim, list) else []
