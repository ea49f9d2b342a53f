"""Whether a key still holds while somebody is connected with it: the store is asked now and then, and the end of the key goes out.

Asked by `analyses.py` and `feeds.py` for server-sent events, and by `streams.py` for WebSockets; all else is answered
before its key matters again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Final, NoReturn

import structlog
from fastapi.sse import ServerSentEvent

from service.auth import Unauthenticated, key_ended
from service.key_store import KeyStore
from service.outages import AWAY
from service.problems import problem_of

CHECK_S: Final = 15.0
"""For so long a connection may outlive its key."""

log = structlog.get_logger()


async def key_end(keys: KeyStore, key_id: str | None) -> NoReturn:
    """Wait until a key or session has ended; None, which is nobody's, never does. A database that is away ends nothing.

    Raises:
        Unauthenticated: it has.
    """
    while key_id is None:
        await asyncio.Event().wait()
    while True:
        await asyncio.sleep(CHECK_S)
        with suppress(*AWAY):
            if (why_not := await keys.why_not(key_id)) is not None:
                log.info("key_ended", key=key_id, got=why_not)
                raise key_ended(why_not)


async def until_key_ends(events: AsyncGenerator[ServerSentEvent], keys: KeyStore, key_id: str | None) -> AsyncGenerator[ServerSentEvent]:
    """The same events; when the key ends before them, an `error` with the problem is the last. Closes `events`."""
    ended = asyncio.create_task(key_end(keys, key_id))
    step: asyncio.Future[ServerSentEvent | None] | None = None
    try:
        while True:
            step = asyncio.ensure_future(anext(events, None))
            await asyncio.wait({ended, step}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await ended
            if (event := await step) is None:
                return
            yield event
    except Unauthenticated as error:
        # Without a number: whoever comes back with a valid key goes on after the last event that had one.
        yield ServerSentEvent(event="error", raw_data=problem_of(error).model_dump_json(exclude_none=True))
    finally:
        ended.cancel()
        if step is not None and not step.done():
            # What is thrown into the generator ends it. Not waited for: a request whose client left may wait for nothing more.
            step.cancel()
        else:
            await events.aclose()
