"""Steps that fetch files from REST services, and send files to them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from blocks import HttpService
from smartops import evidence_store
from smartops.drivers import rest_download
from smartops.drivers.rest_body import file_parts, file_stream
from smartops.drivers.rest_download import Wanted, safe_name
from smartops.errors import BadInput
from smartops.evidence_store import KeptFile
from smartops.file_names import file_name as name_of
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tasks.evidence import keep
from tasks.rest import as_its_effect_allows, effect_of_request, told, with_key
from tasks.step import current_record, step

_KEPT = timedelta(days=7)
"""How long a part of a file is kept for a later attempt."""


@step(effect=Effect.READ, kind="rest.download")
async def download(
    service: HttpService,
    path: str,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    name: str = "",
    checksum: str = "",
    max_bytes: int = 1_000_000_000,
) -> dict[str, Any]:
    """Fetch a file and keep it with the run's evidence. A later attempt goes on with a part of it.

    Returns its ``path``, ``name``, ``bytes``, ``sha256``, ``media_type``, and how often it was
    ``resumed``. Raises BadAnswer, ExpectationFailed, PermanentError and the errors of a request.
    """
    record, settings = current_record(), get_settings()
    _forget_old(settings.downloads_dir)
    called = safe_name(name or urlsplit(path).path.rpartition("/")[2])
    async with service.open() as client:
        wanted = Wanted(
            url=client.url(path, query),
            headers=headers or {},
            part=settings.downloads_dir / f"{name_of(f'{record.run_id} {record.step}')}.part",
            target=evidence_store.folder_of(record.run_id, record.id) / called,
            max_bytes=max_bytes,
            checksum=checksum,
            reserve=settings.journal_reserve,
        )
        found = await rest_download.download(client, wanted)
    kind = found.media_type or "application/octet-stream"
    kept = KeptFile(called, found.path, kind, found.sha256, found.size)
    places = await keep(record, [kept])
    return {
        "path": places[str(found.path)],
        "name": called,
        "bytes": found.size,
        "sha256": found.sha256,
        "media_type": kind,
        "resumed": found.resumed,
    }


@step(effect=effect_of_request, kind="rest.upload")
async def upload(
    service: HttpService,
    path: str,
    file: str,
    method: str = "POST",
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    field: str = "file",
    fields: Mapping[str, Any] | None = None,
    file_name: str = "",
    media_type: str = "application/octet-stream",
    expect_status: Sequence[int] = (),
    idempotency_key: bool = False,
) -> dict[str, Any]:
    """Send a file, as a part of a form or as the body itself.

    Returns what a request returns, and ``bytes``. Raises BadInput for a file that may not be sent,
    and the errors of a request.
    """
    with allowed_file(file) as source:
        called = file_name or source.name
        body = file_stream(source, media_type)
        if field:
            body = file_parts(source, field, called, media_type, fields or {})
        size = source.stat().st_size
        async with service.open() as client:
            answer = await client.request(
                method,
                path,
                query=query,
                headers=with_key(headers, idempotency_key),
                body=body,
                expect_status=expect_status,
                **as_its_effect_allows(),
            )
    return {**told(answer), "bytes": size}


@contextmanager
def allowed_file(file: str) -> Iterator[Path]:
    """Give the path of a file that steps may send. Raises BadInput for any other."""
    settings = get_settings()
    store = settings.evidence_store.rstrip("/")
    if store and file.startswith(f"{store}/") and ".." not in file.split("/"):
        with tempfile.TemporaryDirectory(prefix="smartops-upload-") as folder:
            copy = Path(folder) / safe_name(file.rpartition("/")[2])
            copy.write_bytes(evidence_store.read(file))
            yield copy
        return
    path = Path(file).resolve()
    folders = (settings.evidence_dir, *settings.upload_folders)
    if not any(path.is_relative_to(folder.resolve()) for folder in folders):
        raise BadInput(
            f"{file}: files of this folder may not be sent",
            hint="Name the folder in SMARTOPS_UPLOADS on the worker.",
        )
    if not path.is_file():
        raise BadInput(f"{file}: there is no such file")
    yield path


def _forget_old(folder: Path) -> None:
    """Take away parts of files that nobody has gone on with."""
    oldest = time.time() - _KEPT.total_seconds()
    for part in folder.glob("*"):
        with suppress(FileNotFoundError):
            if part.stat().st_mtime < oldest:
                part.unlink()
