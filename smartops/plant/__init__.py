"""The simulated plant: a small bottling line on real protocols, for trying, rehearsing, testing.

What takes long to import is imported when it is first used: commands only want its addresses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smartops.plant.addresses import Addresses, plant_folder
from smartops.plant.line import Line

if TYPE_CHECKING:
    from smartops.plant.server import Plant

__all__ = ["Addresses", "Line", "Plant", "plant_folder"]


def __getattr__(name: str) -> Any:
    if name != "Plant":
        raise AttributeError(name)
    from smartops.plant.server import Plant  # noqa: PLC0415 - see above

    return Plant
