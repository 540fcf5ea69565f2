"""Which crops lie nearest to the contrast threshold, on a folder of real images.

    python benchmarks/contrast_threshold.py IMAGES --to nearest.png

Every image file under IMAGES is cut as a build cuts it, with the threshold off. Prints, as
Markdown, the crops kept and refused nearest to the threshold, over all folders and of each, and
draws them. The picture may show images that must not be passed on: keep it to yourself.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging import windows
from cytoimagenet_hf.imaging.intensity import normalize
from cytoimagenet_hf.imaging.montage import contact_sheet
from cytoimagenet_hf.imaging.readers import read_plane

ENDINGS = (".tif", ".tiff", ".png", ".jpg", ".bmp")
NEAREST, NEAREST_OF_FOLDER = 12, 3
RULES = windows.Rules()


@dataclass(frozen=True)
class Judged:
    """One window and its contrast."""

    contrast: float
    folder: str
    name: str
    pixels: npt.NDArray[np.uint8]


def judge(images: Path) -> list[Judged]:
    """Cut all images; windows that another rule refuses are left out."""
    found = []
    for path, _ in files.walk(images):
        if not path.lower().endswith(ENDINGS):
            continue
        try:
            plane = normalize([("", read_plane(images / path))])
            windows.check_size(*plane.shape, RULES)
            crops = windows.crop_record(plane, path, 4, replace(RULES, min_contrast=0.0))
        except ImageRefusedError:
            continue
        found += [
            Judged(crop.contrast, path.split("/")[0], f"{path}#{crop.window.name}", crop.pixels)
            for crop in crops
            if crop.pixels is not None and not crop.reason
        ]
    return sorted(found, key=lambda one: (one.contrast, one.name))


def nearest(judged: list[Judged], count: int) -> tuple[list[Judged], list[Judged]]:
    """Refused and kept crops nearest to the threshold."""
    refused = [one for one in judged if one.contrast < RULES.min_contrast]
    kept = [one for one in judged if one.contrast >= RULES.min_contrast]
    return refused[-count:], kept[:count]


def main() -> None:
    """Print the tables and draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--to", type=Path, default=Path("nearest.png"))
    arguments = parser.parse_args()
    judged = judge(arguments.images)
    print(f"{len(judged)} crops; threshold {RULES.min_contrast}\n")
    sheet = []
    for title, part in zip(("refused", "kept"), nearest(judged, NEAREST), strict=True):
        print(f"| {title}, nearest to the threshold | contrast |\n|---|---:|")
        print("\n".join(f"| {one.name} | {one.contrast:.1f} |" for one in part) + "\n")
        sheet.append((f"{title}, all folders", [one.pixels for one in part]))
    print("| folder | crops | refused | nearest refused | nearest kept |\n|---|---:|---:|---|---|")
    for folder in sorted({one.folder for one in judged}):
        own = [one for one in judged if one.folder == folder]
        refused, kept = nearest(own, NEAREST_OF_FOLDER)
        texts = [", ".join(f"{one.contrast:.1f}" for one in part) for part in (refused, kept)]
        count = sum(one.contrast < RULES.min_contrast for one in own)
        print(f"| {folder} | {len(own)} | {count} | {texts[0]} | {texts[1]} |")
        sheet.append((f"{folder}: refused", [one.pixels for one in refused]))
        sheet.append((f"{folder}: kept", [one.pixels for one in kept]))
    contact_sheet(
        [row for row in sheet if row[1]], title="crops nearest to the contrast threshold"
    ).save(arguments.to)


if __name__ == "__main__":
    main()
