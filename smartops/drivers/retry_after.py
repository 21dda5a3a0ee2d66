"""How long a service asks to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_LONGEST_WAIT_S = 3600


def retry_after(text: str, now: datetime | None = None) -> timedelta | None:
    """Return how long a Retry-After header asks to wait: seconds, or a date (RFC 9110, 10.2.3)."""
    if text.strip().isdecimal():
        return timedelta(seconds=min(int(text), _LONGEST_WAIT_S))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:  # it ends with -0000
        moment = moment.replace(tzinfo=UTC)
    left = (moment - (now or datetime.now(UTC))).total_seconds()
    return timedelta(seconds=min(max(left, 0.0), _LONGEST_WAIT_S))
