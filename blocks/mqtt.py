"""An MQTT broker and how to log in to it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Self

from pydantic import Field, SecretStr, model_validator

from blocks.connection import (
    DeviceConnection,
    quarantine_after_field,
    quarantine_longest_field,
)
from smartops.drivers import mqtt
from smartops.durations import Duration, duration_field


class MqttBroker(DeviceConnection):
    """A broker that passes messages on.

    Example:
        Load a saved broker:
        ```python
        from blocks import MqttBroker

        broker = MqttBroker.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "MQTT Broker"
    _block_type_slug = "mqtt-broker"

    host: str = Field(title="Host", min_length=1, description="Host name or address.")
    port: int = Field(
        default=1883, ge=1, le=65535, title="Port", description="Its port; 8883 is usual with TLS."
    )
    version: mqtt.Version = Field(
        default="5",
        title="Version",
        description="Of the protocol. With 3.1.1 a broker cannot say that it refuses a message.",
    )
    username: str | None = Field(default=None, title="User name", description="Who logs in.")
    password: SecretStr | None = Field(default=None, title="Password", description="Its password.")
    tls: bool = Field(default=False, title="TLS", description="Whether the connection is secured.")
    ca_file: str | None = Field(
        default=None,
        title="CA file",
        description="Path of the certificates (PEM) that the broker's has to come from; empty: "
        "those of the machine.",
    )
    client_certificate: str | None = Field(
        default=None, title="Client certificate", description="Path of our certificate (PEM)."
    )
    client_key: str | None = Field(
        default=None, title="Client key", description="Path of its key (PEM)."
    )
    cbor: bool = Field(
        default=False,
        title="CBOR",
        description="Whether messages hold CBOR that do not say what they hold, as those of MQTT 5 "
        "can.",
    )
    timeout: Duration = duration_field(
        "5s",
        gt=timedelta(),
        title="Timeout",
        description="How long to wait for the broker to answer, such as 5s.",
    )
    quarantine_after: int = quarantine_after_field()
    quarantine_longest: Duration = quarantine_longest_field()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a user name")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("a client certificate and its key go together")
        if not self.tls and (self.ca_file or self.client_certificate):
            raise ValueError("certificates go with TLS")
        return self

    def open(self, session: str = "") -> AbstractAsyncContextManager[mqtt.MqttDriver]:
        """Connect for the length of an ``async with``; the broker keeps a session with a name."""
        return mqtt.open_broker(
            mqtt.Connection(
                name=self.connection_name,
                host=self.host,
                port=self.port,
                version=self.version,
                username=self.username,
                password=self.password.get_secret_value() if self.password else None,
                tls=self.tls,
                ca_file=self.ca_file,
                client_certificate=self.client_certificate,
                client_key=self.client_key,
                timeout=self.timeout,
                session=session,
                cbor=self.cbor,
                patience=self.patience(),
            )
        )
