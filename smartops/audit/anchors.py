"""Publishes seals outside of the database: in a file, a git repository, an S3 bucket, by mail.

Who can rewrite the database cannot also rewrite what an auditor has received. A file gets every
seal; the others get the last one at intervals, which vouches for all before it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import smtplib
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from smartops.audit.seal import Seal
from smartops.errors import BadInput, SmartOpsError, StoreUnavailable
from smartops.settings import Settings

logger = logging.getLogger(__name__)
_GIT_FILE = "smartops-seals.jsonl"
_GIT_S = 60
_LONGEST_LINE = 10_000
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class AnchorFailed(StoreUnavailable):
    """A place where seals are published cannot be used now; it is tried again."""


class Anchor(Protocol):
    """A place where seals are published."""

    @property
    def name(self) -> str:
        """The anchor as the setting writes it."""
        ...

    @property
    def every(self) -> timedelta:
        """How long it waits between two publications."""
        ...

    def publish(self, seals: Sequence[Seal]) -> None:
        """Publish seals, oldest first. Raises AnchorFailed."""
        ...

    def published(self) -> Iterable[Mapping[str, Any]]:
        """Return what can be read back; nothing where that is the auditor's to do."""
        ...


@dataclass(frozen=True)
class FileAnchor:
    """A file that each seal is added to, best on another disk or machine."""

    path: Path
    every: timedelta = timedelta()

    @property
    def name(self) -> str:
        """The anchor as the setting writes it."""
        return f"file:{self.path}"

    def publish(self, seals: Sequence[Seal]) -> None:
        """Add a line for each seal."""
        try:
            _append(self.path, seals)
        except OSError as error:
            raise AnchorFailed(f"{self.name}: {error.strerror or error}") from error

    def published(self) -> list[dict[str, Any]]:
        """Return the lines of the file. Raises AnchorFailed where it is gone."""
        return _read_back(self.name, self.path)


def _append(path: Path, seals: Sequence[Seal]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(seal.as_json()) + "\n" for seal in seals)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut_torn_line(file)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(file: BinaryIO) -> None:
    """Take away a last line that was being written when the power went; it is published again."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - _LONGEST_LINE)
    file.seek(start)
    tail = file.read()
    if tail and not tail.endswith(b"\n"):
        file.truncate(start + tail.rfind(b"\n") + 1)


def _read_back(name: str, path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise AnchorFailed(
            f"what was published at {name} cannot be read: there is no file {path}",
            hint="Without it nobody can say whether the end of the record was cut off.",
        )
    return read_file(path)


def read_file(path: Path) -> list[dict[str, Any]]:
    """Return the seals in a file of lines. Raises BadInput where a line cannot be read.

    A last line without an end was being written when the power went, and counts for nothing.
    """
    if not path.exists():
        return []
    try:
        *lines, _torn = path.read_text("utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise BadInput(f"{path} holds a line that is no seal: {error}") from None


@dataclass(frozen=True)
class GitAnchor:
    """A clone of a git repository: seals are committed, and pushed where there is an upstream."""

    folder: Path
    every: timedelta = timedelta(minutes=10)

    @property
    def name(self) -> str:
        """The anchor as the setting writes it."""
        return f"git:{self.folder}"

    def publish(self, seals: Sequence[Seal]) -> None:
        """Commit a line for each seal."""
        try:
            _append(self.folder / _GIT_FILE, seals)
        except OSError as error:
            raise AnchorFailed(f"{self.name}: {error.strerror or error}") from error
        self._git("add", _GIT_FILE)
        person = ("-c", "user.name=SmartOps", "-c", "user.email=smartops@localhost")
        self._git(*person, "commit", "--quiet", "-m", f"Seal {seals[-1].number}", "--", _GIT_FILE)
        if self._git("for-each-ref", "--format=%(upstream)", "refs/heads").strip():
            self._git("push", "--quiet")

    def _git(self, *arguments: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - our own arguments
                ["git", "-C", str(self.folder), *arguments],  # noqa: S607
                capture_output=True,
                text=True,
                check=False,
                timeout=_GIT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise AnchorFailed(f"{self.name}: {error}") from error
        if done.returncode != 0:
            raise AnchorFailed(f"{self.name}: git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def published(self) -> list[dict[str, Any]]:
        """Return the lines of the file. Raises AnchorFailed where it is gone."""
        return _read_back(self.name, self.folder / _GIT_FILE)


@dataclass(frozen=True)
class S3Anchor:
    """A bucket, best with object lock: an object for each publication."""

    bucket: str
    prefix: str
    every: timedelta = timedelta(minutes=10)

    @property
    def name(self) -> str:
        """The anchor as the setting writes it."""
        return f"s3:{self.bucket}/{self.prefix}"

    def _client(self) -> Any:
        try:
            import boto3  # noqa: PLC0415 - an extra: few installations need it
        except ImportError:
            raise AnchorFailed(
                f"{self.name} needs the package boto3", hint="pip install 'smartops[s3]'"
            ) from None
        return boto3.client("s3")

    def publish(self, seals: Sequence[Seal]) -> None:
        """Put the last seal; it vouches for those before it."""
        client = self._client()
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        last = seals[-1]
        key = f"{self.prefix.strip('/')}/{last.number:012d}.json".lstrip("/")
        body = json.dumps(last.as_json()).encode()
        try:
            # With object lock a bucket asks for a checksum.
            client.put_object(Bucket=self.bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256")
        except (BotoCoreError, ClientError) as error:
            raise AnchorFailed(f"{self.name}: {error}") from error

    def published(self) -> list[dict[str, Any]]:
        """Return the seals of the bucket."""
        client = self._client()
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        prefix = f"{self.prefix.strip('/')}/".lstrip("/")
        found: list[dict[str, Any]] = []
        try:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix
            )
            for item in (item for page in pages for item in page.get("Contents", ())):
                answer = client.get_object(Bucket=self.bucket, Key=item["Key"])
                found.append(json.loads(answer["Body"].read()))
        except (BotoCoreError, ClientError) as error:
            raise AnchorFailed(f"{self.name}: {error}") from error
        return found


@dataclass(frozen=True)
class MailAnchor:
    """A person who gets the last seal once a day."""

    address: str
    server: str
    sender: str
    every: timedelta = timedelta(days=1)

    @property
    def name(self) -> str:
        """The anchor as the setting writes it."""
        return f"mail:{self.address}"

    def publish(self, seals: Sequence[Seal]) -> None:
        """Send the last seal; it vouches for those before it."""
        last = seals[-1]
        mail = EmailMessage()
        mail["Subject"] = f"SmartOps audit seal {last.number}"
        mail["From"], mail["To"] = self.sender, self.address
        mail.set_content(
            "Keep this mail: with its line in a file, `smartops audit verify --anchor FILE` proves "
            f"that nothing up to {last.sealed_at:%Y-%m-%d %H:%M:%S} UTC was altered since.\n\n"
            f"{json.dumps(last.as_json())}\n"
        )
        host, _, port = self.server.partition(":")
        try:
            with smtplib.SMTP(host, int(port or 25), timeout=10) as smtp:
                smtp.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            raise AnchorFailed(f"{self.name}: {error}") from error

    def published(self) -> list[dict[str, Any]]:
        """Return nothing: the mails are the auditor's."""
        return []


def anchors_of(settings: Settings) -> list[Anchor]:
    """Return the anchors that the settings name. Raises BadInput."""
    words = [word.strip() for word in settings.seal_anchors.split(",") if word.strip()]
    if not words:
        return [FileAnchor(settings.home / "anchors" / "seals.jsonl")]
    return [_anchor(word, settings) for word in words]


def _anchor(word: str, settings: Settings) -> Anchor:
    kind, _, place = word.partition(":")
    if place and kind == "file":
        return FileAnchor(Path(place))
    if place and kind == "git":
        return GitAnchor(Path(place))
    if place and kind == "s3":
        bucket, _, prefix = place.partition("/")
        return S3Anchor(bucket, prefix)
    if place and kind == "mail":
        port = settings.mail_server.partition(":")[2]
        if port and not port.isdecimal():
            raise BadInput(f"SMARTOPS_MAIL_SERVER: {settings.mail_server!r} is not host:port")
        return MailAnchor(place, settings.mail_server, settings.mail_from)
    raise BadInput(
        f"SMARTOPS_SEAL_ANCHORS: {word!r} is no anchor",
        hint="Write file:/path, git:/path/to/clone, s3:bucket/prefix or mail:someone@example.com.",
    )


@dataclass(frozen=True)
class _Place:
    """What an anchor has got so far."""

    number: int = 0
    at: datetime = _NEVER
    failing: bool = False


class Publisher:
    """Brings new seals to the anchors, each at its own pace, and remembers how far each is."""

    def __init__(self, anchors: Sequence[Anchor], memory: Path) -> None:
        self._anchors = anchors
        self._memory = memory
        self._places = {anchor.name: self._remembered(anchor.name) for anchor in anchors}

    def _remembered(self, name: str) -> _Place:
        try:
            known = json.loads(self._memory.read_text("utf-8"))[name]
            return _Place(known["number"], datetime.fromisoformat(known["at"]))
        except (OSError, ValueError, KeyError):
            return _Place()

    def oldest_wanted(self, now: datetime) -> int | None:
        """Return the number after which an anchor wants seals now, None when none does."""
        due = [self._places[a.name].number for a in self._anchors if self._due(a, now)]
        return min(due, default=None)

    def _due(self, anchor: Anchor, now: datetime) -> bool:
        return now - self._places[anchor.name].at >= anchor.every

    def publish(self, seals: Sequence[Seal], now: datetime) -> None:
        """Give each anchor that is due the seals it has not got. A failure is logged once."""
        for anchor in self._anchors:
            place = self._places[anchor.name]
            new = [seal for seal in seals if seal.number > place.number]
            if not new or not self._due(anchor, now) or new[0].number != place.number + 1:
                continue  # a page that it did not get comes first
            try:
                anchor.publish(new)
            except SmartOpsError as error:
                if not place.failing:
                    logger.warning("a seal is not published: %s; trying again", error.one_line)
                self._places[anchor.name] = replace(place, failing=True)
                continue
            if place.failing:
                logger.warning("seals are published again at %s", anchor.name)
            self._places[anchor.name] = _Place(new[-1].number, now)
            with suppress(OSError):  # then it is published twice, which harms nobody
                self._remember()

    def _remember(self) -> None:
        self._memory.parent.mkdir(parents=True, exist_ok=True)
        known = {
            name: {"number": place.number, "at": place.at.isoformat()}
            for name, place in self._places.items()
        }
        draft = self._memory.with_suffix(".new")
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(self._memory)


def anchored_hashes(published: Iterable[Mapping[str, Any]]) -> dict[int, bytes]:
    """Return the hashes of published seals by number. Raises BadInput for two of one number."""
    found: dict[int, bytes] = {}
    for seal in published:
        try:
            number, digest = int(seal["seal"]), bytes.fromhex(seal["hash"])
        except (KeyError, TypeError, ValueError):
            raise BadInput(f"{seal!r} is no published seal") from None
        if found.setdefault(number, digest) != digest:
            raise BadInput(f"seal {number} was published twice, and not alike")
    return found
