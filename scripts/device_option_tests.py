"""Which test fails when an option of a connection to a device, or of its tags, has no effect."""

from __future__ import annotations

_MQTT = "tests/integration/test_mqtt_driver.py::"
_WEB = "tests/integration/test_mqtt_websockets.py::"
_OPCUA = "tests/integration/test_other_makes_opcua.py::"
_SECURITY = "tests/integration/test_opcua_security.py::"
_MODBUS = "tests/integration/test_other_makes_modbus.py::"
_FAULTS = "tests/integration/test_modbus_faults.py::"
_DRIVER = "tests/integration/test_modbus_driver.py::"
_SERIAL = "tests/integration/test_serial_driver.py::"
_TAGS = "tests/unit/test_tags.py::"
_BLOCK = "tests/unit/test_block_reading.py::"
_FIELDS = "tests/unit/test_device_connections.py::test_each_field_reaches_the_driver"


def _all(group: str, test: str, *names: str) -> dict[str, str]:
    return {f"{group}.{name}": test for name in names}


DEVICE_OPTION_TESTS: dict[str, str] = {
    **_all("MQTT broker", _MQTT + "test_a_last_will", "host", "port"),
    **_all("MQTT broker", _WEB + "test_messages_over_websockets", "transport", "tls", "ca_file"),
    **_all("MQTT broker", _WEB + "test_a_server_without_a_broker_at_the_path", "path"),
    **_all("MQTT broker", _FIELDS, "version", "username", "password", "timeout"),
    **_all("MQTT broker", _FIELDS, "client_certificate", "client_key"),
    **_all("MQTT broker", _MQTT + "test_cbor", "cbor"),
    **_all(
        "MQTT broker",
        _MQTT + "test_a_last_will",
        "will_topic",
        "will_payload",
        "will_qos",
        "will_retain",
    ),
    **_all("MQTT broker", _MQTT + "test_the_delay_of_a_last_will", "will_delay"),
    **_all("MQTT broker", _FIELDS, "quarantine_after", "quarantine_longest"),
    **_all("Modbus device", _FIELDS, "transport", "host", "port", "unit", "timeout", "tags"),
    **_all("Modbus device", _FIELDS, "serial_port", "baudrate", "parity", "stopbits"),
    **_all("Modbus device", _FIELDS, "pause", "late_answers", "max_gap", "holes"),
    **_all(
        "Modbus device",
        _MODBUS + "test_the_most_that_a_device_allows_in_one_request",
        "max_registers",
        "max_bits",
    ),
    **_all("Modbus device", _FIELDS, "quarantine_after", "quarantine_longest"),
    **_all("OPC UA server", _FIELDS, "url", "security_policy", "security_mode"),
    **_all("OPC UA server", _FIELDS, "server_fingerprint", "username", "password", "timeout"),
    **_all(
        "OPC UA server",
        _SECURITY + "test_a_connection_that_makes_no_sense_is_refused",
        "password_in_the_clear",
    ),
    **_all("OPC UA server", _FIELDS, "user_certificate", "user_key", "tags"),
    **_all("OPC UA server", _FIELDS, "quarantine_after", "quarantine_longest"),
    **_all("serial line", _FIELDS, "port", "baudrate", "bytesize", "parity", "stopbits"),
    **_all("serial line", _FIELDS, "timeout", "late_answers", "framing", "start", "stop"),
    **_all("serial line", _FIELDS, "length", "silence", "checksum", "checksum_as_hex"),
    **_all("serial line", _SERIAL + "test_frames", "checksum_after_stop", "checksum_covers"),
    **_all("serial line", _FIELDS, "quarantine_after", "quarantine_longest"),
    **_all("hole", _FAULTS + "test_holes_are_found_once_and_remembered", "area", "first", "last"),
    **_all("interlock", _FAULTS + "test_what_the_tag_map_forbids_is_not_sent", "tag", "value"),
    **_all("interlock", _TAGS + "test_how_an_interlock_compares", "op"),
    **_all("tag", _DRIVER + "test_every_tag_reads_what_the_line_holds", "name", "unit"),
    **_all("tag", _TAGS + "test_what_else_registers_may_hold", "enum"),
    **_all("tag", _TAGS + "test_write_limits", "min", "max"),
    **_all("tag", _FAULTS + "test_what_the_tag_map_forbids_is_not_sent", "max_step", "interlocks"),
    **_all("tag", "tests/unit/test_device_steps.py::test_what_is_a_change", "deadband"),
    **_all("tag", _TAGS + "test_writing_is_off_unless_allowed", "allow_write"),
    **_all(
        "tag", "tests/acceptance/test_control.py::test_an_approval_holds_for_its_values", "approval"
    ),
    **_all("tag", _DRIVER + "test_no_answer_to_an_unsafe_write_is_unknown", "effect"),
    **_all("Modbus tag", _MODBUS + "test_every_area_and_type", "area", "address", "kind"),
    **_all("Modbus tag", _TAGS + "test_byte_orders", "order"),
    **_all("Modbus tag", _TAGS + "test_bits_count_from_the_lowest", "bit"),
    **_all("Modbus tag", _TAGS + "test_strings_and_scale", "length", "scale"),
    **_all("Modbus tag", _TAGS + "test_what_else_registers_may_hold", "encoding", "not_available"),
    **_all("Modbus tag", _MODBUS + "test_every_area_and_type", "count"),
    **_all(
        "Modbus tag",
        "tests/unit/test_block_reading.py::test_a_blocks_answer_is_each_tags_value",
        "offset",
    ),
    **_all("Modbus tag", _TAGS + "test_a_map_whose_tags_overlap_is_refused", "overlap"),
    **_all("OPC UA tag", _OPCUA + "test_every_type_is_read_and_written", "node"),
    **_all("OPC UA tag", _OPCUA + "test_parts_of_arrays", "index_range"),
}
