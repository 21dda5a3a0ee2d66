"""Signs messages to webhooks, so that the receiver knows who sent them (HMAC with SHA-256)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from smartops import errors
from smartops.drivers.rest_connection import Signing

_PREFIX = "whsec_"


def signature_headers(
    signing: Signing, message_id: str, time_s: int, body: bytes
) -> dict[str, str]:
    """Return the headers for a message: its id, its time (seconds since 1970), its signature.

    Raises BadInput for a secret that is none.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(time_s)}
    key = _key(signing.secret)
    if signing.style == "body":
        found = hmac.new(key, body, hashlib.sha256).hexdigest()
        return {**headers, "x-hub-signature-256": f"sha256={found}"}
    signed = f"{message_id}.{time_s}.".encode() + body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    return {**headers, "webhook-signature": f"v1,{base64.b64encode(digest).decode()}"}


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise errors.BadInput(f"a signing secret that begins with {_PREFIX} is in base64") from None
