"""Media with content credentials: a clip comes in, a copy that a certificate of the test's own has signed goes out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
SIGNING = (True, False, False, False, False, False, False, False, False)
"""Key usage in the order of x509: this one may sign, and do nothing else,"""
ISSUING = (False, False, False, False, False, True, True, False, False)
"""and this one certificates and lists of revoked ones."""


def signed(clip: Path, path: Path, *, generator: str = "Test Editor", agent: str = "Test Editor", organisation: str = "Test Works") -> Path:
    """A copy of an MP4 with a manifest: captured, then edited with `agent`, signed in the name of `organisation`."""
    import c2pa

    chain, key = _certificates(organisation)
    edited = [{"action": "c2pa.created", "digitalSourceType": CAPTURED}, {"action": "c2pa.edited", "softwareAgent": {"name": agent}}]
    manifest = {
        "claim_generator_info": [{"name": generator, "version": "2.1"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": edited}}],
    }
    signer = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=key, ta_url=None)
    with (
        c2pa.Signer.from_info(signer) as pen,
        c2pa.Builder(json.dumps(manifest)) as builder,
        clip.open("rb") as source,
        path.open("w+b") as copy,
    ):
        builder.sign(pen, "video/mp4", source, copy)
    return path


def tampered(media: Path, path: Path) -> Path:
    """A copy in which one bit of a picture is another."""
    data = bytearray(media.read_bytes())
    data[data.rfind(b"mdat") + 2000] ^= 1
    path.write_bytes(data)
    return path


def _certificates(organisation: str) -> tuple[bytes, bytes]:
    """The signer's certificate and its issuer's, and the signer's key, in PEM."""
    issuer, signer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate(organisation, "Root", issuer, issuer).add_extension(x509.BasicConstraints(True, None), True)
    leaf = _certificate(organisation, "Signer", signer, issuer).add_extension(x509.BasicConstraints(False, None), True)
    root = root.add_extension(x509.KeyUsage(*ISSUING), True)
    leaf = leaf.add_extension(x509.KeyUsage(*SIGNING), True)
    leaf = leaf.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), True)
    leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False)
    chain = [one.sign(issuer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) for one in (leaf, root)]
    plain = serialization.NoEncryption()
    return b"".join(chain), signer.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def _certificate(
    organisation: str, name: str, own: ec.EllipticCurvePrivateKey, issuer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    def named(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation), x509.NameAttribute(NameOID.COMMON_NAME, common)])

    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=named("Root"),
        subject_name=named(name),
        public_key=own.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=1),
        not_valid_after=now + timedelta(days=30),
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False)
