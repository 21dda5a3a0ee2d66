"""What Prefect finds out each time anew, found out once in a process.

Its server checks for each run that is made, and twice for each deployment, whether the schema of
the parameters is a schema: half a second for that of a job, in which nobody else is served. Each of
its clients reads the certificates of all authorities (some 20 ms, for an API without TLS too),
each schedule that it reads or checks makes it walk through the files of all time zones (10 ms),
and for each deployment `prefect deploy` describes the parameters of its flow twice.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import zoneinfo
from functools import cache, lru_cache, wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from prefect.client import orchestration
from prefect.types import _datetime
from prefect.utilities import callables
from prefect.utilities.schema_tools import validation

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.utilities.callables import ParameterSchema

_MOST_SCHEMAS = 1000


def certificates() -> None:
    """Let all of Prefect's clients share what they trust."""
    if orchestration.__dict__["ssl"] is not ssl:
        return
    context = lru_cache(maxsize=8)(ssl.create_default_context)
    names = {name: getattr(ssl, name) for name in dir(ssl) if not name.startswith("__")}
    shared: Any = SimpleNamespace(**{**names, "create_default_context": context})
    orchestration.__dict__["ssl"] = shared


def time_zones() -> None:
    """Let Prefect look for the names of time zones once."""
    if _datetime.__dict__["available_timezones"] is not zoneinfo.available_timezones:
        return
    found = cache(zoneinfo.available_timezones)
    _datetime.__dict__["available_timezones"] = lambda: set(found())


def schemas() -> None:
    """Let Prefect check a schema once, however many parameters are compared with it."""
    validators: tuple[Any, ...] = (validation._VALIDATOR, Draft202012Validator)
    for validator in validators:
        if not isinstance(validator.check_schema, _SchemaCheck):
            validator.check_schema = _SchemaCheck(validator.check_schema)


class _SchemaCheck:
    """Checks schemas, but for those that were right already."""

    def __init__(self, check: Callable[..., None]) -> None:
        self._check = check
        self._right: set[bytes] = set()

    def __call__(self, schema: Any, **options: Any) -> None:
        """Raise jsonschema.SchemaError for what is no schema."""
        text = json.dumps([schema, sorted(options)], sort_keys=True, default=repr)
        key = hashlib.sha256(text.encode()).digest()
        if key not in self._right:
            self._check(schema, **options)
            if len(self._right) >= _MOST_SCHEMAS:
                self._right.clear()
            self._right.add(key)


def parameters_of_flows() -> None:
    """Let Prefect describe the parameters of a flow once. For what deploys many of the same."""
    describe = callables.parameter_schema
    known: dict[Callable[..., Any], ParameterSchema] = {}

    @wraps(describe)
    def once(function: Callable[..., Any]) -> ParameterSchema:
        if function not in known:
            known[function] = describe(function)
        return known[function].model_copy(deep=True)

    callables.__dict__["parameter_schema"] = once
