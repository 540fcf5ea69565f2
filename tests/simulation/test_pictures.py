"""Simulated pictures look like pictures: levels, contrast, focus, labels that can be learned."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytoimagenet_hf import simulation


def pixels_of(path):
    """The pixels of any simulated image, gray; floats of 0..1 as counts of 12 bits."""
    if path.suffix.lower() == ".tif":
        pixels = tifffile.imread(path)
        return pixels.astype(float) * (4095 if pixels.dtype.kind == "f" else 1)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L")).astype(float)


@pytest.mark.parametrize("name", simulation.names())
def test_no_picture_is_flat_or_saturated(written, name):
    """The 0.1 and 99.9 percentiles differ in each picture, and few pixels are clipped."""
    for path in written(name).images():
        pixels = pixels_of(path)
        low, high = np.percentile(pixels, [0.1, 99.9])
        assert high > low + 8
        assert (pixels == pixels.max()).mean() < 0.02


@pytest.mark.parametrize(
    ("name", "part"), [("bbbc006", "_w1"), ("bbbc022", "w1/"), ("bbbc010", "_w1_")]
)
def test_fluorescence_is_dark_with_a_bright_tail(written, name, part):
    """As in the real files, the median is near the background of 80..200 counts and the top above.

    The real ones have medians of 94 (bbbc010) and 165..180 (bbbc022), 99.9 percentiles 700..1400.
    """
    for path in written(name).images(part):
        pixels = pixels_of(path)
        assert 80 <= np.median(pixels) <= 200
        assert np.percentile(pixels, 99.9) > 350


def test_transmitted_light_is_bright_inside_of_the_well(written):
    """BBBC010's w2 is bright (real: 947 counts on average) where w1 is dark (99)."""
    dark = [pixels_of(path).mean() for path in written("bbbc010").images("_w1_")]
    bright = [pixels_of(path).mean() for path in written("bbbc010").images("_w2_")]
    assert max(dark) < 130
    assert min(bright) > 700


def test_the_further_plane_is_out_of_focus(written):
    """The blurred plane of BBBC006 has far weaker edges than the one in focus."""
    root = written("bbbc006").root
    steepest = [
        np.abs(np.diff(pixels_of(sorted((root / folder).glob("*_a01_s1_w1*"))[0]), axis=1)).max()
        for folder in ("BBBC006_v1_images_z_16", "BBBC006_v1_images_z_20")
    ]
    assert steepest[1] < steepest[0] / 3


def test_more_cells_cover_more(written):
    """In BBBC005 the share of bright pixels grows with the count in the name."""
    cover = {
        int(path.name.split("_C")[1].split("_")[0]): (pixels_of(path) > 60).mean()
        for path in written("bbbc005").images("_w1")
    }
    counts = sorted(cover)
    assert cover[counts[-1]] > 3 * cover[counts[1]] > 0


def test_live_and_dead_worms_differ(written):
    """Dead worms take up the stain: their wells have many more bright pixels."""
    root, truth = written("bbbc010").root, written("bbbc010").truth
    bright = {"live": [], "dead": []}
    for path, painted in truth.items():
        if "_w1_" in path:
            bright[painted[-1]].append((pixels_of(root / path) > 300).mean())
    assert len(bright["live"]) == len(bright["dead"]) == 4
    assert np.median(bright["dead"]) > 2 * np.median(bright["live"])


def test_phases_can_be_learned_from_three_numbers(written):
    """The nearest class mean of three statistics of the DNA names the phase far above chance."""
    cells = written("bbbc048", 60)
    paths = [path for path in cells.images("_Ch4")]
    labels = [path.parent.name for path in paths]
    values = []
    for path in paths:
        pixels = pixels_of(path)
        values.append((pixels.mean(), pixels.std(), np.percentile(pixels, 99)))
    assert accuracy(np.array(values), labels) > 0.5  # chance: 14/60


def test_treatments_can_be_learned_from_three_numbers(written):
    """Six treatments of BBBC022 are told apart from three statistics of two channels."""
    fields = written("bbbc022", 24)
    values, labels = [], []
    for path in fields.images("w1/"):
        nuclei = pixels_of(path)
        partner = sorted(path.parent.with_name(f"{path.parent.name[:-1]}5").iterdir())
        place = path.name.split("_w")[0]
        mesh = pixels_of(next(one for one in partner if one.name.startswith(f"{place}_w")))
        rough = np.abs(np.diff(mesh, axis=1)).mean() / mesh.std()
        values.append(((nuclei > 450).mean(), nuclei[nuclei > 450].mean(), rough))
        labels.append(fields.truth[path.relative_to(fields.root).as_posix()])
    assert accuracy(np.array(values), labels) > 0.5  # chance: 4/24


def accuracy(values, labels) -> float:
    """Share of items nearest to the mean of their own class, each left out in turn."""
    values = (values - values.mean(0)) / values.std(0)
    names = sorted(set(labels))
    labels = np.array([names.index(label) for label in labels])
    right = 0
    for item in range(len(values)):
        others = np.arange(len(values)) != item
        distances = [
            np.linalg.norm(values[item] - values[others & (labels == name)].mean(0))
            for name in range(len(names))
        ]
        right += int(np.argmin(distances)) == labels[item]
    return right / len(values)
