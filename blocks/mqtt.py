"""An MQTT broker and how to log in to it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Self

from pydantic import Field, SecretStr, model_validator

from blocks.connection import (
    DeviceConnection,
    plain,
    quarantine_after_field,
    quarantine_longest_field,
)
from smartops.drivers import mqtt
from smartops.drivers.mqtt_connection import LastWill, Transport
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
    transport: Transport = Field(
        default="tcp",
        title="Transport",
        description="tcp, or websockets for brokers behind a web server (ws; with TLS it is wss).",
    )
    path: str = Field(
        default="/mqtt",
        pattern=r"^/[!-~]*$",
        title="Path",
        description="For websockets: the path of the broker's address.",
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
    will_topic: str = Field(
        default="",
        pattern=r"^[^+#\x00]*$",
        title="Last will: topic",
        description="Where the broker publishes a message for us when the connection ends without "
        "a goodbye, as the process or the machine has gone; empty: nowhere.",
    )
    will_payload: str = Field(
        default="", title="Last will: payload", description="What the message says, as a text."
    )
    will_qos: mqtt.Qos = Field(default=1, title="Last will: QoS", description="0, 1 or 2.")
    will_retain: bool = Field(
        default=False,
        title="Last will: retain",
        description="Whether the broker keeps the message for who comes later.",
    )
    will_delay: Duration = duration_field(
        "0s",
        ge=timedelta(),
        title="Last will: delay",
        description="How long the broker waits before it publishes it, as we may come back "
        "(MQTT 5), in whole seconds.",
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
        if self.transport == "tcp" and self.path != "/mqtt":
            raise ValueError("path has no effect without websockets")
        self._check_will()
        return self

    def _check_will(self) -> None:
        if not self.will_topic:
            for name in ("will_payload", "will_qos", "will_retain", "will_delay"):
                if getattr(self, name) != type(self).model_fields[name].get_default():
                    raise ValueError(f"{name} has no effect without will_topic")
        if self.will_delay and self.version != "5":
            raise ValueError("will_delay needs MQTT 5")

    def _will(self) -> LastWill | None:
        if not self.will_topic:
            return None
        return LastWill(
            self.will_topic, self.will_payload, self.will_qos, self.will_retain, self.will_delay
        )

    def connection(self, session: str = "") -> mqtt.Connection:
        """Return what the driver needs."""
        return mqtt.Connection(
            name=self.connection_name,
            host=self.host,
            port=self.port,
            transport=self.transport,
            path=self.path,
            version=self.version,
            username=self.username,
            password=plain(self.password),
            tls=self.tls,
            ca_file=self.ca_file,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
            timeout=self.timeout,
            session=session,
            cbor=self.cbor,
            last_will=self._will(),
            patience=self.patience(),
        )

    def open(self, session: str = "") -> AbstractAsyncContextManager[mqtt.MqttDriver]:
        """Connect for the length of an ``async with``; the broker keeps a session with a name."""
        return mqtt.open_broker(self.connection(session))
