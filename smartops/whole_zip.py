"""ZIP files that are there as a whole, or not at all."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smartops.errors import BadInput


@contextmanager
def new_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Give a ZIP file to write to; what fails within leaves none.

    Raises BadInput where there is a file already, or none can be written.
    """
    if path.exists():
        raise BadInput(f"{path} is there already; name another file")
    part = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as made:
            yield made
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
