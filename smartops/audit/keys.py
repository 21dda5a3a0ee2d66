"""The key that signs seals, and the public keys that are trusted."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from smartops.audit.chain import key_id
from smartops.errors import BadInput

_PRIVATE, _PUBLIC = "seal.key", "seal.pub"


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key pair."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        """The public key, 32 raw bytes."""
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @property
    def id(self) -> bytes:
        """The key's short name, 16 bytes."""
        return key_id(self.public)

    def sign(self, text: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self.private.sign(text)


def signing_key(folder: Path) -> SigningKey:
    """Return the key of a folder, made on first use. Raises BadInput for a file that is none."""
    path = folder / _PRIVATE
    if not path.exists():
        _make(folder)
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no private key: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path} is no Ed25519 key")
    if not (folder / _PUBLIC).exists():
        _write_public(folder, key)
    return SigningKey(key)


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    draft = folder / f"{_PRIVATE}.{os.getpid()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, folder / _PRIVATE)  # fails where another process was first
    except FileExistsError:
        return
    finally:
        draft.unlink()
    # The first seal must not be signed with a key that a loss of power takes away.
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def _write_public(folder: Path, key: Ed25519PrivateKey) -> None:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    draft = folder / f"{_PUBLIC}.{os.getpid()}.new"
    draft.write_bytes(public)
    draft.replace(folder / _PUBLIC)


def trusted_keys(folder: Path, *files: Path) -> frozenset[bytes]:
    """Return the raw public keys in ``*.pub`` of a folder and in files of the caller's."""
    paths = [*sorted(folder.glob("*.pub")), *files]
    return frozenset(_read_public(path) for path in paths)


def _read_public(path: Path) -> bytes:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no public key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise BadInput(f"{path} is no Ed25519 public key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def is_signed(public: bytes, signature: bytes, text: bytes) -> bool:
    """Return whether a signature of a raw public key holds for a text."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True
