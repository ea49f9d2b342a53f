"""The evidence pack: every program opens it, the same evidence gives the same files, and no byte of it can change unnoticed."""

from __future__ import annotations

import asyncio
import io
import json
import random
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.analysis import Model
from pipelines.media import Limits
from service.canonical import canonical
from service.connection import database_url
from service.database import Database
from service.evidence_pack import Evidence, listed, pack_files, signed
from service.pack_check import CheckedPack, check_pack
from service.pack_container import Entry, PackRefused, ending, header, packed
from service.pack_signing import Signer, UnusableKey
from service.pack_wire import MANIFEST, SIGNATURE, AnalysisFacts, Decision, MediaRecord
from service.recipe import config
from service.rejudging import judge_again
from service.report import crop_images
from service.schemas import AnalysisResult, timeline
from service.settings import Settings
from service.signing_key_store import SigningKeyAway, SigningKeys
from tests.service.reports import make_report
from tests.service.test_cli import run

AT = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
MEDIA_SHA256 = "cd" * 32
SIGNER = Signer.new()


def check(content: bytes) -> CheckedPack:
    return check_pack(io.BytesIO(content))


def signed_pack(evidence: Evidence, files: dict[str, bytes], signer: Signer = SIGNER) -> bytes:
    return packed({**signed(evidence, listed(files), signer, AT), **files})


@pytest.fixture(scope="module")
def evidence(model: Model) -> Evidence:
    """Two faces, a segment, crops, one decision."""
    report = make_report()
    result = AnalysisResult.from_report(report, sha256=MEDIA_SHA256)
    return Evidence(
        result=result,
        timeline=timeline(report),
        crops=crop_images(report),
        config=config(report, model, hz=12.0, limits=Limits()),
        media=MediaRecord(sha256=MEDIA_SHA256, size_bytes=5, filename="a.mp4", source_url=None, file=None, facts=result.media),
        decisions=[Decision(at=AT, reviewer="<b>ann</b>", decision="confirmed", note="<script>alert(1)</script>")],
        analysis=AnalysisFacts(id="x", external_id=None, created_at=AT, finished_at=AT),
    )


@pytest.fixture(scope="module")
def files(evidence: Evidence) -> dict[str, bytes]:
    return pack_files(evidence)


@pytest.fixture(scope="module")
def pack(evidence: Evidence, files: dict[str, bytes]) -> bytes:
    return signed_pack(evidence, files)


@pytest.fixture(scope="module")
def small(evidence: Evidence) -> bytes:
    """A pack of some 9 KB that says all that a pack must: nothing was seen, and the page is one line."""
    report = make_report(faces=False)
    result = AnalysisResult.from_report(report, sha256=MEDIA_SHA256)
    rows = timeline(report).model_copy(update={"frame_pts": [0, 100]})
    result = result.model_copy(update={"media": result.media.model_copy(update={"frames_analysed": 2})})
    record = evidence.media.model_copy(update={"facts": result.media})
    nothing = Evidence(result, rows, {}, evidence.config, record)
    files = {
        "config.json": canonical(nothing.config.model_dump(mode="json")),
        "decisions.json": b"[]",
        "index.html": result.sentence.encode(),
        "media.json": canonical(record.model_dump(mode="json")),
        "result.json": canonical(result.model_dump(mode="json")),
        "timeline.json": canonical(rows.model_dump(mode="json")),
    }
    return signed_pack(nothing, files)


def test_any_program_opens_it_and_openssl_checks_its_signature(pack: bytes, files: dict[str, bytes], tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(pack)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()[2:]} == files
        opened.extractall(tmp_path)
    assert check(pack).key == SIGNER.public
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("there is no `openssl` on the PATH")
    (tmp_path / "key.pem").write_text(SIGNER.public.pem)
    asked = [openssl, "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", MANIFEST, "-sigfile", SIGNATURE]
    assert subprocess.run(asked, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_the_same_evidence_gives_the_same_bytes(evidence: Evidence, pack: bytes) -> None:
    assert signed_pack(evidence, pack_files(evidence)) == pack


def test_the_page_shows_decisions_as_text(files: dict[str, bytes]) -> None:
    page = files["index.html"].decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<script" not in page and "<b>ann" not in page


def test_no_byte_can_change(small: bytes) -> None:
    check(small)
    draw = random.Random(1)
    for at in range(len(small)):
        changed = bytearray(small)
        changed[at] ^= draw.randrange(1, 256)
        with pytest.raises(PackRefused):
            check(bytes(changed))


def test_no_byte_can_go_or_come(small: bytes) -> None:
    for at in range(0, len(small), 3):
        for wrong in (small[:at], small[:at] + small[at + 1 :], small[:at] + b"\0" + small[at:]):
            with pytest.raises(PackRefused):
                check(wrong)
    for wrong in (small + b"\0", b"\0" + small, small + small):
        with pytest.raises(PackRefused):
            check(wrong)


def test_no_bit_of_a_zip_structure_can_change(small: bytes) -> None:
    """Headers and table: all that a zip says beside names and contents."""
    places = [at for mark in (b"PK\3\4", b"PK\1\2", b"PK\5\6") for at in _places(small, mark)]
    assert len(places) == 17
    for start in places:
        for bit in range(8 * min(46, len(small) - start)):
            changed = bytearray(small)
            changed[start + bit // 8] ^= 1 << bit % 8
            with pytest.raises(PackRefused):
                check(bytes(changed))


def test_a_large_pack_is_held_to_its_bytes_too(pack: bytes) -> None:
    for at in range(0, len(pack), 701):
        changed = bytearray(pack)
        changed[at] ^= 1
        with pytest.raises(PackRefused):
            check(bytes(changed))


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), st.binary(max_size=40)), min_size=1, max_size=4))
def test_no_edit_goes_unnoticed(small: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    changed = small
    for where, cut, put in edits:
        at = int(where * len(changed))
        changed = changed[:at] + put + changed[at + cut :]
    if changed == small:
        return
    with pytest.raises(PackRefused):
        check(changed)


def _places(content: bytes, mark: bytes) -> Iterator[int]:
    at = content.find(mark)
    while at >= 0:
        yield at
        at = content.find(mark, at + 1)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("result.json", b'{"a":1,"a":2}', "not in the form"),
        ("result.json", b'{"p":NaN}', "cannot be read"),
        ("result.json", b'{"p":1e999}', "cannot be read"),
        ("result.json", b"[" * 100_000, "cannot be read"),
        ("result.json", b"[[]" + b",[]" * 21_000_000 + b"]", "too large"),
        ("result.json", b"{}", "does not hold what it must"),
        ("decisions.json", b"\xff", "cannot be read"),
        ("index.html", b"Everything is fine.", "index.html says something else"),
        ("media.json", b"null", "does not hold what it must"),
        ("more.txt", b"", "contradicts itself: files"),
    ],
)
def test_what_is_signed_must_make_sense_too(evidence: Evidence, files: dict[str, bytes], name: str, content: bytes, says: str) -> None:
    with pytest.raises(PackRefused, match=says):
        check(signed_pack(evidence, dict(sorted({**files, name: content}.items()))))


@pytest.mark.parametrize("missing", ["config.json", "crops/0-0.png", "timeline.json"])
def test_nothing_may_be_left_out(evidence: Evidence, files: dict[str, bytes], missing: str) -> None:
    with pytest.raises(PackRefused, match="contradicts itself: files"):
        check(signed_pack(evidence, {name: content for name, content in files.items() if name != missing}))


def test_two_packs_cannot_be_made_one(evidence: Evidence, files: dict[str, bytes]) -> None:
    other = json.loads(files["timeline.json"])
    other["threshold"] = 0.5
    with pytest.raises(PackRefused, match="contradicts itself: threshold"):
        check(signed_pack(evidence, {**files, "timeline.json": canonical(other)}))
    other["threshold"], other["rows"][0]["t"] = 0.8, 0.25
    with pytest.raises(PackRefused, match="of no frame"):
        check(signed_pack(evidence, {**files, "timeline.json": canonical(other)}))


Json = dict[str, Any]
Change = Callable[[Json, Json], None]


def _far_frame(result: Json, rows: Json) -> None:
    rows["frame_pts"][-1] = rows["rows"][-1]["pts"] = 10**400


def _far_crop(result: Json, rows: Json) -> None:
    result["tracks"][0]["crops"][0]["at"]["pts"] = -(10**400)


def _huge_ticks(result: Json, rows: Json) -> None:
    rows["time_base"] = [10**400, 1]


@pytest.mark.parametrize(
    ("change", "says"), [(_far_frame, "A PTS is none"), (_far_crop, "A PTS is none"), (_huge_ticks, "The time base is none")]
)
def test_times_that_no_float_holds_are_refused(
    evidence: Evidence, files: dict[str, bytes], tmp_path: Path, change: Change, says: str
) -> None:
    result, rows = json.loads(files["result.json"]), json.loads(files["timeline.json"])
    change(result, rows)
    pack, key = tmp_path / "pack.zip", tmp_path / "key.pem"
    pack.write_bytes(signed_pack(evidence, {**files, "result.json": canonical(result), "timeline.json": canonical(rows)}))
    key.write_text(SIGNER.public.pem)
    with pytest.raises(PackRefused, match=says):
        check(pack.read_bytes())
    done = run("verify", pack, "--key", key, "--json")
    assert (done.returncode, json.loads(done.stdout)["problem"]["type"]) == (1, "urn:undercurrent:problem:pack-not-valid")
    done = run("verify", pack, "--key", key)
    assert done.returncode == 1 and done.stdout.startswith("Not valid.")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../b", "C:\\x", "a//b", "a/b/c", "A", "a\0b", ".hidden"])
def test_names_that_lead_elsewhere_are_refused(evidence: Evidence, files: dict[str, bytes], name: str) -> None:
    begins = signed(evidence, listed(files), SIGNER, AT)
    manifest = json.loads(begins[MANIFEST])
    manifest["files"][0]["name"] = name
    content = canonical(manifest)
    with pytest.raises(PackRefused, match="not that of a pack"):
        check(packed({MANIFEST: content, SIGNATURE: SIGNER.sign(content), **files}))


def test_a_file_that_is_named_twice_or_huge_is_refused(evidence: Evidence, files: dict[str, bytes]) -> None:
    manifest = json.loads(signed(evidence, listed(files), SIGNER, AT)[MANIFEST])
    for change, says in (({"files": 2 * manifest["files"]}, "twice"), ({"files": _with_size(manifest["files"], 10**9)}, "too large")):
        content = canonical({**manifest, **change})
        with pytest.raises(PackRefused, match=says):
            check(packed({MANIFEST: content, SIGNATURE: SIGNER.sign(content), **files}))


def _with_size(listing: list[dict[str, object]], size: int) -> list[dict[str, object]]:
    return [{**listing[0], "size": size}, *listing[1:]]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_same_files_in_another_zip_are_no_pack(pack: bytes, method: int) -> None:
    other = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(pack)) as opened, zipfile.ZipFile(other, "w", method) as written:
        for name in opened.namelist():
            written.writestr(name, opened.read(name))
    with pytest.raises(PackRefused):
        check(other.getvalue())


def test_a_zip_with_a_million_entries_is_refused_at_its_first() -> None:
    one = header(Entry("x", 0, 0))
    with pytest.raises(PackRefused):
        check(one * 1_000_000)


def test_large_files_are_written_as_zip64() -> None:
    """5 GiB that are never there: the table alone, as Python's zipfile understands it."""
    large = [Entry("a", 5 * 2**30, 1), Entry("b", 3, 2)]
    assert header(large[0])[4] == 45 and ending(large).count(b"PK\6\6") == 1

    class Sparse(io.RawIOBase):
        tail, size, at = ending(large), sum(len(header(one)) + one.size for one in large), 0

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = offset + (0, self.at, self.size + len(self.tail))[whence]
            return self.at

        def tell(self) -> int:
            return self.at

        def read(self, count: int = -1) -> bytes:
            begin = self.at - self.size
            assert begin >= 0
            piece = self.tail[begin:] if count < 0 else self.tail[begin : begin + count]
            self.at += len(piece)
            return piece

    with zipfile.ZipFile(Sparse()) as opened:
        assert [(one.filename, one.file_size, one.header_offset) for one in opened.infolist()] == [
            ("a", 5 * 2**30, 0),
            ("b", 3, len(header(large[0])) + 5 * 2**30),
        ]


def test_verify_says_whose_it_is_by_its_exit_status(evidence: Evidence, files: dict[str, bytes], tmp_path: Path) -> None:
    pack, key, other = tmp_path / "pack.zip", tmp_path / "key.pem", tmp_path / "other.pem"
    pack.write_bytes(signed_pack(evidence, files))
    key.write_text(SIGNER.public.pem)
    other.write_text(Signer.new().public.pem)
    done = run("verify", pack, "--key", other, "--key", key, "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["signed_by"] == SIGNER.public.id
    assert run("verify", pack).returncode == 4
    assert run("verify", pack, "--key", other).returncode == 1
    pack.write_bytes(signed_pack(evidence, files, Signer.new()))  # all of it signed again, by somebody else
    done = run("verify", pack, "--key", key, "--json")
    assert (done.returncode, json.loads(done.stdout)["problem"]["type"]) == (1, "urn:undercurrent:problem:pack-not-valid")
    assert run("verify", pack, "--key", key).stdout.startswith("Not valid.")
    media = tmp_path / "media"
    media.write_bytes(b"x")
    assert run("verify", pack, "--media", media).returncode == 1
    assert run("verify", tmp_path / "nothing").returncode == 3
    assert run("verify", pack, "--key", pack).returncode == 3


async def test_one_key_signs_for_all_and_the_next_takes_its_place(tmp_path: Path) -> None:
    opened = [await Database.open(database_url(Settings(data_dir=tmp_path))) for _ in range(3)]
    try:
        first, *others = await asyncio.gather(*(SigningKeys(one, None).signer() for one in opened))
        assert {one.public.id for one in others} == {first.public.id}
        keys = SigningKeys(opened[0], None)
        second = await keys.rotate()
        assert (await SigningKeys(opened[1], None).signer()).public == second.public
        rows = await keys.all()
        assert [(row.id, row.private_pem is None, row.retired_at is None) for row in rows] == [
            (second.public.id, False, True),
            (first.public.id, True, False),
        ]
        mine = Signer.new()
        own = SigningKeys(opened[0], mine)
        assert (await own.signer()).public == mine.public
        assert mine.pem() not in [row.private_pem for row in await own.all()]
        with pytest.raises(SigningKeyAway, match="in a file that this process was not given"):
            await keys.signer()
        with pytest.raises(UnusableKey, match="a file of yours"):
            await own.rotate()
        assert (await SigningKeys(opened[1], Signer.new()).signer()).public != mine.public
        with pytest.raises(SigningKeyAway, match="was retired"):
            await own.signer()
    finally:
        for one in opened:
            await one.close()


def test_a_pack_of_the_service_is_valid_with_and_without_its_media(judged: tuple[httpx.Client, str], clip: Path) -> None:
    client, path = judged
    keys = client.get("/v1/signing-keys").json()["keys"]
    answer = client.get(f"{path}/report?format=zip")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    found = check(answer.content)
    assert (found.key.id, found.key.pem) == (keys[0]["id"], keys[0]["public_key"])
    assert found.contents.result == AnalysisResult.model_validate(client.get(path).json()["result"])
    assert found.contents.timeline.model_dump(mode="json") == client.get(f"{path}/timeline").json()
    assert found.contents.config.hz == 4.0
    whole = client.get(f"{path}/report?format=zip&media=true").content
    assert check(whole).contents.media.file == "media/original.mp4"
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        assert opened.read("media/original.mp4") == clip.read_bytes()


def test_judging_again_notices_one_changed_number(judged: tuple[httpx.Client, str], clip: Path, model: Model) -> None:
    client, path = judged
    contents = check(client.get(f"{path}/report?format=zip").content).contents
    first = next(row for row in contents.timeline.rows if row.p is not None)
    for change, says in (({"p": (first.p or 0) + 1e-9}, "other scores"), ({"pts": first.pts + 1}, "other moments")):
        rows = [row.model_copy(update=change) if row is first else row for row in contents.timeline.rows]
        wrong = replace(contents, timeline=contents.timeline.model_copy(update={"rows": rows}))
        with pytest.raises(PackRefused, match=says):
            judge_again(wrong, clip, model)


@pytest.mark.parametrize(
    ("limits", "says"),
    [({"no_such": 1.0}, "does not know"), ({"max_frames": float("inf")}, "limit is none"), ({"max_bytes": -1.0}, "limit is none")],
)
def test_limits_that_are_none_are_refused(
    judged: tuple[httpx.Client, str], clip: Path, model: Model, limits: dict[str, float], says: str
) -> None:
    client, path = judged
    contents = check(client.get(f"{path}/report?format=zip").content).contents
    wrong = replace(contents, config=contents.config.model_copy(update={"limits": limits}))
    with pytest.raises(PackRefused, match=says):
        judge_again(wrong, clip, model)


def test_the_command_line_makes_a_pack_that_it_verifies(clip: Path, tmp_path: Path) -> None:
    home = {"UNDERCURRENT_DATA_DIR": str(tmp_path / "data")}
    done = run("detect", clip, "--hz", "2", "--json", "--pack", tmp_path / "pack.zip", **home)
    assert done.returncode == 0, done.stderr
    (tmp_path / "key.pem").write_text(run("signing-key", "show", **home).stdout)
    assert run("signing-key", "rotate", **home).stdout != (tmp_path / "key.pem").read_text()
    done = run("verify", tmp_path / "pack.zip", "--key", tmp_path / "key.pem", "--media", clip, "--rejudge", "--json", **home)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["numbers"] == "the same to the last bit"
    assert run("detect", "http://127.0.0.1/x", "--pack", tmp_path / "pack.zip").returncode == 2
