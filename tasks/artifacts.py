"""What steps show in Prefect's UI beside their runs."""

from __future__ import annotations

import asyncio
import logging

from prefect.artifacts import acreate_markdown_artifact

from smartops import redact

_PREFECT_S = 10.0
logger = logging.getLogger(__name__)


async def show(markdown: str, key: str, description: str) -> None:
    """Show a text as an artifact. It never raises, nor waits for long: it is on record as well."""
    try:
        async with asyncio.timeout(_PREFECT_S):
            await acreate_markdown_artifact(
                markdown=redact.text(markdown), key=key, description=description
            )
    except Exception as error:  # noqa: BLE001 - whatever Prefect's client raises
        logger.warning("no artifact in Prefect's UI: %s", redact.text(str(error)))
