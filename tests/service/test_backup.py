"""The drill: what `docker/README.md` says about backup and restore is done word for word, while it runs, and nothing is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from service.settings import Settings
from tests.service.conftest import Serve, upload
from tests.service.test_analyses import until
from tests.support import ROOT


def said(what: str) -> str:
    """The block of the guide that begins with this word."""
    guide = (ROOT / "docker" / "README.md").read_text("utf-8")
    blocks: dict[str, str] = dict(re.findall(r"```sh\n# (\w+)[^\n]*\n(.*?)```", guide, flags=re.DOTALL))
    return blocks[what]


def do(what: str, settings: Settings, backup: Path) -> None:
    environment = {**os.environ, "DATA": str(settings.data_dir), "BACKUP": str(backup)}
    subprocess.run(["sh", "-euc", said(what)], env=environment, check=True)


def test_what_was_backed_up_while_it_ran_is_all_there_after_a_restore(
    serve: Serve, settings: Settings, clip: Path, endless: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    with serve(settings) as client:
        ended = upload(client, clip, wait_s=60, key="once").headers["Location"]
        running = upload(client, endless).headers["Location"]
        until(client, running, "running")
        do("backup", settings, backup)
        before = {part: client.get(ended + part).content for part in ("", "/timeline", "/media", "/report")}
        later = upload(client, clip).headers["Location"]
    shutil.rmtree(settings.data_dir)
    do("restore", settings, backup)
    with serve(settings) as client:
        assert {part: client.get(ended + part).content for part in before} == before
        assert upload(client, clip, key="once").headers["Location"] == ended, "a retried upload is still known"
        assert client.get(later).status_code == 404
        assert until(client, running, "running")["finished_at"] is None, "what was under way begins again"
        client.post(f"{running}/cancel")
