"""The connections against the test suite that Prefect publishes for blocks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

import blocks
from blocks import HttpService, ModbusDevice, MqttBroker
from smartops import redact
from smartops.drivers.rest import ApiKey, Signing
from smartops.drivers.rest_oauth import OAuth
from smartops.drivers.rest_pool import Tls
from smartops.drivers.rest_rate import Rate


class TestBlockStandards(BlockStandardTestSuite):
    """Descriptions, code examples, documentation."""

    @pytest.fixture(params=sorted(set(blocks.__all__) - {"Connection", "load_connection"}))
    def block(self, request: pytest.FixtureRequest) -> type[Block]:
        found: type[Block] = getattr(blocks, request.param)
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


def test_each_field_of_a_service_reaches_its_driver() -> None:
    """None is accepted and then forgotten."""
    service = HttpService(
        base_url="https://h/api/",
        oauth_url="https://login/token",
        oauth_client_id="me",
        oauth_client_secret="s3cret-of-mine",
        oauth_scope="read",
        oauth_audience="h",
        oauth_refresh_token="refr3sh-of-mine",
        oauth_in_body=True,
        headers={"X-Line": "1"},
        timeout="3s",
        connect_timeout="1s",
        total_timeout="9s",
        ca_file="ca.pem",
        client_certificate="c.pem",
        client_key="k.pem",
        client_key_password="k3y-password",
        proxy="http://proxy:3128",
        proxy_username="p@x",
        proxy_password="pr/xy",
        rate_limit="5/10s",
        max_redirects=2,
        allowed_hosts=["*.example.com"],
        private_addresses="none",
        signing_secret="signs-it",
        signature="body",
        quarantine_after=2,
        quarantine_longest="30s",
    )
    found = service.connection
    assert found.base_url == "https://h/api"
    assert found.oauth == OAuth(
        "https://login/token", "me", "s3cret-of-mine", "read", "h", "refr3sh-of-mine", in_body=True
    )
    assert found.headers == {"X-Line": "1"}
    seconds = [found.timeout, found.connect_timeout, found.total_timeout]
    assert seconds == [timedelta(seconds=3), timedelta(seconds=1), timedelta(seconds=9)]
    assert found.tls == Tls("ca.pem", "c.pem", "k.pem", "k3y-password")
    assert found.proxy == "http://p%40x:pr%2Fxy@proxy:3128/"
    assert found.rate == Rate(5, timedelta(seconds=10))
    assert (found.max_redirects, found.allowed_hosts) == (2, ("*.example.com",))
    assert found.reach.private == "none"
    assert found.signing == Signing("signs-it", "body")
    assert (found.patience.after, found.patience.longest) == (2, timedelta(seconds=30))
    key = HttpService(base_url="http://h", api_key="k3y-k3y", api_key_name="k", api_key_in="query")
    assert key.connection.api_key == ApiKey("k3y-k3y", "k", "query")
    for secret in ("s3cret-of-mine", "refr3sh-of-mine", "k3y-password", "pr%2Fxy", "signs-it"):
        assert redact.text(f"it is {secret}") == f"it is {redact.MASK}"
        assert secret not in repr(found)


@pytest.mark.parametrize(
    "fields",
    [
        {"api_key_name": "k"},
        {"api_key_in": "query"},
        {"client_key": "k.pem"},
        {"proxy_password": "p"},
        {"signature": "body"},
        {"oauth_scope": "s"},
        {"oauth_url": "http://l/t"},
        {"oauth_client_id": "c"},
        {"token": "t", "api_key": "k"},
        {"rate_limit": "often"},
        {"allowed_hosts": ["http://h/"]},
        {"allowed_hosts": ["*"]},
        {"quarantine_after": 0, "quarantine_longest": "1s"},
        {"private_addresses": "some"},
    ],
)
def test_what_a_service_cannot_be(fields: dict[str, Any]) -> None:
    """Fields without an effect, two logins, and values that mean nothing are refused."""
    with pytest.raises(ValidationError):
        HttpService(base_url="http://h", **fields)


def test_loading_a_connection_makes_its_secrets_known() -> None:
    """Before any of them can be used."""
    HttpService(base_url="http://h", token=SecretStr("k3pt-from-the-logs"))
    assert redact.text("k3pt-from-the-logs") == redact.MASK


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"path": "/bus"}, "path has no effect without websockets"),
        ({"transport": "websockets", "path": "bus"}, "pattern"),
        ({"will_payload": "gone"}, "will_payload has no effect without will_topic"),
        ({"will_retain": True}, "will_retain has no effect without will_topic"),
        ({"will_topic": "a", "will_delay": "5s", "version": "3.1.1"}, "needs MQTT 5"),
        ({"will_topic": "plant/+"}, "pattern"),
        ({"client_certificate": "c.pem", "tls": True}, "go together"),
    ],
)
def test_what_a_broker_cannot_be(fields: dict[str, Any], said: str) -> None:
    """Fields without an effect are refused, and topics that no message can have."""
    with pytest.raises(ValidationError, match=said):
        MqttBroker(host="h", **fields)
