"""The reconciler takes a small share of a busy server."""

from __future__ import annotations

import pytest

from services.reconciler import _pause_s


@pytest.mark.parametrize(("took_s", "pause_s"), [(0.01, 0.5), (0.5, 2.0), (10.0, 3.0)])
def test_a_round_that_took_long_is_rested_from(took_s: float, pause_s: float) -> None:
    """Half a second at the least, four times as long as it took, never beyond the interval."""
    assert _pause_s(took_s, 3.0) == pause_s
