"""Files to measure on: real ones where they lie beside the checkout, else simulated ones."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from cytoimagenet_hf.imaging.readers import read_plane
from cytoimagenet_hf.simulation import simulate

_CHECKOUT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("CYTOIMAGENET_SHARED", _CHECKOUT.parent / "shared"))


@dataclass(frozen=True, slots=True)
class Field:
    """The files of one field, and where they come from."""

    files: tuple[Path, ...]
    origin: str


def images() -> Path | None:
    """The folder of real images, if there is one."""
    folder = SHARED / "data" / "images"
    return folder if folder.is_dir() else None


def gray_pngs(folder: Path, count: int) -> list[Field]:
    """Gray PNGs of 520 x 696 pixels (BBBC038 stores them with an opaque alpha)."""
    return _pngs(folder, (520, 696), 2, count) or _simulated("bbbc038", folder, "png", count)


def color_pngs(folder: Path, count: int) -> list[Field]:
    """Color PNGs: stained tissue of BBBC038."""
    return _pngs(folder, (256, 320), 3, count) or _simulated("bbbc038", folder, "png", count)


def gray_tiffs(folder: Path, count: int) -> list[Field]:
    """16-bit TIFFs of one channel (BBBC022, 520 x 696), written again without compression."""
    real = sorted((images() or folder).glob("bbbc022/*/*.tif"))[:count]
    if not real:
        return _simulated("bbbc022", folder, "tif", count)
    written = [_write(folder / f"gray{at}.tif", read_plane(path)) for at, path in enumerate(real)]
    return [Field((path,), "real BBBC022, stored raw") for path in written]


def stained_fields(folder: Path, channels: int, *, compression: str | None = None) -> list[Field]:
    """Fields of several 16-bit TIFFs: NF1 Cell Painting, 904 x 1224, and JUMP, 512 x 512.

    Both have three channels here; more are rolled copies, so such fields are semi-synthetic.
    """
    sets = {name: sorted((images() or folder).glob(f"{name}*/*/*.tif*"))[:3] for name in _STAINED}
    fields = []
    for name, paths in sets.items():
        if len(paths) < 3:
            continue
        planes = [read_plane(path) for path in paths]
        planes += [np.roll(plane, 97, axis=1) for plane in planes]
        stem = f"{name}{channels}{compression or ''}"
        files = tuple(
            _write(folder / f"{stem}-{at}.tif", plane, compression)
            for at, plane in enumerate(planes[:channels])
        )
        kind = "real" if channels <= 3 else "semi-synthetic: real, two channels rolled copies,"
        fields.append(Field(files, f"{kind} {name}, stored {compression or 'raw'}"))
    if fields:
        return fields
    simulated = [one.files[0] for one in _simulated("bbbc022", folder, "tif", channels)]
    return [Field(tuple(simulated), "simulated bbbc022, whatever its channels")]


_STAINED = ("nf1", "jump")


def _write(path: Path, plane: np.ndarray, compression: str | None = None) -> Path:
    tifffile.imwrite(path, plane, compression=compression, predictor=bool(compression) or None)
    return path


def _pngs(folder: Path, shape: tuple[int, int], dimensions: int, count: int) -> list[Field]:
    return [
        Field((path,), f"real BBBC038 of {shape[0]} x {shape[1]}")
        for _, path in zip(range(count), _matching(folder, shape, dimensions), strict=False)
    ]


def _matching(folder: Path, shape: tuple[int, int], dimensions: int) -> Iterator[Path]:
    for path in sorted((images() or folder).glob("bbbc038/*/*/images/*.png")):
        with Image.open(path) as image:
            fits = (image.height, image.width) == shape
        if fits and read_plane(path).ndim == dimensions:
            yield path


def _simulated(name: str, folder: Path, ending: str, count: int) -> list[Field]:
    simulate(name, folder / "simulated", fields=max(count, 8))
    paths = sorted((folder / "simulated" / name).rglob(f"*.{ending}"))[:count]
    return [Field((path,), f"simulated {name}") for path in paths]
