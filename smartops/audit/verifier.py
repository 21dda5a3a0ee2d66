"""Verifies an export of SmartOps' audit record; needs Python and the package ``cryptography``.

Usage: ``python verify.py EXPORT.zip [PUBLIC_KEY] [SEAL_HASH]``. It does not use SmartOps: read it,
it is short, and take it from where you trust it, as who alters the file can alter this copy too.
The public key (a PEM file, or hex) that you got on another way proves who sealed; the hash of a
seal that was published proves that the file holds at least everything up to that seal.
"""

import hashlib
import json
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

Place = tuple[str, int]


def tampered(what: str) -> NoReturn:
    """End: the file is not what was recorded."""
    sys.stderr.write(f"TAMPERED: {what}\n")
    sys.exit(1)


def sha(data: bytes) -> bytes:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).digest()


def root(level: list[bytes]) -> bytes:
    """Return the Merkle root of some leaves; an odd one goes up as it is."""
    while len(level) > 1:
        above = [sha(b"\1" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = above + level[len(above) * 2 :]
    return level[0]


def check_events(lines: list[dict[str, Any]]) -> dict[Place, bytes]:
    """Check the chain of each run in each stream; return the hashes by stream and number."""
    hashes: dict[Place, bytes] = {}
    heads: dict[tuple[str, str], tuple[int, bytes]] = {}
    for line in lines:
        digest = bytes.fromhex(line["hash"])
        if "body" in line:  # of other runs' events only the hash is given
            chain = (line["stream"], line["run_id"])
            count, head = heads.get(chain, (0, bytes(32)))
            numbers = struct.pack(">QQq", line["seq"], line["run_seq"], line["at_us"])
            data = head + bytes.fromhex(line["stream"]) + numbers + bytes.fromhex(line["run_id"])
            data += (
                bytes.fromhex(line["id"]) + line["type"].encode() + b"\0" + line["body"].encode()
            )
            if line["run_seq"] != count + 1 or sha(data) != digest:
                tampered(f"event {line['seq']} of stream {line['stream']}")
            heads[chain] = (count + 1, digest)
        hashes[line["stream"], line["seq"]] = digest
    return hashes


def check_seal(seal: dict[str, Any], trusted: str) -> None:
    """Check what a seal's signature covers: its parts, its place, its time."""
    leaves, events = [], 0
    for part in seal["parts"]:
        packed = struct.pack(">16sQQ", bytes.fromhex(part["stream"]), part["first"], part["last"])
        leaves.append(sha(b"part" + packed + bytes.fromhex(part["root"])))
        events += part["last"] - part["first"] + 1
    key = bytes.fromhex(seal["public_key"])
    text = b"smartops-seal-1" + struct.pack(">Q", seal["seal"]) + bytes.fromhex(seal["before"])
    text += root(leaves) + struct.pack(">QQ", events, seal["at_us"]) + sha(key)[:16]
    if sha(text).hex() != seal["hash"] or trusted not in {"", key.hex()}:
        tampered(f"seal {seal['seal']} is not what was signed, or not by the key that you trust")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(seal["signature"]), text)
    except InvalidSignature:
        tampered(f"the signature of seal {seal['seal']}")


def check_seals(seals: list[dict[str, Any]], trusted: str) -> None:
    """Check all seals, and that each that follows another names it."""
    before: dict[str, Any] = {"seal": 0, "hash": bytes(32).hex()}
    for seal in seals:
        if seal["seal"] == before["seal"] + 1 and seal["before"] != before["hash"]:
            tampered(f"seal {seal['seal']} does not follow from the one before")
        check_seal(seal, trusted)
        before = seal


def covered(
    seals: list[dict[str, Any]], hashes: dict[Place, bytes]
) -> tuple[set[Place], list[dict[str, Any]]]:
    """Return which events the seals prove, and the parts of which events are missing."""
    proved: set[Place] = set()
    broken = []
    for part in (part for seal in seals for part in seal["parts"]):
        places = [(part["stream"], seq) for seq in range(part["first"], part["last"] + 1)]
        found = [hashes[place] for place in places if place in hashes]
        if len(found) == len(places) and root(found) == bytes.fromhex(part["root"]):
            proved.update(places)
        elif found:
            broken.append(part)
    return proved, broken


def main(arguments: list[str]) -> None:
    """Verify the export that is named; end with 1 where it was tampered with, 2 on bad use."""
    try:
        with zipfile.ZipFile(arguments[0]) as export:
            lines = [json.loads(line) for line in export.read("events.jsonl").splitlines()]
            seals = [json.loads(line) for line in export.read("seals.jsonl").splitlines()]
        trusted = public_key(arguments[1]) if arguments[1:] else ""
    except (IndexError, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        sys.stderr.write(f"usage: verify.py EXPORT.zip [PUBLIC_KEY] [SEAL_HASH] ({error})\n")
        sys.exit(2)
    hashes = check_events(lines)
    check_seals(seals, trusted)
    proved, broken = covered(seals, hashes)
    # What was pruned may be missing, if a sealed event says so; what was kept of it has its chain.
    words = [line for line in lines if line.get("type") == "records.pruned"]
    sealed = [json.loads(w["body"]) for w in words if (w["stream"], w["seq"]) in proved]
    pruned = max((word["streams_before"] for word in sealed), default="")
    for part in broken:
        if part["stream"] >= pruned:
            tampered(f"stream {part['stream']}, {part['first']} to {part['last']}")
    kept = {place for place in hashes if place[0] < pruned and place not in proved}
    if loose := set(hashes) - proved - kept:
        tampered(f"{len(loose)} events are under no seal, such as {min(loose)}")
    if len(arguments) > 2 and arguments[2] not in {seal["hash"] for seal in seals}:
        tampered("the seal that was published is not in the file")
    numbers = [seal["seal"] for seal in seals]
    gaps = "" if numbers == list(range(1, len(numbers) + 1)) else ", not all of the record"
    keys = ", ".join(sorted({seal["public_key"] for seal in seals}))
    text = f"OK: {len(proved)} events under {len(seals)} seals (to number {numbers[-1]}{gaps})"
    text += f", {len(kept)} kept from what was pruned" if kept else ""
    sys.stdout.write(f"{text}; signed by {keys}\n")


def public_key(text: str) -> str:
    """Return a public key as hex: from hex, or from a PEM file."""
    if Path(text).is_file():
        key = load_pem_public_key(Path(text).read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{text} is no Ed25519 public key")
        return key.public_bytes_raw().hex()
    if len(bytes.fromhex(text)) != 32:
        raise ValueError(f"{text} is neither a key file nor 64 hex digits")
    return text.lower()


if __name__ == "__main__":
    main(sys.argv[1:])
