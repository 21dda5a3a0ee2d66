"""The core: what a job is and how to talk to things."""

from smartops.audit.audited import audited
from smartops.errors import SmartOpsError

__all__ = ["SmartOpsError", "audited"]
