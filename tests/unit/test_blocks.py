"""The connections against the test suite that Prefect publishes for blocks."""

from __future__ import annotations

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from blocks import BrowserProfile, HttpService, ModbusDevice, MqttBroker, OpcUaServer, SerialLine
from smartops import redact


class TestBlockStandards(BlockStandardTestSuite):
    """Descriptions, code examples, documentation."""

    @pytest.fixture(
        params=[BrowserProfile, HttpService, ModbusDevice, MqttBroker, OpcUaServer, SerialLine]
    )
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        found: type[Block] = request.param
        return found

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """A picture would have to be fetched from the web; SmartOps works without a network."""
        assert block._logo_url is None


def test_unknown_fields_are_refused() -> None:
    """A misspelt field is not silently dropped."""
    with pytest.raises(ValidationError):
        ModbusDevice.model_validate({"host": "h", "hots": "h"})


def test_a_tag_given_twice_is_refused() -> None:
    """Two tags of one name would hide one another."""
    tags = [{"name": "a", "address": 1}, {"name": "a", "address": 2}]
    with pytest.raises(ValidationError, match="given twice"):
        ModbusDevice(host="h", tags=tags)


@pytest.mark.parametrize(
    "login",
    [{"token": "t", "username": "u", "password": "p"}, {"username": "u"}, {"password": "p"}],
)
def test_a_login_is_one_way_or_another(login: dict[str, str]) -> None:
    """A token, or user name with password, never half of it."""
    with pytest.raises(ValidationError):
        HttpService(base_url="http://h", **login)


def test_loading_a_connection_makes_its_secrets_known() -> None:
    """Before any of them can be used."""
    HttpService(base_url="http://h", token=SecretStr("k3pt-from-the-logs"))
    assert redact.text("k3pt-from-the-logs") == redact.MASK
