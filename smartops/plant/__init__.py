"""The simulated plant: a small bottling line on real protocols, for trying, rehearsing, testing."""

from smartops.plant.line import Line
from smartops.plant.server import Addresses, Plant, plant_folder

__all__ = ["Addresses", "Line", "Plant", "plant_folder"]
