"""Steps that talk through MQTT brokers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from blocks import MqttBroker
from smartops.audit.recording import StepRecord
from smartops.drivers import mqtt
from smartops.drivers.mqtt_payload import CBOR, Format, encode
from smartops.errors import TransientError
from smartops.vocabulary import Effect
from tasks.step import current_record, step


@contextmanager
def _sending(record: StepRecord) -> Iterator[None]:
    """Note that something may have been sent, unless the error says that nothing was."""
    record.touched = True
    try:
        yield
    except mqtt.NOT_SENT:
        record.touched = False
        raise
    except TransientError as error:
        record.touched = not error.not_done
        raise


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
        with _sending(record):
            said = await client.publish(
                topic,
                encoded,
                qos=qos,
                retain=retain,
                expiry=expiry,
                repeatable=record.effect is not Effect.UNSAFE,
                content_type=CBOR if format == "cbor" else None,
            )
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
        with _sending(record):
            answer = await client.ask(
                topic,
                encoded,
                qos=qos,
                repeatable=record.effect is not Effect.UNSAFE,
                content_type=CBOR if format == "cbor" else None,
            )
    return answer.as_json()
