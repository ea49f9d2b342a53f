"""What the files of an evidence pack say: pydantic models, written by `recipe.py` and `evidence_pack.py`, read by `pack_check.py`.

Loads neither torch nor a server: whoever verifies a pack needs no model.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from service.schemas import MediaOut, ModelOut, Wire

FORMAT: Final = "undercurrent-evidence-pack"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}(/[a-z0-9][a-z0-9._-]{0,63})?$")]
"""Relative, no way up, no link, the same on every file system."""


class MachineOut(Wire):
    """Where it was judged. Where all of it is the same, the same media gives the same numbers to the last bit."""

    platform: str
    processor: str
    device: str = Field(description="What the nets ran on.")
    python: str
    libraries: dict[str, str]


class Config(Wire):
    """What a result was made with besides its media; kept with the evidence, since settings and versions change later."""

    version: str = Field(description="Of Undercurrent.")
    commit: str | None = Field(description="Of its repository, where that is known.")
    hz: float | None = Field(description="Looks for each second of media; null: at every frame.")
    triaged: bool
    limits: dict[str, float]
    threshold: float
    threshold_version: int = Field(default=0, description="As in the result.")
    target_fpr: float
    model: ModelOut
    machine: MachineOut


class MediaRecord(Wire):
    """Which media was judged."""

    sha256: Sha256
    size_bytes: int
    filename: str | None = Field(description="As its sender called it.")
    source_url: str | None = Field(description="Where it was fetched, without credentials and query.")
    file: FileName | None = Field(description="Where it lies in the pack; null if it was left out.")
    facts: MediaOut


class Decision(Wire):
    """What a person decided about the result."""

    at: datetime
    reviewer: str
    decision: str
    note: str | None


class AnalysisFacts(Wire):
    """Which analysis of the service it was."""

    id: str
    external_id: str | None
    created_at: datetime
    finished_at: datetime


class PackFile(Wire):
    """One file of the pack."""

    name: FileName
    size: Annotated[int, Field(ge=0, lt=2**48)]
    sha256: Sha256


class SignedBy(Wire):
    """The key whose signature is in `manifest.sig`."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    public_key: Annotated[str, StringConstraints(max_length=200)] = Field(description="PEM.")


class Manifest(Wire):
    """All that is signed: every other file of the pack by its name, size and hash."""

    format: Literal["undercurrent-evidence-pack"]
    format_version: Literal[1]
    version: str = Field(description="Of the Undercurrent that made the pack.")
    analysis: AnalysisFacts | None = Field(description="Null where the command line judged.")
    media_sha256: Sha256
    signed_at: datetime = Field(description="By the signer's clock.")
    key: SignedBy
    files: Annotated[list[PackFile], Field(max_length=100_000)]


class SigningKeyOut(Wire):
    """One public key that signs or signed evidence packs."""

    id: str
    public_key: str = Field(description="PEM.")
    created_at: datetime
    retired_at: datetime | None = Field(description="Since then it signs nothing; what it signed before stays valid.")


class SigningKeyList(Wire):
    keys: list[SigningKeyOut]


def crop_name(track: int, k: int, suffix: str) -> str:
    """Where a crop (jpg) or its boundary map (png) lies in a pack."""
    return f"crops/{track}-{k}.{suffix}"
