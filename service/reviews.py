"""Reviews of one analysis: a reviewer opens it, decides or skips it, and sees what was said. The router of `/v1/analyses/{id}/reviews`.

A decision needs a lock. The first of two decisions is shown to nobody but its author before the second is in, whatever the scope.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Query, Response

from service.analyses import shown
from service.auth import Known, NotPermitted
from service.problems import documented
from service.review_queue import Queued
from service.review_rows import Said, Shown
from service.review_wire import LockOut, NewReview, NewSkip, ReviewOut, ReviewsOut, item_out, lock_out, review_out
from service.reviewer import Reviewer, Reviewing
from service.rooms import Judged, Rooms, ServiceRooms

router = APIRouter(prefix="/v1/analyses/{analysis_id}", tags=["reviews"])


@router.get("/reviews", responses=documented(404, 409, 422))
async def list_reviews(row: Judged, rooms: Rooms, reviewer: Reviewing) -> ReviewsOut:
    """What was said of an analysis, and where it stands; while a second reviewer is awaited, only its author sees the first decision."""
    item, reviews = await rooms.reviews.get(row)
    seen = [review for review in reviews if not item.seals(review, reviewer.id)]
    return ReviewsOut(
        item=item_out(Queued(row, item, ()), await shown(row, rooms, with_result=False), reviewer),
        sealed=len(reviews) - len(seen),
        reviews=[review_out(review, reviewer) for review in seen],
    )


@router.post(
    "/reviews", status_code=201, responses=documented(404, 409, 422, 503, also={200: {"model": ReviewOut, "description": "Said before."}})
)
async def create_review(given: NewReview, row: Judged, rooms: Rooms, reviewer: Reviewing, response: Response) -> ReviewOut:
    """Decide what you have locked. The same once more is no second decision; another corrects yours, until somebody else has decided."""
    said = Said(given.decision, given.reason, given.note)
    second = not reviewer.alone and wants_second(row.id, rooms.settings.reviews.second_share)
    return await _say(said, row, rooms, reviewer, response, second=second)


@router.post(
    "/reviews/skip",
    status_code=201,
    responses=documented(404, 409, 422, 503, also={200: {"model": ReviewOut, "description": "Said before."}}),
)
async def skip_review(given: NewSkip, row: Judged, rooms: Rooms, reviewer: Reviewing, response: Response) -> ReviewOut:
    """Leave what you have locked to others: it goes to the end of the queue, and you are not given it again."""
    return await _say(Said(None, given.reason, given.note), row, rooms, reviewer, response, second=False)


@router.post("/review-lock", responses=documented(403, 404, 409, 422))
async def lock_review(
    row: Judged,
    rooms: Rooms,
    reviewer: Reviewing,
    caller: Known,
    take_over: Annotated[bool, Query(description="Though somebody else has it open; for leads.")] = False,
) -> LockOut:
    """Open an analysis, so that nobody else decides it meanwhile; ask again every minute to keep it open."""
    if take_over and not reviewer.lead:
        raise NotPermitted("Only a lead takes over.", expected="reviews:lead", got=" ".join(sorted(caller.scopes)))
    lock = lock_out(await rooms.reviews.lock(row, reviewer, take_over=take_over), reviewer)
    assert lock is not None
    return lock


@router.delete("/review-lock", status_code=204, responses=documented(404, 409, 422))
async def unlock_review(row: Judged, rooms: Rooms, reviewer: Reviewing) -> None:
    """Close it without a word. What is not open for you stays as it is."""
    await rooms.reviews.give_back(row, reviewer)


def wants_second(analysis_id: str, share: float) -> bool:
    """Whether an analysis is of the share that two reviewers decide: the same at each look, and nothing that its result or a reviewer
    could sway."""
    return int.from_bytes(hashlib.sha256(analysis_id.encode()).digest()[:8], "big") < share * 2**64


async def _say(said: Said, row: Judged, rooms: ServiceRooms, reviewer: Reviewer, response: Response, *, second: bool) -> ReviewOut:
    result = await rooms.storage.read_result(row.id)
    (model, *_) = result.models
    there = Shown(model.calibration_id, model.weights_sha256)
    review, new = await rooms.reviews.say(row, reviewer, said, there, second=second)
    response.status_code = 201 if new else 200
    return review_out(review, reviewer)
