"""Steps that talk through MQTT brokers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from blocks import MqttBroker
from smartops.drivers import mqtt
from smartops.drivers.mqtt_payload import Format, encode
from smartops.vocabulary import Effect
from tasks.step import current_record, step


@step(effect=Effect.UNSAFE, kind="mqtt.publish")
async def publish_message(
    broker: MqttBroker,
    topic: str,
    payload: Any = "",
    format: Format = "auto",  # noqa: A002 - the option is called so
    qos: mqtt.Qos = 1,
    retain: bool = False,
    expiry: timedelta | None = None,
) -> dict[str, Any]:
    """Publish a message once. Returns ``topic`` and ``said``: what the broker answered.

    Raises DeviceRefused, DeviceUnreachable, UnknownOutcome and the driver's other errors.
    """
    record = current_record()
    record.touched = False
    encoded = encode(payload, format)
    async with broker.open() as client:
        record.touched = True
        try:
            said = await client.publish(
                topic,
                encoded,
                qos=qos,
                retain=retain,
                expiry=expiry,
                repeatable=record.effect is not Effect.UNSAFE,
            )
        except mqtt.NOT_SENT:
            record.touched = False
            raise
    return {"topic": topic, "said": said}


@step(effect=Effect.UNSAFE, kind="mqtt.ask")
async def ask_question(
    broker: MqttBroker,
    topic: str,
    payload: Any = "",
    format: Format = "auto",  # noqa: A002 - the option is called so
    qos: mqtt.Qos = 1,
) -> dict[str, Any]:
    """Publish a question and wait for its answer, within the step's time limit.

    Returns the answer's ``topic``, ``payload``, ``qos``, ``retained`` and ``received_at``.
    """
    record = current_record()
    record.touched = False
    encoded = encode(payload, format)
    async with broker.open() as client:
        record.touched = True
        try:
            answer = await client.ask(
                topic, encoded, qos=qos, repeatable=record.effect is not Effect.UNSAFE
            )
        except mqtt.NOT_SENT:
            record.touched = False
            raise
    return answer.as_json()
