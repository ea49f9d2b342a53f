"""Content credentials (C2PA): media comes in, what its signed manifest claims goes out, in few and short words.

`read_credentials` runs in the decode child alone, since the manifest, its certificates and the file around them are bytes of strangers.
`media_sandbox.py` asks it to. The library is the extra `credentials`; without it nobody reads them, and results say so with null.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from service.schemas import ContentCredentials, CredentialAction

MOST_ACTIONS: Final = 16
MOST_PROBLEMS: Final = 8
LONGEST: Final = 200
TYPES: Final = {"mp4": "video/mp4", "mov": "video/quicktime", "avi": "video/avi"}
"""Containers that can hold a manifest, by FFmpeg's names, and what the library calls them."""
# What the file says may be followed nowhere; and whom a signer is trusted by is not for us to say.
ALONE: Final = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": False}}


def media_type(container: str) -> str | None:
    """What the library calls a container of FFmpeg (several names, with commas between); None if it can hold no manifest."""
    return next((kind for name, kind in TYPES.items() if name in container.split(",")), None)


def can_be_read() -> bool:
    """Whether the library is installed."""
    return find_spec("c2pa") is not None


def preload() -> None:
    """Load the library, if it is there, as long as files may be opened."""
    if can_be_read():
        import c2pa  # noqa: F401


class Watched(io.FileIO):
    """A file that says each time when it is read from, so that somebody can tell that reading goes on."""

    def __init__(self, descriptor: int, on_read: Callable[[], None]) -> None:
        super().__init__(descriptor, "rb")
        self._on_read = on_read

    def readinto(self, buffer: memoryview, /) -> int | None:  # type: ignore[override]  # typeshed: any writable buffer
        """As a file's."""
        self._on_read()
        return super().readinto(buffer)


def read_credentials(media: io.FileIO, kind: str) -> ContentCredentials:
    """What the manifest of `media` claims, and whether its signature and its hashes hold. `kind` is one of TYPES.

    Whether they hold says that nobody changed the media since it was signed, not that whoever signed speaks the truth.
    """
    import c2pa

    try:
        with c2pa.Reader(kind, media, context=c2pa.Context.from_dict(ALONE)) as reader:
            return _told(json.loads(reader.json()))
    except c2pa.C2paError.ManifestNotFound:
        return ContentCredentials(state="none")
    except (c2pa.C2paError, ValueError):
        return ContentCredentials(state="unreadable")


def _told(store: object) -> ContentCredentials:
    """The part of a manifest store, as the library writes it, that people are told. Nothing in it is sure to be there."""
    manifest = _part(_part(store, "manifests"), _text(_part(store, "active_manifest")) or "")
    signature = _part(manifest, "signature_info")
    generator = next(iter(_list(_part(manifest, "claim_generator_info"))), None)
    named = " ".join(part for key in ("name", "version") if (part := _text(_part(generator, key))) is not None)
    codes = [_text(_part(status, "code")) for status in _list(_part(store, "validation_status"))]
    return ContentCredentials(
        state="valid" if _part(store, "validation_state") in ("Valid", "Trusted") else "invalid",
        claim_generator=_short(named) or _text(_part(manifest, "claim_generator")),
        issuer=_text(_part(signature, "issuer")),
        signer=_text(_part(signature, "common_name")),
        signed_at=_text(_part(signature, "time")),
        actions=_actions(manifest)[:MOST_ACTIONS],
        problems=[code for code in codes if code is not None][:MOST_PROBLEMS],
    )


def _actions(manifest: object) -> list[CredentialAction]:
    assertions = [one for one in _list(_part(manifest, "assertions")) if (_text(_part(one, "label")) or "").startswith("c2pa.actions")]
    found = [action for one in assertions for action in _list(_part(_part(one, "data"), "actions"))]
    return [
        CredentialAction(action=name, agent=_agent(_part(one, "softwareAgent")), source_type=_text(_part(one, "digitalSourceType")))
        for one in found
        if (name := _text(_part(one, "action"))) is not None
    ]


def _agent(given: object) -> str | None:
    return _text(given) if isinstance(given, str) else _text(_part(given, "name"))


def _part(whole: object, name: str) -> object:
    return whole.get(name) if isinstance(whole, dict) else None


def _list(given: object) -> list[object]:
    return given if isinstance(given, list) else []


def _text(given: object) -> str | None:
    return (_short(given) or None) if isinstance(given, str) else None


def _short(given: str) -> str:
    return given.strip()[:LONGEST]
