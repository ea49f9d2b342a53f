"""Seats of live streams: Engines and the operator's terms come in, a LiveStream with a seat goes out, or word that there is no room.

Asked by `streams.py` for clients and by `feed_watch.py` for cameras, which share the seats.
"""

from __future__ import annotations

from typing import Final

from pipelines.engine import Engines
from pipelines.errors import Overloaded
from pipelines.live import LiveStream
from service.settings import StreamTerms

RETRY_S: Final = 5.0


def take_seat(engines: Engines, terms: StreamTerms, *, patient: bool = False, native_hz: float | None = None) -> LiveStream:
    """A seat; see LiveStream for its manners.

    Raises:
        Overloaded: there is none; it says when to ask again.
    """
    check_seats(engines, terms)
    return LiveStream(engines, patient=patient, native_hz=native_hz)


def check_seats(engines: Engines, terms: StreamTerms) -> None:
    """Whether the operator's terms leave one. That the load does is known by who takes it: asking would use a newcomer's turn up.

    Raises:
        Overloaded: they do not.
    """
    if engines.seated >= terms.max_streams:
        most = f"at most {terms.max_streams} (UNDERCURRENT_STREAMS__MAX_STREAMS)"
        raise Overloaded("There are as many streams as there may be.", expected=most, got="one more", retry_after_s=RETRY_S)
