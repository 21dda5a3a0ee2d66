"""Seals are published outside of the database: to a file, a git repository, S3, by mail."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from smartops import errors
from smartops.audit.anchors import (
    AnchorFailed,
    FileAnchor,
    GitAnchor,
    MailAnchor,
    Publisher,
    S3Anchor,
    anchored_hashes,
    anchors_of,
    read_file,
)
from smartops.audit.seal import Seal
from smartops.settings import Settings, get_settings
from tests.conftest import free_port

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def seals(*numbers: int) -> list[Seal]:
    return [Seal(n, bytes([n]) * 32, NOW, 1, bytes(32), bytes(64)) for n in numbers]


def test_a_file(tmp_path: Path) -> None:
    """A line for each seal; a torn last line counts for nothing, a broken one is told."""
    anchor = FileAnchor(tmp_path / "deep" / "seals.jsonl")
    with pytest.raises(AnchorFailed, match="cannot be read"):
        anchor.published()
    anchor.publish(seals(1, 2))
    anchor.publish(seals(3))
    with anchor.path.open("a") as file:
        file.write('{"seal": 4, "ha')
    assert anchored_hashes(anchor.published()) == {n: bytes([n]) * 32 for n in (1, 2, 3)}
    with anchor.path.open("a") as file:
        file.write("\n")
    with pytest.raises(errors.BadInput, match="no seal"):
        anchor.published()
    (tmp_path / "file").write_text("")
    with pytest.raises(AnchorFailed):
        FileAnchor(tmp_path / "file" / "x").publish(seals(1))


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout


def test_a_git_repository(tmp_path: Path) -> None:
    """Seals are committed and pushed to where the clone came from."""
    git(tmp_path, "init", "--quiet", "--bare", "far.git")
    git(tmp_path, "clone", "--quiet", "far.git", "near")
    anchor = GitAnchor(tmp_path / "near")
    anchor.publish(seals(1, 2))
    git(tmp_path / "near", "push", "--quiet", "--set-upstream", "origin", "HEAD")
    anchor.publish(seals(3))
    assert "Seal 3\nSeal 2\n" in git(tmp_path / "far.git", "log", "--format=%s")
    assert [seal["seal"] for seal in anchor.published()] == [1, 2, 3]
    with pytest.raises(AnchorFailed, match="git"):
        GitAnchor(tmp_path).publish(seals(1))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server with a bucket that has object lock."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="audit", ObjectLockEnabledForBucket=True)
    yield client
    client.close()
    server.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_bucket(s3: Any) -> None:
    """The last seal is an object; what is there can be read back and compared."""
    anchor = S3Anchor("audit", "line-1")
    anchor.publish(seals(1, 2, 3))
    anchor.publish(seals(4))
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="audit")["Contents"]]
    assert keys == ["line-1/000000000003.json", "line-1/000000000004.json"]
    assert set(anchored_hashes(anchor.published())) == {3, 4}
    with pytest.raises(AnchorFailed):
        S3Anchor("nowhere", "").publish(seals(1))


class _Box(MessageHandler):
    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_mail(tmp_path: Path) -> None:
    """The mail holds the line that `--anchor` takes; a server that is away is told."""
    box = _Box()
    server = Controller(box, hostname="127.0.0.1", port=free_port())
    server.start()
    address = f"127.0.0.1:{server.port}"
    MailAnchor("auditor@example.com", address, "smartops@localhost").publish(seals(7, 8))
    server.stop()
    (mail,) = box.mails
    assert (mail["To"], mail["Subject"]) == ("auditor@example.com", "SmartOps audit seal 8")
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    line = text.decode().strip().splitlines()[-1]
    (tmp_path / "kept").write_text(f"{line}\n")
    assert anchored_hashes(read_file(tmp_path / "kept")) == {8: bytes([8]) * 32}
    with pytest.raises(AnchorFailed):
        MailAnchor("a@b", address, "c@d").publish(seals(9))


def test_each_anchor_at_its_own_pace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A failing one is told once and tried again; the others go on; a restart forgets nothing."""
    good = FileAnchor(tmp_path / "good")
    slow = FileAnchor(tmp_path / "slow", every=timedelta(minutes=10))
    (tmp_path / "file").write_text("")
    bad = FileAnchor(tmp_path / "file" / "x")
    publisher = Publisher([good, slow, bad], tmp_path / "state.json")
    assert publisher.oldest_wanted(NOW) == 0
    publisher.publish(seals(1), NOW)
    publisher.publish(seals(1, 2), NOW + timedelta(minutes=1))
    assert sum("is not published" in text for text in caplog.messages) == 1
    (tmp_path / "file").unlink()
    again = Publisher([good, slow, bad], tmp_path / "state.json")
    assert again.oldest_wanted(NOW + timedelta(minutes=11)) == 0
    again.publish(seals(1, 2, 3), NOW + timedelta(minutes=11))
    found = [[seal["seal"] for seal in place.published()] for place in (good, slow, bad)]
    assert found == [[1, 2, 3], [1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize("text", ["nonsense", "file:", "ftp:x", "git"])
def test_a_setting_that_names_no_anchor(text: str) -> None:
    """Refused, with what can be written instead."""
    with pytest.raises(errors.BadInput, match="is no anchor"):
        anchors_of(Settings(seal_anchors=text))


def test_the_anchors_of_the_settings(home: Path) -> None:
    """A file in the home folder by default; else those that are named."""
    assert [a.name for a in anchors_of(get_settings())] == [f"file:{home}/anchors/seals.jsonl"]
    text = "file:/a, git:/b,s3:c/d/e ,mail:f@g"
    names = [anchor.name for anchor in anchors_of(Settings(seal_anchors=text))]
    assert names == ["file:/a", "git:/b", "s3:c/d/e", "mail:f@g"]


def test_two_seals_of_one_number() -> None:
    """Somebody published two histories: told before anything else."""
    one = {"seal": 1, "hash": "aa"}
    assert anchored_hashes([one, one]) == {1: b"\xaa"}
    with pytest.raises(errors.BadInput, match="not alike"):
        anchored_hashes([one, {"seal": 1, "hash": "bb"}])
    with pytest.raises(errors.BadInput, match="no published seal"):
        anchored_hashes([json.loads("{}")])


def test_a_torn_line_is_taken_away(tmp_path: Path) -> None:
    """The next seal is not glued to what the loss of power has left."""
    anchor = FileAnchor(tmp_path / "seals")
    anchor.publish(seals(1))
    with anchor.path.open("a") as file:
        file.write('{"seal": 2, "ha')
    anchor.publish(seals(2, 3))
    assert [seal["seal"] for seal in anchor.published()] == [1, 2, 3]


def test_no_page_is_left_out(tmp_path: Path) -> None:
    """An anchor that failed on the first page of many does not take the second for the first."""
    (tmp_path / "file").write_text("")
    anchor = FileAnchor(tmp_path / "file" / "x")
    publisher = Publisher([anchor], tmp_path / "state.json")
    publisher.publish(seals(1, 2), NOW)
    (tmp_path / "file").unlink()
    publisher.publish(seals(3, 4), NOW)
    assert not anchor.path.exists()
    publisher.publish(seals(1, 2), NOW)
    publisher.publish(seals(3, 4), NOW)
    assert [seal["seal"] for seal in anchor.published()] == [1, 2, 3, 4]


def test_a_mail_server_that_is_none() -> None:
    """Told at once, and not when the first mail is due."""
    with pytest.raises(errors.BadInput, match="host:port"):
        anchors_of(Settings(seal_anchors="mail:a@b", mail_server="host:smtp"))
