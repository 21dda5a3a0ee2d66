"""Frames of serial lines: what is sent is found again, whatever its checksum looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartops.drivers.framing import Covers, FrameKind, Framing


@pytest.mark.parametrize("kind", ["line", "delimiter", "start-stop"])
@given(data=st.binary(min_size=1, max_size=20), split=st.integers(0, 30))
def test_a_checksum_may_look_like_the_end(kind: FrameKind, data: bytes, split: int) -> None:
    """Whole, and while it comes in two parts: it is never cut too early."""
    data = data.translate(None, b"\r\n\x02\x03")
    for checksum in ("xor", "crc16-modbus", "sum"):
        framing = Framing(kind, b"\x02", b"\x03", checksum=checksum)
        frame = framing.wrapped(data)
        part = framing.cut(frame[:split], silent=False) if split < len(frame) else None
        if part is not None:  # a part that has the right checksum by chance
            assert framing.checked(part[0]) is not None
            continue
        found = framing.cut(frame, silent=False)
        assert found is not None
        assert data.startswith(framing.checked(found[0]))  # by chance a shorter one is right too
        assert found[1] <= len(frame)


def test_a_wrong_checksum_is_told_when_nothing_more_comes() -> None:
    """Until then its end may still be to come."""
    framing = Framing("start-stop", b"\x02", b"\x03", checksum="crc16-modbus")
    frame = framing.wrapped(b"W123").replace(b"2", b"3")
    assert framing.cut(frame, silent=False) is None
    found = framing.cut(frame, silent=True)
    assert found is not None
    with pytest.raises(ValueError, match="wrong checksum"):
        framing.checked(found[0])


@pytest.mark.parametrize("kind", ["delimiter", "start-stop"])
@pytest.mark.parametrize("covers", ["data", "data-stop"])
@pytest.mark.parametrize("as_hex", [False, True])
@given(
    data=st.binary(min_size=1, max_size=20), split=st.integers(0, 30), stop=st.sampled_from([1, 2])
)
def test_a_checksum_behind_the_stop_bytes(
    kind: FrameKind, covers: Covers, as_hex: bool, data: bytes, split: int, stop: int
) -> None:
    """The data may hold anything, stop bytes as well; a part is never taken for the whole."""
    framing = Framing(
        kind,
        b"\x02",
        b"\x03" * stop,
        checksum="crc16-modbus",
        checksum_as_hex=as_hex,
        checksum_after_stop=True,
        checksum_covers=covers,
    )
    frame = framing.wrapped(data)
    part = framing.cut(frame[:split], silent=False) if split < len(frame) else None
    found = part or framing.cut(frame, silent=False)
    assert found is not None
    taken = framing.checked(found[0])
    assert found[1] <= len(frame)
    if part is None and found[1] == len(frame):
        assert taken == data
    else:  # by chance a shorter one is right too
        assert data.startswith(taken)


def test_a_wrong_checksum_behind_the_stop_bytes() -> None:
    """Is told when nothing more comes; and one that does not come is waited for."""
    framing = Framing("start-stop", checksum="xor", checksum_after_stop=True)
    assert framing.cut(b"\x02W1\x03", silent=True) is None
    assert framing.cut(b"\x02W1\x03\x00", silent=False) is None
    found = framing.cut(b"\x02W1\x03\x00", silent=True)
    assert found == (b"W1\x00", 5)
    with pytest.raises(ValueError, match="wrong checksum"):
        framing.checked(found[0])


def test_a_checksum_of_0x0d_on_a_line() -> None:
    """It is not taken for a part of the line's end."""
    framing = Framing("line", checksum="xor")
    frame = framing.wrapped(b"\x0d\x01\x01")
    assert frame.endswith(b"\x0d\r\n")
    found = framing.cut(frame, silent=False)
    assert found is not None
    assert framing.checked(found[0]) == b"\x0d\x01\x01"
