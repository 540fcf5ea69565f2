"""The card's pictures: of crops that others may see, drawn from the shards, the same each time."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pictures import choose_tiles, draw_labels, write_pictures
from cytoimagenet_hf.curation.pipeline import build
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.hashing import pixel_sha256
from cytoimagenet_hf.hub.cards import LabelFacts
from tests.curation.builds import config, raw_data
from tests.publishing import MIXED, OPEN, SMALL, build_data


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Open and closed crops; never change this folder."""
    return build_data(tmp_path_factory.mktemp("mixed"))


def small_shards(folder) -> list[str]:
    """Paths of the shards of config small."""
    return [f"data/small/{path.name}" for path in sorted((folder / "data/small").iterdir())]


def facts_of(folder) -> list[LabelFacts]:
    """The published classes, from the label report."""
    return [
        LabelFacts(label=row["label"], category=row["category"], fields=1, crops=row["crops"])
        for row in pq.read_table(folder / "labels.parquet").to_pylist()
        if not row["dropped_reason"]
    ]


def licenses_of(folder) -> dict[str, str]:
    """License of each crop of config small by the hash of its pixels."""
    table = pq.read_table(folder / "data" / "small", columns=["pixel_sha256", "license"])
    return {row["pixel_sha256"]: row["license"] for row in table.to_pylist()}


def bars(picture: Image.Image, *, top: int) -> int:
    """Length of the dark bar in one row of pixels, behind the names."""
    return int((np.asarray(picture)[top, 140:] == 90).sum())


def test_gallery_shows_only_crops_that_others_may_see(mixed):
    """Both licenses are in the folder, and every tile is of the open one."""
    licenses = licenses_of(mixed)
    assert set(licenses.values()) == {"CC0 1.0", "unknown"}
    tiles = choose_tiles(mixed, small_shards(mixed), facts_of(mixed), seed=0)
    shown = {licenses[pixel_sha256(one)] for own in tiles.values() for one in own}
    assert shown == {"CC0 1.0"}


def test_folder_of_closed_crops_has_no_gallery(tmp_path):
    """The chart tells numbers alone, so it is there; the card refers to what is there."""
    folder = build_data(tmp_path, ("bbbc048",))
    assert [path.name for path in (folder / "pictures").iterdir()] == ["labels.png"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "(pictures/labels.png)" in card
    assert "classes.png" not in card
    assert verify(folder, workers=0).is_whole


def test_pictures_are_listed_and_a_changed_one_is_found(mixed, tmp_path):
    """The sums cover them, so that another picture under the name is a finding."""
    folder = tmp_path / "copy"
    shutil.copytree(mixed, folder)
    assert verify(folder, workers=0).is_whole
    picture = folder / "pictures" / "classes.png"
    picture.write_bytes((folder / "pictures" / "labels.png").read_bytes())
    found = [(one.path, one.what) for one in verify(folder, workers=0).findings]
    assert found == [("pictures/classes.png", "sha256 of the file")]


def test_drawing_again_gives_the_same_bytes(mixed, tmp_path):
    """The shards alone decide, not the order in which they are named."""
    shards = small_shards(mixed)[::-1]
    paths = write_pictures(mixed, shards, facts_of(mixed), seed=0, simulated=True, to=tmp_path)
    assert paths == ("pictures/classes.png", "pictures/labels.png")
    for path in paths:
        assert (tmp_path / path).read_bytes() == (mixed / path).read_bytes()


def test_simulated_data_say_so_in_both_pictures(mixed, tmp_path):
    """Without the mark each picture has fewer dark pixels in its title, and the rest is equal."""
    for name, flag in (("marked", True), ("plain", False)):
        write_pictures(
            mixed, small_shards(mixed), facts_of(mixed), seed=0, simulated=flag, to=tmp_path / name
        )
    for path in ("pictures/classes.png", "pictures/labels.png"):
        marked, plain = (
            np.asarray(Image.open(tmp_path / one / path)) for one in ("marked", "plain")
        )
        assert (marked[:32] < 128).sum() > (plain[:32] < 128).sum() + 100
        assert np.array_equal(marked[36:], plain[36:])


def test_bars_are_as_long_as_their_numbers():
    """Of 200, 100 and 50 crops the bars stand as 4 : 2 : 1; a category without any has none."""
    labels = [
        LabelFacts(label="a", category="compound", fields=1, crops=150),
        LabelFacts(label="b", category="compound", fields=1, crops=50),
        LabelFacts(label="c", category="sirna", fields=1, crops=100),
        LabelFacts(label="d", category="gene", fields=1, crops=50),
        LabelFacts(label="e", category="organism", fields=1, crops=0),
    ]
    picture = draw_labels(labels)
    first = 2 * 32 + 6 + 1  # two lines of text and the gap above the bars
    compound, sirna, gene = (bars(picture, top=first + line * 32) for line in range(3))
    assert compound > 200
    assert abs(compound - 2 * sirna) <= 2
    assert abs(compound - 4 * gene) <= 4
    assert bars(picture, top=first + 6 * 32) <= 1


def test_columns_fall_from_the_most_crops_to_the_fewest():
    """Of two classes with 100 and 25 crops the left half is full and the right one a quarter."""
    labels = [
        LabelFacts(label="few", category="gene", fields=1, crops=25),
        LabelFacts(label="many", category="gene", fields=1, crops=100),
    ]
    pixels = np.asarray(draw_labels(labels)) == 90
    lower = pixels[2 * 32 + 6 + 7 * 32 + 16 + 32 :, 144:556]
    assert lower[:, 10].sum() == 150
    assert abs(lower[:, -10].sum() - 150 / 4) <= 1


def test_no_class_no_crash():
    """A chart of nothing is a chart of zeros."""
    assert draw_labels([]).size == (570, draw_labels([]).height)


def test_release_on_a_base_shows_crops_of_both(tmp_path):
    """The base's raw data are not here; its crops come from its shards."""
    raw = raw_data(tmp_path / "raw", MIXED, fields=12)
    parameters = preset("standard", **SMALL)
    first = config(raw, tmp_path / "one" / "cytoimagenet", names=OPEN, parameters=parameters)
    build(first)
    second = config(
        raw,
        tmp_path / "two" / "cytoimagenet",
        names=("bbbc048",),
        parameters=parameters,
        base=first.output,
    )
    build(second)
    one, two = first.output, second.output
    tiles = choose_tiles(two, small_shards(two), facts_of(two), seed=0)
    before = choose_tiles(one, small_shards(one), facts_of(one), seed=0)
    assert before
    licenses = licenses_of(two)
    assert "unknown" in licenses.values()  # what was added is closed
    assert {licenses[pixel_sha256(one)] for own in tiles.values() for one in own} == {"CC0 1.0"}
    assert (one / "pictures/labels.png").read_bytes() != (two / "pictures/labels.png").read_bytes()
    assert verify(two, workers=0).is_whole
