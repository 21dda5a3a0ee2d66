"""Certificates for OPC UA: our own, made once, and those of the servers that are trusted."""

from __future__ import annotations

import hashlib
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from filelock import FileLock

from smartops.file_names import file_name
from smartops.settings import get_settings

_VALID = timedelta(days=3650)


def application_uri() -> str:
    """Return what this installation calls itself; servers compare it with the certificate.

    It stays what the certificate says, also when the machine is called otherwise by now.
    """
    certificate = get_settings().home / "pki" / "own" / "certificate.der"
    if certificate.exists():
        found = x509.load_der_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
            return uri
    return f"urn:{socket.gethostname()}:smartops"


def own_certificate() -> tuple[Path, Path]:
    """Return the paths of our certificate (DER) and key (PEM); make them on first use.

    They are never made again by themselves: the servers that trust them would no longer.
    """
    folder = get_settings().home / "pki" / "own"
    certificate, key = folder / "certificate.der", folder / "key.pem"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(folder / "lock"):
        if not (certificate.exists() and key.exists()):
            _make(certificate, key)
    return certificate, key


def _make(certificate: Path, key: Path) -> None:
    secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SmartOps")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(application_uri()),
        x509.DNSName(socket.gethostname()),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # the server's clock may be behind
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(usage, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    pem = secret.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    certificate.write_bytes(made.public_bytes(serialization.Encoding.DER))


def _trusted_path(url: str) -> Path:
    return get_settings().home / "pki" / "trusted" / f"{file_name(url)}.der"


def trusted_certificate(url: str) -> bytes | None:
    """Return the certificate (DER) that a person has trusted for a server's address."""
    path = _trusted_path(url)
    return path.read_bytes() if path.exists() else None


def trust(url: str, certificate: bytes) -> Path:
    """Trust a certificate for a server's address; return where it is kept."""
    path = _trusted_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(certificate)
    return path


def fingerprint(certificate: bytes) -> str:
    """Return a certificate's SHA-256, as people compare it."""
    return hashlib.sha256(certificate).hexdigest()


def described(certificate: bytes) -> str:
    """Return whose certificate it is, and until when it is valid."""
    found = x509.load_der_x509_certificate(certificate)
    until = found.not_valid_after_utc.date().isoformat()
    return f"{found.subject.rfc4514_string()}, valid until {until}"
