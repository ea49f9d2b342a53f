"""Content credentials: really signed media goes in, what its manifest claims comes out, and whose claim it is; forgeries too."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from pipelines.media import Limits
from service import media_sandbox
from service.media_sandbox import MediaSandbox
from service.media_wire import Alive, Started
from service.schemas import ContentCredentials
from tests.clips import face_clip
from tests.service.browsing import chromium, desk_at, violations
from tests.service.conftest import upload
from tests.service.credentials import CAPTURED, signed, tampered
from tests.service.test_media_sandbox import _say, _Taken
from tests.support import require

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
HOSTILE = '"><img src=x onerror=document.title=1>'


@pytest.fixture(scope="module", autouse=True)
def library() -> None:
    require("c2pa")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[MediaSandbox]:
    with MediaSandbox() as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_clip(tmp_path_factory.mktemp("clips") / "plain.mp4", seconds=2.0)


@pytest.fixture(scope="module")
def genuine(plain: Path) -> Path:
    return signed(plain, plain.with_name("signed.mp4"))


def test_what_was_signed_is_told_with_who_signed_it(sandbox: MediaSandbox, genuine: Path) -> None:
    told = sandbox.credentials(genuine, MP4)
    assert told is not None
    assert (told.state, told.problems) == ("valid", [])
    assert (told.claim_generator, told.issuer, told.signer) == ("Test Editor 2.1", "Test Works", "Signer")
    done = [(one.action, one.agent, one.source_type) for one in told.actions]
    assert done == [("c2pa.created", None, CAPTURED), ("c2pa.edited", "Test Editor", None)]


def test_one_changed_bit_is_noticed(sandbox: MediaSandbox, genuine: Path, tmp_path: Path) -> None:
    told = sandbox.credentials(tampered(genuine, tmp_path / "tampered.mp4"), MP4)
    assert told is not None
    assert told.state == "invalid" and "assertion.bmffHash.mismatch" in told.problems
    assert told.signer == "Signer", "what it claims is told all the same"


@pytest.mark.parametrize("container", [MP4, "matroska,webm", "mpegts"])
def test_what_has_none_says_none(sandbox: MediaSandbox, plain: Path, container: str) -> None:
    assert sandbox.credentials(plain, container) == ContentCredentials(state="none")


def test_a_manifest_that_is_damaged_anywhere_is_not_valid(sandbox: MediaSandbox, genuine: Path, plain: Path, tmp_path: Path) -> None:
    data = genuine.read_bytes()
    begin = data.index(b"c2pa")
    length = len(data) - plain.stat().st_size
    for n in range(0, length - 200, length // 24):
        damaged = bytearray(data)
        damaged[begin + n] ^= 0xFF
        (tmp_path / "damaged.mp4").write_bytes(damaged)
        told = sandbox.credentials(tmp_path / "damaged.mp4", MP4)
        assert told is not None
        # What is padding between its parts may change: nothing that was signed has.
        assert told.state in ("invalid", "unreadable", "none") or told == sandbox.credentials(genuine, MP4), n


def test_long_claims_are_cut(sandbox: MediaSandbox, plain: Path, tmp_path: Path) -> None:
    told = sandbox.credentials(signed(plain, tmp_path / "long.mp4", generator="G" * 5000, agent="A" * 5000), MP4)
    assert told is not None and told.state == "valid"
    assert told.claim_generator == "G" * 200 and told.actions[1].agent == "A" * 200
    assert len(told.model_dump_json()) < 2000


def _babbles(talk: object, _memory: int) -> None:
    while True:
        _say(talk, Alive(decoded=1))  # type: ignore[arg-type]  # a socket


def _dies(talk: object, _memory: int) -> None:
    _say(talk, Started(network_gone=True, files_gone=True))  # type: ignore[arg-type]


def _is_silent(_talk: object, _memory: int) -> None:
    time.sleep(60)


@pytest.mark.parametrize("does", [_babbles, _dies, _is_silent])
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_reader_that_was_taken_over_makes_them_unreadable_and_is_counted(does: Callable[[object, int], None], genuine: Path) -> None:
    with _Taken(does) as taken:
        assert taken.credentials(genuine, MP4, limits=Limits(read_timeout_s=1, max_wall_s=2)) == ContentCredentials(state="unreadable")
        assert taken.counts.crashed + taken.counts.stalled == 1 and taken.counts.alive == 0


def test_this_process_never_loads_what_reads_them(genuine: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from service.media_sandbox import MediaSandbox\n"
        "with MediaSandbox() as sandbox:\n"
        f"    told = sandbox.credentials(Path(sys.argv[1]), {MP4!r})\n"
        "print(told.state, 'c2pa' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program, genuine], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["valid", "False"]


def test_without_the_library_nobody_looked(sandbox: MediaSandbox, genuine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media_sandbox, "can_be_read", lambda: False)
    assert sandbox.credentials(genuine, MP4) is None


def test_they_are_in_the_result_the_pack_and_the_page(client: httpx.Client, plain: Path, tmp_path: Path) -> None:
    media = signed(plain, tmp_path / "signed.mp4", generator=HOSTILE)
    body = upload(client, media, wait_s=100).json()
    told = body["result"]["content_credentials"]
    assert told["state"] == "valid" and told["claim_generator"] == f"{HOSTILE} 2.1"
    with zipfile.ZipFile(io.BytesIO(client.get(body["links"]["pack"]).content)) as pack:
        assert json.loads(pack.read("result.json"))["content_credentials"] == told
        assert "A claim of whoever signed, not a proof." in pack.read("index.html").decode()
    forged = upload(client, tampered(media, tmp_path / "forged.mp4"), wait_s=100).json()
    assert forged["result"]["content_credentials"]["state"] == "invalid"
    with chromium() as browser, desk_at(browser, str(client.base_url)) as desk:
        page = desk.page
        said = page.locator(".credentials")
        page.goto(body["links"]["page"])
        page.get_by_text("Media, model and how to reproduce this").click()
        expect(said).to_contain_text(f"It says that it was made with {HOSTILE} 2.1.")
        expect(said).to_contain_text("It says what was done: created (captured by a camera); edited with Test Editor.")
        expect(said).to_contain_text("Signed in the name of Signer, Test Works.")
        expect(said).to_contain_text("A claim of whoever signed, whom nobody here vouches for, and not a proof.")
        assert violations(page) == [] and page.locator("img[src=x]").count() == 0
        page.goto(forged["links"]["page"])
        page.get_by_text("Media, model and how to reproduce this").click()
        expect(said).to_contain_text("The file is not what was signed, or the signature does not hold.")
        assert desk.complaints == []
