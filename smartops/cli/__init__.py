"""The ``smartops`` command: the top layer."""

from smartops.cli.app import main

__all__ = ["main"]
