"""Typed connections saved in Prefect: fields, secrets, and how to open them."""

from blocks.alerts import AlertApprise, AlertMail, AlertSlackBot, AlertSlackWebhook
from blocks.browser import BrowserProfile
from blocks.connection import Connection, load_connection
from blocks.modbus import ModbusDevice
from blocks.mqtt import MqttBroker
from blocks.opcua import OpcUaServer
from blocks.rest import HttpService
from blocks.serial_line import SerialLine

__all__ = [
    "AlertApprise",
    "AlertMail",
    "AlertSlackBot",
    "AlertSlackWebhook",
    "BrowserProfile",
    "Connection",
    "HttpService",
    "ModbusDevice",
    "MqttBroker",
    "OpcUaServer",
    "SerialLine",
    "load_connection",
]
