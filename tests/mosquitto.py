"""A Mosquitto broker for tests: with users and rights, and with TLS where it is asked for."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from smartops.plant.mosquitto import Mosquitto, find_executable
from tests.conftest import free_port, needs, wait_for

USER, PASSWORD = "operator", "br0ker-w0rd"


@dataclass
class Broker:
    """A running broker: anybody may log in at ``port``, users at ``users``, TLS clients at ``tls``.

    What is below ``secret/`` nobody may publish or read.
    """

    folder: Path
    port: int
    users: int
    tls: int
    process: Mosquitto

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    @property
    def client_files(self) -> tuple[str, str]:
        return str(self.folder / "client.pem"), str(self.folder / "client.key")

    def start(self) -> None:
        self.process.start()
        wait_for(lambda: all(map(_answers, (self.port, self.users, self.tls))), "the broker")

    def stop(self) -> None:
        self.process.stop()

    @contextmanager
    def station(self) -> Iterator[None]:
        """Somebody who answers what is asked at ``ask/me``, wrongly at first, then in capitals."""
        station = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        ready = threading.Event()

        def answer(client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
            asked: Any = message.properties
            for number, text in ((b"another", b"wrong"), (None, message.payload.upper())):
                properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
                properties.CorrelationData = number or asked.CorrelationData
                client.publish(asked.ResponseTopic, text, message.qos, properties=properties)

        station.on_message = answer
        station.on_subscribe = lambda *_: ready.set()
        station.connect("127.0.0.1", self.port)
        station.subscribe("ask/me", 2)
        station.loop_start()
        assert ready.wait(10)
        try:
            yield
        finally:
            station.disconnect()
            station.loop_stop()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """Give a broker whose files are in a folder."""
    executable = find_executable()
    needs(executable is not None, "Mosquitto")
    assert executable is not None
    port, users, tls = free_port(), free_port(), free_port()
    _certificates(folder)
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(
        ["mosquitto_passwd", "-b", str(passwords), USER, PASSWORD], check=True, capture_output=True
    )
    rights = "topic deny secret/#\ntopic readwrite #\n"
    (folder / "acl").write_text(f"{rights}user {USER}\n{rights}")
    (folder / "acl").chmod(0o600)
    config = (
        f"per_listener_settings true\nuser root\n"
        f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {folder}/acl\n"
        f"listener {users} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
        f"listener {tls} 127.0.0.1\nallow_anonymous true\ncafile {folder}/ca.pem\n"
        f"certfile {folder}/server.pem\nkeyfile {folder}/server.key\nrequire_certificate true\n"
    )
    broker = Broker(folder, port, users, tls, Mosquitto(executable, folder, config))
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _certificates(folder: Path) -> None:
    now = datetime.now(UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])

    def make(name: str, key: ec.EllipticCurvePrivateKey, *, is_ca: bool = False) -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(ca_name if is_ca else subject)
            .issuer_name(ca_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
            .sign(ca_key, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    make("ca", ca_key, is_ca=True)
    for name in ("server", "client"):
        make(name, ec.generate_private_key(ec.SECP256R1()))
