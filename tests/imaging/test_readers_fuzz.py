"""Whatever a broken file holds, reading it gives a plane or an ImageRefusedError, soon."""

import time

import numpy as np
import pytest

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.imaging.readers import probe, read_plane
from cytoimagenet_hf.schema import Limits
from tests.imaging import _files as files
from tests.imaging._kinds import GRAY8, GRAY16, KINDS

FILES = 300
SECONDS = 5  # of CPU a file may take; real ones take milliseconds
DTYPES = {"uint8", "uint16", "int16", "uint32", "int32", "float32", "float64"}
REASONS = {
    "plane",
    "empty file",
    "large-file pointer",
    "unreadable",
    "too large",
    "page out of range",
    "series out of range",
    "alpha",
    "binary",
    "unsupported channels",
    "unsupported depth",
}
INTERESTING = (0, 1, 2, 127, 128, 255)  # signs, limits, and counts that are off by one
ORIGINALS = [data for data, _ in KINDS.values()] + [
    files.pages(GRAY8, GRAY8, GRAY8),
    files.ome((np.stack([GRAY16] * 3), "ZYX"), (GRAY8, "YX")),
    files.tiff(np.stack([GRAY16] * 3), imagej=True, truncate=True, metadata={"axes": "ZYX"}),
]


def mutant(number: int, originals: list[bytes] = ORIGINALS) -> bytes:
    """Spoil one of the originals: some bytes, a copied stretch, or a cut."""

    def draw(purpose: str, below: int, at: int = 0) -> int:
        return rank(0, f"fuzz {purpose}", number, at) % below

    data = bytearray(originals[draw("original", len(originals))])
    for at in range(1 + draw("changes", 6)):
        within = (len(data), min(len(data), 200))[draw("where", 2, at)]  # heads matter most
        place = draw("place", within, at)
        values = (*INTERESTING, draw("value", 256, at))
        data[place] = values[draw("kind", len(values), at)]
    if draw("copy", 4) == 0:
        length = draw("length", 64)
        start, goal = draw("start", len(data)), draw("goal", len(data))
        data[goal : goal + length] = data[start : start + length]
    if draw("cut", 8) == 0:
        del data[draw("end", len(data)) :]
    return bytes(data)


@pytest.mark.parametrize("hundred", range(FILES // 100))
def test_mutants_give_a_plane_or_a_refusal(hundred, tmp_path, capfd, caplog):
    """No other error escapes, nothing is printed, nothing hangs, no plane is of a strange type."""
    path, limits = tmp_path / "mutant", Limits(pages=64)
    outcomes = set()
    for number in range(hundred * 100, hundred * 100 + 100):
        path.write_bytes(mutant(number))
        start = time.process_time()
        for page, series in ((0, 0), (2, 0), (0, 1)):
            outcomes.add(outcome(path, page, series, limits))
        assert time.process_time() - start < SECONDS, number
    assert {"plane", "unreadable"} <= outcomes <= REASONS
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def outcome(path, page: int, series: int, limits: Limits) -> str:
    """Read; return the reason of the refusal, or "plane" after looking at it."""
    try:
        header = probe(path, limits)
        plane = read_plane(path, page=page, series=series, limits=limits)
    except ImageRefusedError as refused:
        return refused.reason
    assert plane.dtype.name in DTYPES
    assert plane.dtype.isnative
    if not page and not series:
        assert plane.shape[:2] == (header.height, header.width)
    return "plane"
