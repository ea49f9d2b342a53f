"""Ed25519 for evidence packs: PEM comes in, a Signer or a public key goes out; a manifest comes in, its signature goes out, or is checked.

The signature is over the bytes of `manifest.json` and nothing else, so that `openssl pkeyutl -verify` can check it without us. Used by
`signing_key_store.py`, `evidence_pack.py` and `pack_check.py`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from service.problems import ServiceError

SIGNATURE_BYTES: Final = 64
_PEM_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----[^-]*-----END \1-----")


class UnusableKey(ServiceError):
    """What should be an Ed25519 key is none."""

    slug = "unusable-key"
    title = "The key cannot be used"
    status = 500


class PublicKey:
    """Whose signatures can be checked. Equal where the key is the same one."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.pem: Final = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id: Final = hashlib.sha256(der).hexdigest()[:32]
        """Half a SHA-256 of its DER form: `openssl pkey -pubin -outform der | sha256sum` begins with it."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.pem == self.pem

    def __hash__(self) -> int:
        return hash(self.pem)

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the private half of this key made that signature of the message."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Signer:
    """A private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: Final = PublicKey(key.public_key())

    @classmethod
    def new(cls) -> Signer:
        """One that nobody else has."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes, where: str) -> Signer:
        """The key of a PEM; `where` names it in a refusal, which never repeats it.

        Raises:
            UnusableKey: it is no Ed25519 private key without a password.
        """
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _unusable(where, "an Ed25519 private key (PEM, PKCS#8, no password)", type(error).__name__) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _unusable(where, "an Ed25519 private key", type(key).__name__)
        return cls(key)

    def pem(self) -> str:
        """The private key itself."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, message: bytes) -> bytes:
        """SIGNATURE_BYTES; the same for the same message."""
        return self._key.sign(message)


def public_keys(pem: bytes, where: str) -> list[PublicKey]:
    """The public keys of a PEM file, one or several.

    Raises:
        UnusableKey: there is none, or something else beside.
    """
    blocks = [match.group() for match in _PEM_BLOCK.finditer(pem)]
    if not blocks:
        raise _unusable(where, "an Ed25519 public key (PEM)", "no PEM")
    keys = []
    for block in blocks:
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise _unusable(where, "Ed25519 public keys (PEM)", type(error).__name__) from error
        if not isinstance(key, Ed25519PublicKey):
            raise _unusable(where, "Ed25519 public keys", type(key).__name__)
        keys.append(PublicKey(key))
    return keys


def _unusable(where: str, expected: str, got: str) -> UnusableKey:
    return UnusableKey(f"{where} holds no key that can be used.", expected=expected, got=got)
