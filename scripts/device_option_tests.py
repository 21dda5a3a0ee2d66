"""Which test fails when an option of a connection to a device, or of its tags, has no effect."""

from __future__ import annotations

_MQTT = "tests/integration/test_mqtt_driver.py::"
_WEB = "tests/integration/test_mqtt_websockets.py::"
_MODBUS = "tests/integration/test_other_makes_modbus.py::"
_SERIAL = "tests/integration/test_serial_driver.py::"
_OPCUA = "tests/integration/test_other_makes_opcua.py::"

DEVICE_OPTION_TESTS: dict[str, str] = {
    "MQTT broker.transport": _WEB + "test_messages_over_websockets",
    "MQTT broker.path": _WEB + "test_a_server_without_a_broker_at_the_path",
    "MQTT broker.will_topic": _MQTT + "test_a_last_will",
    "MQTT broker.will_payload": _MQTT + "test_a_last_will",
    "MQTT broker.will_qos": _MQTT + "test_a_last_will",
    "MQTT broker.will_retain": _MQTT + "test_a_last_will",
    "MQTT broker.will_delay": _MQTT + "test_the_delay_of_a_last_will",
    "Modbus device.max_registers": _MODBUS + "test_the_most_that_a_device_allows_in_one_request",
    "Modbus device.max_bits": _MODBUS + "test_the_most_that_a_device_allows_in_one_request",
    "serial line.checksum_after_stop": _SERIAL + "test_frames",
    "serial line.checksum_covers": _SERIAL + "test_frames",
    "OPC UA tag.index_range": _OPCUA + "test_parts_of_arrays",
}
