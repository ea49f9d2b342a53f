"""An alert as the wire shows it: its row comes in, AlertOut goes out. Asked by `alerts.py`, `alert_notes.py` and `webhook_events.py`."""

from __future__ import annotations

from fractions import Fraction

from service.feed_rows import AlertRow
from service.feed_wire import AlertOut, AlertPeak, ClipOut
from service.schemas import moment


def alert_out(row: AlertRow) -> AlertOut:
    """An alert as the wire shows it."""
    base = Fraction(row.base_numerator, row.base_denominator)
    there = {"still": row.still_bytes, "clip": row.clip_bytes}
    clip = None
    if row.clip_bytes and row.clip_first_pts is not None and row.clip_last_pts is not None:
        clip = ClipOut(first=moment(row.clip_first_pts, base), last=moment(row.clip_last_pts, base), bytes=row.clip_bytes)
    path = f"/v1/feeds/{row.feed_id}/alerts/{row.n}"
    return AlertOut(
        feed_id=row.feed_id,
        n=row.n or None,
        state="open" if row.cause is None else "ended",
        session_id=row.session_id,
        track=row.track,
        began=moment(row.began_pts, base),
        last=moment(row.last_pts, base),
        seconds=float((row.last_pts - row.began_pts) * base),
        peak=AlertPeak(at=moment(row.peak_pts, base), p=row.peak),
        longest_s=row.longest_s,
        cause=row.cause,
        told_at=row.told_at,
        ended_at=row.ended_at,
        clip=clip,
        links={"self": path, **{name: f"{path}/{name}" for name, octets in there.items() if octets}} if row.n else {},
    )
