"""Files in a directory and in a bucket: media whole or not at all, evidence replaced whole, orphans go, scratch is left clean."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from service.ids import new_id
from service.objects import BadStoreUrl, Objects
from service.pack_wire import Config, MachineOut
from service.problems import DiskFull, StoreUnavailable, UnknownEvidence
from service.report import CropImages
from service.schemas import AnalysisResult, ModelOut, Timeline
from service.settings import Settings
from service.storage import Storage
from tests.s3 import S3

CROPS = {(0, 0): CropImages(jpeg=b"jpeg", boundary_png=b"png")}
DAY_NS = 86_400 * 10**9


@pytest.fixture(params=["directory", "bucket"])
def storage(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """An empty storage of either kind; its scratch is empty in the end."""
    if request.param == "bucket":
        settings = in_bucket(request.getfixturevalue("s3"), settings, monkeypatch)
    yield Storage.open(settings)
    assert list((settings.data_dir / "scratch").iterdir()) == []


def in_bucket(s3: S3, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a service that keeps media and evidence there."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return settings.model_copy(update={"store_url": "s3://media/some/prefix"})


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def put(storage: Storage, analysis_id: str, content: bytes = b"media") -> None:
    async with storage.receive(analysis_id, pieces(content)) as file:
        assert file.read_bytes() == content


async def get(storage: Storage, analysis_id: str, start: int = 0, end: int = 5) -> bytes:
    return b"".join([piece async for piece in storage.read_media(analysis_id, start, end)])


CONFIG = Config(
    version="0",
    commit=None,
    hz=4.0,
    triaged=False,
    limits={},
    threshold=0.8,
    target_fpr=0.01,
    model=ModelOut(name="undercurrent", version="1", weights_sha256="ab" * 32, crop_version=1, calibration_id="1"),
    machine=MachineOut(platform="", processor="", device="cpu", python="", libraries={}),
)


def parts(judged: tuple[httpx.Client, str]) -> tuple[AnalysisResult, Timeline]:
    client, path = judged
    result = AnalysisResult.model_validate(client.get(path).json()["result"])
    return result, Timeline.model_validate(client.get(f"{path}/timeline").json())


@pytest.mark.parametrize("size", [0, 1, 8 * 2**20, 20 * 2**20 + 1])
async def test_media_of_any_size_comes_back(storage: Storage, size: int) -> None:
    content = os.urandom(size)
    await put(storage, "a", content)
    with storage.media_file("a") as file:
        assert file.read_bytes() == content
    assert await get(storage, "a", size // 3, size // 2) == content[size // 3 : size // 2] if size > 1 else True


async def test_media_that_breaks_off_is_not_there(storage: Storage, s3: S3) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (9 * 2**20)
        raise ConnectionAbortedError("the sender went away")

    with pytest.raises(ConnectionAbortedError, match="went away"):
        async with storage.receive("a", broken()):
            pytest.fail("it was taken")
    with pytest.raises(UnknownEvidence), storage.media_file("a"):
        pytest.fail("it was kept")
    assert s3.half_written() == []


async def test_evidence_is_replaced_whole(storage: Storage, judged: tuple[httpx.Client, str]) -> None:
    result, timeline = parts(judged)
    storage.write_evidence("a", result, timeline, CROPS, CONFIG)
    assert await storage.read_crop("a", 0, 0, "boundary") == b"png"
    storage.write_evidence("a", result, timeline, {}, CONFIG)
    assert await storage.read_result("a") == result
    assert Timeline.model_validate_json(await storage.read_timeline("a")) == timeline
    with pytest.raises(UnknownEvidence, match="no crop 0"):
        await storage.read_crop("a", 0, 0, "face")


def test_bookmarks_are_kept_under_keys_of_their_own_until_it_has_ended(storage: Storage) -> None:
    keys = [storage.write_bookmark("a", data) for data in (b"one", b"two", b"two")]
    assert len(set(keys)) == 3
    assert [storage.read_bookmark("a", key) for key in keys] == [b"one", b"two", b"two"]
    storage.remove_bookmarks("a")
    storage.remove_bookmarks("a")
    with pytest.raises(UnknownEvidence, match="no longer has this of a"):
        storage.read_bookmark("a", keys[0])


async def test_removing_leaves_the_others(storage: Storage, judged: tuple[httpx.Client, str]) -> None:
    for name in ("a", "ab"):
        await put(storage, name)
        storage.write_evidence(name, *parts(judged), CROPS, CONFIG)
    storage.remove("a")
    storage.remove("a")
    with pytest.raises(UnknownEvidence, match="no longer has this of a"):
        await get(storage, "a")
    with pytest.raises(UnknownEvidence):
        await storage.read_result("a")
    assert await get(storage, "ab") == b"media"


async def test_only_what_no_row_knows_is_removed(settings: Settings) -> None:
    storage = Storage.open(settings)
    for name in ("kept", "orphan"):
        await put(storage, name)
    half = settings.data_dir / "analyses" / "half"
    half.mkdir()
    (half / "media#1").write_bytes(b"what a killed process was writing")
    assert storage.remove_orphans(storage.kept(), {"kept", "elsewhere"}) == ["analyses/half", "analyses/orphan"]
    assert await get(storage, "kept") == b"media"
    assert [path.name for path in (settings.data_dir / "analyses").iterdir()] == ["kept"]


async def test_of_what_replicas_share_only_old_orphans_are_removed(s3: S3, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replica may be storing a new one right now."""
    storage = Storage.open(in_bucket(s3, settings, monkeypatch))
    old, known, new = (new_id(time_ns) for time_ns in (10 * DAY_NS, 11 * DAY_NS, None))
    for name in (old, known, new, "not-ours"):
        await put(storage, name)
    assert storage.remove_orphans(storage.kept(), {known}) == [f"analyses/{old}"]
    assert s3.names() == sorted(f"some/prefix/analyses/{name}/media" for name in (known, new, "not-ours"))


async def test_uploads_that_nobody_claimed_go_when_they_are_old(s3: S3, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of every tenant, and those that lie where they were kept before tenants had places of their own."""
    storage = Storage.open(in_bucket(s3, settings, monkeypatch))
    old, new = new_id(10 * DAY_NS), new_id()
    for tenant in ("films", "pages"):
        for name in (old, new):
            httpx.put(storage.presigned_put(tenant, name, 60) or "", content=b"media", timeout=60).raise_for_status()
    before = Objects.at_url("s3://media/some/prefix")
    before.put(f"uploads/{old}/media", b"media")
    assert len(storage.remove_orphans((), ())) == 3
    left = s3.names()
    assert len(left) == 2 and all(name.endswith(f"/{new}/media") for name in left)
    assert [storage.upload_size(tenant, new) for tenant in ("films", "pages", "other")] == [5, 5, None]
    storage.remove_upload("films", new)
    assert [storage.upload_size(tenant, new) for tenant in ("films", "pages")] == [None, 5]


async def test_media_is_kept_under_names_of_ours(storage: Storage, settings: Settings) -> None:
    for name in ("..", "../other"):
        with pytest.raises(ValueError, match=r"Could not parse path|illegal"):
            await put(storage, name)
    assert not (settings.data_dir / "media").exists()


async def test_a_disk_that_fills_up_meanwhile_is_said_as_such(settings: Settings, judged: tuple[httpx.Client, str], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        storage = Storage.open(settings.model_copy(update={"data_dir": disk}))
        with pytest.raises(DiskFull, match="The disk is full"):
            async with storage.receive("a", pieces(*[b"x" * 2**20] * 9)):
                pytest.fail("it was taken")
        storage.remove("a")
        crops = {(0, k): CropImages(jpeg=b"x" * 2**20, boundary_png=b"") for k in range(4)}
        with pytest.raises(DiskFull, match="The disk is full"):
            storage.write_evidence("b", *parts(judged), crops, CONFIG)
        with pytest.raises(UnknownEvidence):
            await storage.read_result("b")
    finally:
        subprocess.run(["umount", disk], check=True)


async def test_scratch_is_held_to_the_disk_and_left_clean(s3: S3, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = in_bucket(s3, settings, monkeypatch)
    await put(Storage.open(settings), "a")
    full = Storage.open(settings.model_copy(update={"min_free_bytes": 2**60}))
    with pytest.raises(DiskFull, match="nearly full"), full.media_file("a"):
        pytest.fail("it was brought here")
    left = settings.data_dir / "scratch" / "left"
    left.write_bytes(b"by a process that was killed")
    Storage.open(settings)
    assert not left.exists()


async def test_a_bucket_that_is_gone_is_not_an_object_that_is_gone(s3: S3, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.open(in_bucket(s3, settings, monkeypatch))
    storage.check()
    s3.drop_bucket()
    try:
        for use in (storage.check, lambda: storage.remove("a"), storage.kept):
            with pytest.raises(StoreUnavailable):
                use()
        with pytest.raises(StoreUnavailable, match="bucket is gone"):
            await get(storage, "a")
        with pytest.raises(StoreUnavailable, match="bucket is gone"):
            await put(storage, "a")
    finally:
        s3.empty()


@pytest.mark.parametrize(
    "url", ["", "media", "s3://", "s3://Media", "gs://media", "https://media", "s3://media/x?y=z", "s3://media//x", "s3://key:secret@media"]
)
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(BadStoreUrl, match="s3://bucket"):
        Objects.at_url(url)
