"""How simulated files are written: in the real formats, and marked as simulated."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cytoimagenet_hf.files import write_text
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.schema import SIMULATED_MARK
from cytoimagenet_hf.simulation._optics import FloatPlane, IntPlane

MARK = "simulated by cytoimagenet"  # in the metadata of each picture
WELLS = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]  # of 384


def guid(seed: int, *names: str | int) -> str:
    """Return a GUID in lower case, as the microscope's software puts one into each file name."""
    digits = "".join(f"{rank(seed, 'guid', half, *names):016x}" for half in (0, 1))
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def mark(root: Path, text: str) -> None:
    """Say in a folder that its files are simulated; refuse one that holds anything else.

    Raises:
        ValueError: the folder holds real files, or those of another simulation.
    """
    path = root / SIMULATED_MARK
    text = f"The files in this folder are {MARK}; they show no real cells.\n{text}\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    if root.is_dir() and any(root.iterdir()):
        what = "files of another simulation" if path.is_file() else "files that are not simulated"
        raise ValueError(f"{root} holds {what}. Name an empty folder, so that they never mix.")
    write_text(path, text)


def write_tiff(path: Path, plane: IntPlane | FloatPlane, *, compression: str | None = None) -> None:
    """Write one plane as TIFF, with neither date nor software in it, so that bytes repeat."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        plane,
        photometric="minisblack",
        compression=compression,
        description=MARK,
        metadata=None,
        software=False,
    )


def write_png(path: Path, pixels: npt.NDArray[np.uint8 | np.uint16]) -> None:
    """Write gray (8 or 16 bits) or RGBA as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngInfo()
    text.add_text("Comment", MARK)
    Image.fromarray(pixels).save(path, format="PNG", pnginfo=text)


def write_jpeg(path: Path, plane: npt.NDArray[np.uint8]) -> None:
    """Write one plane as gray JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(plane).save(path, format="JPEG", quality=92, comment=MARK)


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a comma-separated table; rows may be longer or shorter than the header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())
