"""The bottling line itself: a state that moves in ticks of 0.1 s. Deterministic under a seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

TICK_S = 0.1
LOW_LEVEL = 15.0
HIGH_TEMPERATURE = 80.0
MAX_SPEED = 300
_PUMP_ON_BELOW = 40.0
_PUMP_OFF_ABOVE = 85.0
_CRATE_KG, _BOTTLE_KG, _BOTTLES = 1.9, 0.52, 20
_ALARM_LOW_LEVEL, _ALARM_HIGH_TEMPERATURE, _ALARM_STOPPED = 0, 1, 2


@dataclass(frozen=True)
class Snapshot:
    """The line at one moment."""

    ticks: int
    tank_level: float
    """Per cent."""
    temperature: float
    """Degrees Celsius."""
    speed: float
    """Bottles per minute."""
    speed_setpoint: int
    temperature_setpoint: float
    pump: bool
    good: int
    scrap: int
    energy_kwh: float
    alarms: int
    """Bit 0: low level, bit 1: high temperature, bit 2: stopped."""


class Line:
    """The line. :meth:`advance` moves it; the setters are what a PLC lets others write."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a simulation
        self._ticks = 0
        self._left_s = 0.0
        self._level = 55.0 + self._random.uniform(-5, 5)
        self._temperature = 64.0 + self._random.uniform(-1, 1)
        self._speed = 120.0
        self._made = 0.0
        self._energy = 1200.0 + self._random.uniform(0, 50)
        self.speed_setpoint = 120
        self.temperature_setpoint = 64.0
        self.pump = False
        self.pump_auto = True
        self.good = 4000 + self._random.randrange(500)
        self.scrap = 40 + self._random.randrange(20)
        self.batch = f"B{self._random.randrange(10_000):04d}"
        self.passed = 0
        """Bottles that have passed the reader, good or not; it is never set back."""

    def advance(self, seconds: float) -> None:
        """Let time pass; parts of a tick are kept for the next call."""
        self._left_s += seconds
        while self._left_s >= TICK_S - 1e-9:
            self._left_s -= TICK_S
            self._tick()

    def reset_counters(self) -> None:
        """Start to count from zero: the pulse that must not be sent twice."""
        self.good = self.scrap = 0

    def set_pump(self, on: bool) -> None:
        """Switch the pump by hand, which ends its automatic mode."""
        self.pump, self.pump_auto = on, False

    def crate_kg(self) -> float:
        """Return what the crate that was packed last weighs; 0.0 while the line stands still.

        A tank that runs empty fills bottles less well.
        """
        if self._speed < 1:
            return 0.0
        filled = 0.9 + 0.1 * min(1.0, self._level / LOW_LEVEL)
        of_this_crate = random.Random(self.passed // _BOTTLES)  # noqa: S311 - a simulation
        return _CRATE_KG + _BOTTLES * _BOTTLE_KG * filled + of_this_crate.uniform(-0.08, 0.08)

    def snapshot(self) -> Snapshot:
        """Return the state of this moment."""
        alarms = (
            (self._level < LOW_LEVEL) << _ALARM_LOW_LEVEL
            | (self._temperature > HIGH_TEMPERATURE) << _ALARM_HIGH_TEMPERATURE
            | (self._speed < 1) << _ALARM_STOPPED
        )
        return Snapshot(
            ticks=self._ticks,
            tank_level=round(self._level, 1),
            temperature=round(self._temperature, 2),
            speed=round(self._speed, 1),
            speed_setpoint=self.speed_setpoint,
            temperature_setpoint=self.temperature_setpoint,
            pump=self.pump,
            good=self.good,
            scrap=self.scrap,
            energy_kwh=round(self._energy, 4),
            alarms=alarms,
        )

    def _tick(self) -> None:
        self._ticks += 1
        self._move_level()
        drift = (self.temperature_setpoint - self._temperature) * 0.01
        wave = 0.05 * math.sin(self._ticks / 50)
        self._temperature += drift + wave + self._random.gauss(0, 0.02)
        gap = self.speed_setpoint - self._speed
        self._speed += max(-4.0, min(4.0, gap))
        self._energy += (2.0 + self._speed / 60) * TICK_S / 3600
        self._make()

    def _move_level(self) -> None:
        if self.pump_auto and self._level < _PUMP_ON_BELOW:
            self.pump = True
        if self._level > _PUMP_OFF_ABOVE:
            self.pump = False
        inflow = 0.12 if self.pump else 0.0
        self._level += inflow - self._speed * 0.0003
        self._level = max(0.0, min(100.0, self._level))

    def _make(self) -> None:
        if self._level <= 0:
            return
        self._made += self._speed / 60 * TICK_S
        while self._made >= 1:
            self._made -= 1
            self.passed += 1
            if self._random.random() < 0.012:
                self.scrap += 1
            else:
                self.good += 1
