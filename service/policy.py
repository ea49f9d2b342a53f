"""The policy: a lead's text comes in, the text that reviewers decide by goes out. The router of `/v1/policy`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import AfterValidator, Field

from service.auth import Known
from service.etags import must_have_read, tagged
from service.policy_rows import Policy, PolicyChanged
from service.problems import documented
from service.review_wire import plain
from service.reviewer import Reviewing
from service.rooms import Rooms
from service.schemas import Wire


class NewPolicy(Wire):
    """What is to be in force."""

    text: Annotated[str, Field(min_length=1, max_length=20_000, pattern=r"\S"), AfterValidator(plain)] = Field(
        description="Plain text, shown as it is."
    )


class PolicyOut(Wire):
    """One version of the text that reviewers decide by."""

    version: int = Field(description="0: the text that is shipped.")
    text: str
    at: datetime | None = Field(description="Null: shipped.")
    author: str | None = Field(description="Null: shipped.")


router = APIRouter(prefix="/v1/policy", tags=["reviews"])


@router.get("", response_model=PolicyOut, responses=documented(404, 422, also={304: {"description": "Unchanged since that ETag."}}))
async def get_policy(
    rooms: Rooms,
    caller: Known,
    version: Annotated[int | None, Query(ge=0, le=2**31 - 1, description="An earlier one; else the one in force.")] = None,
    if_none_match: Annotated[str | None, Header(description="An ETag you have.")] = None,
) -> Response:
    """What reviewers decide by. Versions count up from 0, and none is ever changed."""
    return tagged(_body(await rooms.policies.get(caller.tenant, version)), "application/json", if_none_match)


@router.put("", response_model=PolicyOut, responses=documented(412, 422, 428))
async def put_policy(
    given: NewPolicy,
    rooms: Rooms,
    caller: Known,
    reviewer: Reviewing,
    if_match: Annotated[str | None, Header(description="The ETag of the one in force.")] = None,
) -> Response:
    """Put another version in force; for leads."""
    caller.check("reviews:lead")
    current = await rooms.policies.get(caller.tenant)
    must_have_read(if_match, _body(current), "/v1/policy", current.version, PolicyChanged)
    return tagged(_body(await rooms.policies.write(caller.tenant, reviewer, given.text, after=current.version)), "application/json", None)


def _body(policy: Policy) -> bytes:
    return PolicyOut.model_validate(policy, from_attributes=True).model_dump_json().encode()
