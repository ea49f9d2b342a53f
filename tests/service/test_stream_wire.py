"""The words of a live stream: what fits together is read, what does not is refused with a reason, and every header comes back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines import errors
from service.close_codes import RETRYABLE, CloseCode, close_code
from service.media_header import FARTHEST_US, NO_PTS, BadMedia, MediaFlag, MediaHeader, MediaKind
from service.stream_wire import Start, client_message

headers = st.builds(
    MediaHeader,
    kind=st.sampled_from(MediaKind),
    seq=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 7).map(MediaFlag),
    pts_us=st.none() | st.integers(-FARTHEST_US, FARTHEST_US),
    capture_epoch_us=st.none() | st.integers(1, 2**62),
)


@given(headers, st.binary(min_size=1, max_size=99))
def test_a_header_comes_back_as_it_was(header: MediaHeader, payload: bytes) -> None:
    assert len(header.packed()) == 24
    parsed, rest = MediaHeader.parsed(header.packed() + payload)
    assert (parsed, bytes(rest)) == (header, payload)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_by_type(message: bytes) -> None:
    try:
        header, payload = MediaHeader.parsed(message)
    except BadMedia as refusal:
        assert refusal.expected and refusal.got
    else:
        assert len(payload) == len(message) - 24
        assert header.pts_us is None or abs(header.pts_us) <= FARTHEST_US


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((2, 1, 0, 0, 0, 0), "another version"),
        ((1, 9, 0, 0, 0, 0), "unknown kind"),
        ((1, 1, 8, 0, 0, 0), "unknown flags"),
        ((1, 2, 0, 0, FARTHEST_US + 1, 0), "too far away"),
        ((1, 2, 0, 0, NO_PTS + 1, 0), "too far away"),
    ],
)
def test_each_fault_of_a_header_is_named(fields: tuple[int, ...], reason: str) -> None:
    with pytest.raises(BadMedia, match=reason):
        MediaHeader.parsed(MediaHeader.FORM.pack(*fields) + b"x")


def test_a_message_without_payload_is_only_the_last() -> None:
    with pytest.raises(BadMedia, match="no header"):
        MediaHeader.parsed(b"\x01" * 23)
    with pytest.raises(BadMedia, match="empty"):
        MediaHeader.parsed(MediaHeader(MediaKind.CHUNK, 0).packed())
    last, payload = MediaHeader.parsed(MediaHeader(MediaKind.CHUNK, 7, MediaFlag.LAST).packed())
    assert last.flags == MediaFlag.LAST and not payload


@pytest.mark.parametrize(
    "start",
    [
        {"mode": "container"},
        {"mode": "container", "pace": "live"},
        {"mode": "frames", "codec": "jpeg", "pace": "every"},
        {"mode": "pull", "url": "rtsp://camera/1"},
        {"resume": {"session_id": "a", "token": "b", "last_event_seq": 3}},
    ],
)
def test_what_fits_together_starts(start: dict[str, Any]) -> None:
    assert isinstance(client_message.validate_json(json.dumps({"type": "start", **start})), Start)


@pytest.mark.parametrize(
    "start",
    [
        {},
        {"mode": "film"},
        {"mode": "container", "url": "rtsp://camera/1"},
        {"mode": "container", "codec": "jpeg"},
        {"mode": "frames"},
        {"mode": "frames", "codec": "png"},
        {"mode": "pull"},
        {"mode": "pull", "url": "rtsp://camera/1", "pace": "every"},
        {"mode": "container", "resume": {"session_id": "a", "token": "b", "last_event_seq": 3}},
        {"resume": {"session_id": "a", "token": "b", "last_event_seq": -1}},
        {"mode": "container", "colour": "red"},
    ],
)
def test_what_does_not_is_refused(start: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        client_message.validate_json(json.dumps({"type": "start", **start}))


def test_every_refusal_of_the_pipelines_has_a_close_code_that_says_what_to_do() -> None:
    assert all(code.meaning.endswith(".") for code in CloseCode)
    assert close_code(errors.StillImage("x", expected="y", got="z")) is CloseCode.UNSUPPORTED
    assert close_code(errors.Overloaded("x", expected="y", got="z")) is CloseCode.OVERLOADED
    assert close_code(errors.NoVideoStream("x", expected="y", got="z")) is CloseCode.NO_VIDEO
    assert close_code(errors.MediaTooLarge("x", expected="y", got="z")) is CloseCode.TOO_LARGE
    assert {code for code in CloseCode if code.retryable} == RETRYABLE
    assert CloseCode(4429) is CloseCode.OVER_CREDIT and len({code.meaning for code in CloseCode}) == len(CloseCode)
