from __future__ import annotations

import logging

from pydantic import SecretStr

from smartops import redact
from tasks.run_context import _Redacting

CANARY = "c4n4ry/with+odd=characters"


def test_a_known_value_is_masked_wherever_it_stands() -> None:
    """Registered secrets go, also in the forms that they take inside of URLs."""
    redact.register(SecretStr(CANARY))
    for text in (CANARY, f"x{CANARY}y", "c4n4ry%2Fwith%2Bodd%3Dcharacters"):
        assert "c4n4ry" not in redact.text(text)


def test_a_secret_that_is_a_part_of_another_leaves_nothing_of_it() -> None:
    """The longer one goes first, whichever was known before."""
    redact.register("gr4ndmother")
    redact.register("gr4ndmother-in-l4w")
    assert redact.text("x gr4ndmother-in-l4w y") == f"x {redact.MASK} y"


def test_keys_and_shapes() -> None:
    """Values under telling keys, tokens and URLs with passwords are masked; the rest stays."""
    value = {
        "password": "short",
        "nested": [{"api_key": "k", "level": 3}],
        "url": "mysql://user:secret@host/db",
        "auth": "Bearer abcdefghijkl",
        "token_count": 5,
    }
    assert redact.scrub(value) == {
        "password": redact.MASK,
        "nested": [{"api_key": redact.MASK, "level": 3}],
        "url": f"mysql://user:{redact.MASK}@host/db",
        "auth": f"Bearer {redact.MASK}",
        "token_count": 5,
    }


def test_very_short_values_are_not_registered() -> None:
    """Masking every "1" would destroy the record and protect nobody."""
    redact.register("1")
    assert redact.text("101") == "101"


def test_log_records_and_tracebacks() -> None:
    """A secret in a message, an argument or a traceback does not reach a handler."""
    redact.register(CANARY)
    error = ValueError(CANARY)
    info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.INFO, "f", 1, "got %s", (CANARY,), info)
    assert _Redacting().filter(record)
    shown = logging.Formatter().format(record)
    assert "c4n4ry" not in shown
    assert "ValueError" in shown
