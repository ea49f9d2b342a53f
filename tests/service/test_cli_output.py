"""Files that commands leave behind: whole or not at all, and no litter beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import OutputError
from service.cli_output import check_writable, write_file


def test_a_file_is_written_whole_and_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    for content in (b"first", b"second"):
        write_file(out, content)
        assert out.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_fails_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="taken cannot be written"):
        write_file(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    with pytest.raises(OutputError, match="cannot be written"):
        write_file(tmp_path / "none" / "a", b"x")


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.json")
    for path, why in ((tmp_path, "a directory"), (tmp_path / "none" / "a", "no such directory")):
        with pytest.raises(OutputError) as refused:
            check_writable(path)
        assert refused.value.got == why
