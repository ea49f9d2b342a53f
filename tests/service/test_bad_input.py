"""What cannot be judged, through REST: refused at the door with its type, or a verdict with its reason; never half a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests import clips
from tests.service.conftest import assert_problem, upload


def _text(path: Path) -> Path:
    path.write_text("Dear sir or madam\n" * 100)
    return path


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(bytes(range(256)) * 400)
    return path


def _without_its_index(path: Path) -> Path:
    return clips.cut_short(clips.face_clip(path.with_name("whole.mp4"), seconds=1.0), path, 0.5)


REFUSED: dict[str, tuple[str, Callable[[Path], Path], int, str]] = {
    "a text file": ("notes.txt", _text, 415, "unsupported-media"),
    "a text file named .mp4": ("notes.mp4", _text, 415, "unsupported-media"),
    "noise": ("noise.mp4", _noise, 415, "unsupported-media"),
    "an empty file": ("empty.mp4", _empty, 422, "empty-source"),
    "a jpeg": ("still.jpg", clips.still, 415, "still-image"),
    "a png named .mp4": ("still.mp4", clips.still, 415, "still-image"),
    "sound only": ("sound.mp4", clips.audio_only, 422, "no-video-stream"),
    "a bomb": ("bomb.mp4", clips.bomb, 413, "media-too-large"),
    "an mp4 without its index": ("cut.mp4", _without_its_index, 415, "unsupported-media"),
    "an HLS playlist named .mp4": ("list.mp4", lambda path: clips.playlist(path, "hls", "/etc/hostname"), 415, "unsupported-media"),
    "an ffconcat named .mp4": ("list.mp4", lambda path: clips.playlist(path, "concat", "/etc/hostname"), 415, "unsupported-media"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_is_no_video_is_refused_at_the_door(
    client: httpx.Client, settings: Settings, tmp_path: Path, case: tuple[str, Callable[[Path], Path], int, str]
) -> None:
    name, make, status, slug = case
    problem = assert_problem(upload(client, make(tmp_path / name)), status, slug)
    assert problem["expected"] and problem["got"]
    assert client.get("/v1/analyses").json()["items"] == []
    assert list((settings.data_dir / "analyses").iterdir()) == []


def test_a_video_without_faces_is_not_applicable(client: httpx.Client, tmp_path: Path) -> None:
    body = upload(client, clips.empty_clip(tmp_path / "empty.mp4"), wait_s=60).json()
    assert (body["status"], body["verdict"], body["p"]) == ("succeeded", "not_applicable", None)
    assert body["result"]["reasons"] == ["no_face"]


def test_one_frame_is_too_short_to_judge(client: httpx.Client, tmp_path: Path) -> None:
    body = upload(client, clips.one_frame_clip(tmp_path / "one.mp4"), wait_s=60).json()
    assert (body["status"], body["verdict"], body["p"]) == ("succeeded", "inconclusive", None)
    assert "too_short" in body["result"]["reasons"]


def test_an_mkv_cut_in_the_middle_is_judged_as_far_as_it_goes(client: httpx.Client, tmp_path: Path) -> None:
    whole = clips.face_clip(tmp_path / "whole.mkv", seconds=4.0)
    body = upload(client, clips.cut_short(whole, tmp_path / "cut.mkv", 0.6), wait_s=60).json()
    assert body["status"] == "succeeded"
    assert "truncated" in [warning["code"] for warning in body["result"]["warnings"]]
    assert 0 < body["result"]["media"]["frames_analysed"] < 16
