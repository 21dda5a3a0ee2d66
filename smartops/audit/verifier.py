"""Verifies an export of SmartOps' audit record; needs Python and the package ``cryptography``.

Usage: ``python verify.py EXPORT.zip [PUBLIC_KEY_HEX]``. It does not use SmartOps: read it, it is
short. With the public key that you got on another way, it also proves who sealed.
"""

import hashlib
import json
import struct
import sys
import zipfile
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha(data: bytes) -> bytes:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).digest()


def root(level: list[bytes]) -> bytes:
    """Return the Merkle root of some leaves; an odd one goes up as it is."""
    while len(level) > 1:
        above = [sha(b"\1" + level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = above + level[len(above) * 2 :]
    return level[0]


def check_events(lines: list[dict[str, Any]]) -> dict[str, dict[int, bytes]]:
    """Check the chain of each run in each stream; return the hashes by stream and number."""
    hashes: dict[str, dict[int, bytes]] = {}
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
                sys.exit(f"TAMPERED: event {line['seq']} of stream {line['stream']}")
            heads[chain] = (count + 1, digest)
        hashes.setdefault(line["stream"], {})[line["seq"]] = digest
    return hashes


def pruned_before(lines: list[dict[str, Any]]) -> str:
    """Return below which id the events of streams may be missing, as the record itself says."""
    words = [json.loads(line["body"]) for line in lines if line.get("type") == "records.pruned"]
    return max((word["streams_before"] for word in words), default="")


def check_seal(
    seal: dict[str, Any], hashes: dict[str, dict[int, bytes]], trusted: str, pruned: str
) -> int:
    """Check a seal and the events that it covers; return how many of them are in the export."""
    leaves, events, covered = [], 0, 0
    for part in seal["parts"]:
        numbers = range(part["first"], part["last"] + 1)
        known = hashes.get(part["stream"], {})
        found = [known.pop(seq) for seq in numbers if seq in known]
        part_root = bytes.fromhex(part["root"])
        gone = part["stream"] < pruned and len(found) != len(numbers)
        if found and not gone and (len(found) != len(numbers) or root(found) != part_root):
            sys.exit(f"TAMPERED: stream {part['stream']}, {part['first']} to {part['last']}")
        packed = struct.pack(">16sQQ", bytes.fromhex(part["stream"]), part["first"], part["last"])
        leaves.append(sha(b"part" + packed + part_root))
        events, covered = events + len(numbers), covered + len(found)
    key = bytes.fromhex(seal["public_key"])
    before = bytes.fromhex(seal["before"])
    numbers_of_seal = struct.pack(">QQ", events, seal["at_us"]) + sha(key)[:16]
    text = b"smartops-seal-1" + struct.pack(">Q", seal["seal"]) + before + root(leaves)
    text += numbers_of_seal
    if sha(text).hex() != seal["hash"] or trusted not in {"", key.hex()}:
        sys.exit(f"TAMPERED: seal {seal['seal']}")
    Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(seal["signature"]), text)
    return covered


def main() -> None:
    """Verify the export that is named; end with an error where it was tampered with."""
    with zipfile.ZipFile(sys.argv[1]) as export:
        lines = [json.loads(line) for line in export.read("events.jsonl").splitlines()]
        seals = [json.loads(line) for line in export.read("seals.jsonl").splitlines()]
    hashes = check_events(lines)
    trusted = sys.argv[2] if len(sys.argv) > 2 else ""
    covered = 0
    before: dict[str, Any] = {"seal": 0, "hash": bytes(32).hex()}
    for seal in seals:
        if seal["seal"] == before["seal"] + 1 and seal["before"] != before["hash"]:
            sys.exit(f"TAMPERED: seal {seal['seal']} does not follow from the one before")
        covered += check_seal(seal, hashes, trusted, pruned_before(lines))
        before = seal
    loose = sum(len(left) for left in hashes.values())
    keys = ", ".join(sorted({seal["public_key"] for seal in seals}))
    sealed = f"{covered} events under {len(seals)} seals, {loose} not sealed yet"
    sys.stdout.write(f"OK: {sealed}; signed by {keys}\n")


if __name__ == "__main__":
    main()
