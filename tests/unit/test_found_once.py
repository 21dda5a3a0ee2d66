"""What Prefect would find out each time anew is found out once, and is the same."""

from __future__ import annotations

import ssl
import zoneinfo
from typing import Any

import pytest
from jsonschema import Draft202012Validator, SchemaError, validators
from prefect._internal.schemas.validators import (
    validate_parameter_openapi_schema,
    validate_values_conform_to_schema,
)
from prefect.client import orchestration
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.types import _datetime
from prefect.utilities import callables
from prefect.utilities.schema_tools import validation

from flows.run_job import run_job
from services import found_once

_CHECK = validators.create(
    Draft202012Validator.META_SCHEMA, Draft202012Validator.VALIDATORS
).check_schema


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return self.function(*args, **options)


@pytest.fixture(autouse=True)
def _as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Prefect be as nobody has touched it, and put back afterwards what was replaced."""
    monkeypatch.setattr(orchestration, "ssl", ssl)
    monkeypatch.setattr(_datetime, "available_timezones", zoneinfo.available_timezones)
    monkeypatch.setattr(validation._VALIDATOR, "check_schema", _CHECK)
    monkeypatch.setattr(Draft202012Validator, "check_schema", _CHECK)
    monkeypatch.setattr(callables, "parameter_schema", callables.parameter_schema)


def test_clients_share_the_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Counted(ssl.create_default_context)
    monkeypatch.setattr(ssl, "create_default_context", reads)
    found_once.certificates()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        clients = [get_client(sync_client=True) for _ in range(3)]
    assert reads.calls == 1
    for client in clients:
        context = client._client._transport._pool._ssl_context  # type: ignore[attr-defined]
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


def test_schedules_share_the_names_of_time_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = Counted(zoneinfo.available_timezones)
    monkeypatch.setattr(zoneinfo, "available_timezones", walks)
    monkeypatch.setattr(_datetime, "available_timezones", walks)
    found_once.time_zones()
    for zone in ("Europe/Berlin", "Asia/Tokyo", "UTC"):
        CronSchedule(cron="0 6 * * *", timezone=zone)
    assert walks.calls == 1
    assert set(_datetime.get_timezones()) == zoneinfo.available_timezones()
    with pytest.raises(ValueError, match="Berlin/Europe"):
        CronSchedule(cron="0 6 * * *", timezone="Berlin/Europe")


def test_a_schema_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Counted(_CHECK)
    monkeypatch.setattr(validation._VALIDATOR, "check_schema", checks)
    found_once.schemas()
    found_once.schemas()
    for limit in (1, 2):
        schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": limit}}}
        for value in (1, 1, 2):
            if value <= limit:
                validation.validate({"a": value}, schema, raise_on_error=True)
            else:
                with pytest.raises(validation.ValidationError, match="maximum"):
                    validation.validate({"a": value}, schema, raise_on_error=True)
    assert checks.calls == 2
    for _ in range(2):
        with pytest.raises(SchemaError):
            validation.validate({}, {"type": "nonsense"}, raise_on_error=True)
        with pytest.raises(ValueError, match="nonsense"):
            validation.is_valid_schema({"type": "nonsense"})
    assert checks.calls == 6


def test_a_deployments_schema_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Counted(_CHECK)
    monkeypatch.setattr(Draft202012Validator, "check_schema", checks)
    found_once.schemas()
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for _ in range(3):
        validate_parameter_openapi_schema(schema, {"enforce_parameter_schema": True})
        validate_values_conform_to_schema({"a": 1}, schema)
        with pytest.raises(ValueError, match="'one'"):
            validate_values_conform_to_schema({"a": "one"}, schema)
    assert checks.calls == 1


def test_a_flow_is_described_once_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = callables.parameter_schema(run_job)
    describes = Counted(callables.parameter_schema)
    monkeypatch.setattr(validation._VALIDATOR, "check_schema", _CHECK)
    monkeypatch.setattr(Draft202012Validator, "check_schema", _CHECK)
    monkeypatch.setattr(callables, "parameter_schema", describes)
    found_once.parameters_of_flows()
    first, second = (callables.parameter_schema(run_job) for _ in range(2))
    assert describes.calls == 1
    assert first == second == alone
    first.definitions.clear()
    assert (
        second.definitions == callables.parameter_schema(run_job).definitions == alone.definitions
    )
