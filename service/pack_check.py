"""Verifying an evidence pack: a file comes in, what it is and whose comes out, or why it is refused. Used by `cli_verify.py`.

In this order, so that nothing is believed before it is known to be what was signed: the signature of the manifest, then the bytes of the
whole zip, each file against its hash, then what the files say of each other. Nothing is unpacked, and no more is held than a manifest or
one JSON file may have.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from service.canonical import MOST_BYTES, parsed
from service.pack_agreement import Contents, check_agreement
from service.pack_container import PackReader, PackRefused, Readable
from service.pack_signing import SIGNATURE_BYTES, PublicKey, UnusableKey, public_keys
from service.pack_wire import MANIFEST, SIGNATURE, Manifest

MOST_MANIFEST_BYTES: Final = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class CheckedPack:
    """A pack that is whole, and as whoever holds `key` signed it."""

    key: PublicKey
    manifest: Manifest
    contents: Contents
    size_bytes: int
    sha256: str
    """Of the whole pack."""


def check_pack(file: Readable) -> CheckedPack:
    """Read a pack from where `file` is to its end. Whether its key is one to trust is for the caller to say.

    Raises:
        PackRefused: it is not what was signed, or contradicts itself.
    """
    hashed = _Hashed(file)
    reader = PackReader(hashed)
    signed = reader.small(MANIFEST, MOST_MANIFEST_BYTES)
    signature = reader.small(SIGNATURE, SIGNATURE_BYTES)
    manifest = _manifest(signed)
    key = _key(manifest)
    if not key.signed(signed, signature):
        raise PackRefused("The signature is not of this manifest.", expected=f"a signature by {key.id}", got="another")
    names = [one.name for one in manifest.files]
    if names != sorted(set(names)):
        raise PackRefused("The manifest names a file twice or out of order.", expected="names in order, each once", got="others")
    texts: dict[str, bytes] = {}
    for one in manifest.files:
        keep = one.name.endswith((".json", ".html"))
        if keep and one.size > MOST_BYTES:
            raise PackRefused(f"{one.name} is too large to be looked into.", expected=f"at most {MOST_BYTES:,} bytes", got=f"{one.size:,}")
        digest, held = hashlib.sha256(), bytearray()
        for piece in reader.content(one.name, one.size):
            digest.update(piece)
            if keep:
                held += piece
        if digest.hexdigest() != one.sha256:
            raise PackRefused(f"{one.name} was changed.", expected=f"sha256 {one.sha256}", got=digest.hexdigest())
        if keep:
            texts[one.name] = bytes(held)
    reader.close()
    contents = check_agreement(manifest, texts)
    return CheckedPack(key, manifest, contents, hashed.count, hashed.digest.hexdigest())


def _manifest(content: bytes) -> Manifest:
    value = parsed(MANIFEST, content)
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = "/".join(map(str, fault["loc"]))
        raise PackRefused(
            "The manifest is not that of a pack.", expected="an evidence pack of version 1", got=f"{where}: {fault['msg']}"
        ) from error


def _key(manifest: Manifest) -> PublicKey:
    try:
        keys = public_keys(manifest.key.public_key.encode(), MANIFEST)
    except UnusableKey as error:
        raise PackRefused("The manifest names no key.", expected=error.expected, got=error.got) from error
    if len(keys) != 1 or keys[0].id != manifest.key.id or keys[0].pem != manifest.key.public_key:
        raise PackRefused("The manifest names another key than it holds.", expected=manifest.key.id, got=", ".join(key.id for key in keys))
    return keys[0]


class _Hashed:
    """A file of which every byte that is read is hashed."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.count = 0

    def read(self, count: int) -> bytes:
        piece = self._file.read(count)
        self.digest.update(piece)
        self.count += len(piece)
        return piece
