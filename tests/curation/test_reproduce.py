"""Published crops are rendered once more from raw bytes and give the same hashes."""

import shutil
from dataclasses import replace

import pytest

from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import build
from cytoimagenet_hf.curation.reproduce import published_crops, reproduce, reproduce_all
from cytoimagenet_hf.errors import DatasetNotAvailableError, SourceNotFoundError
from tests.curation.builds import config
from tests.curation.forging import rows_of

REAL = ("bbbc006", "bbbc010", "bbbc022", "bbbc038", "bbbc048")
MOST_SECONDS = 0.05  # a crop, beyond reading; mean of a whole build


def test_every_crop_is_reproduced(built_once):
    """All crops of the build, each once, with equal hashes."""
    found = list(reproduce_all(built_once.folder, built_once.inputs))
    assert [one.difference for one in found if not one.is_equal] == []
    assert {one.image_id for one in found} == {
        row["image_id"] for row in rows_of(built_once.folder, "default")
    }
    assert sum(one.rendering_seconds for one in found) / len(found) < MOST_SECONDS


def test_one_crop_is_reproduced(built_once):
    """A single id gives what stands in `default`."""
    row = rows_of(built_once.folder, "default")[0]
    found = reproduce(row["image_id"], built_once.folder, built_once.inputs)
    assert found.is_equal
    assert found.found_pixel_sha256 == row["pixel_sha256"]
    assert found.found_source_sha256 == row["source_sha256"]


def test_unknown_id_names_near_ones(built_once):
    """A window that doesn't exist is answered with one that does."""
    known = sorted(published_crops(built_once.folder))[0]
    with pytest.raises(ValueError, match="Did you mean") as problem:
        reproduce(f"{known}9", built_once.folder, built_once.inputs)
    assert known in str(problem.value)


def test_source_that_was_not_given_is_named(built_once):
    """The message says which source is needed."""
    known = next(one for one in published_crops(built_once.folder) if one.startswith("bbbc048"))
    with pytest.raises(SourceNotFoundError, match="source bbbc048"):
        reproduce(known, built_once.folder, built_once.inputs[:1])


def elsewhere(built, tmp_path):
    """Inputs over a copy of the raw files, which may be changed."""
    inputs = []
    for entry in built.inputs:
        root = tmp_path / "raw" / entry.source.name
        shutil.copytree(entry.root, root)
        inputs.append(replace(entry, root=root))
    return inputs


def test_absent_raw_files_are_an_error(built_once, tmp_path):
    """The record is named, and where it was looked for."""
    inputs = elsewhere(built_once, tmp_path)
    known = next(one for one in published_crops(built_once.folder) if one.startswith("bbbc006"))
    idx = known.partition("#")[0]
    plate, well, site = idx.split("/")[1:]
    gone = [
        path
        for path in inputs[0].root.rglob("*.tif")
        if path.name.startswith(f"{plate}_{well}_{site}_w1")
    ]
    assert gone
    for path in gone:
        path.unlink()
    with pytest.raises(SourceNotFoundError, match=idx):
        reproduce(known, built_once.folder, inputs)


def test_changed_raw_files_are_told_from_changed_pixels(built_once, tmp_path):
    """A byte more behind the pixels changes the raw hash, and this is said."""
    inputs = elsewhere(built_once, tmp_path)
    for path in inputs[0].root.rglob("*.tif"):
        path.write_bytes(path.read_bytes() + b"\0")
    known = next(one for one in published_crops(built_once.folder) if one.startswith("bbbc006"))
    found = reproduce(known, built_once.folder, inputs)
    assert not found.is_equal
    assert found.difference == "the raw files are not those that were published"


def test_other_parameters_give_other_pixels(built):
    """With another seed in build.json the window isn't drawn where it was."""
    path = built.folder / "build.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    found = list(reproduce_all(built.folder, built.inputs))
    differences = {one.difference for one in found if not one.is_equal}
    assert differences <= {"not rendered: no such window", "other pixels"}
    assert differences


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"parameters": {"seed": 0}}'])
def test_damaged_build_json_is_an_error(built, content):
    """Without the parameters nothing can be rendered."""
    known = next(iter(published_crops(built.folder)))
    path = built.folder / "build.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetNotAvailableError, match=r"build\.json"):
        reproduce(known, built.folder, built.inputs)


def test_folder_without_metadata_is_an_error(tmp_path):
    """Ids and hashes are read from the config `metadata`."""
    with pytest.raises(DatasetNotAvailableError, match="metadata"):
        reproduce("a/b#whole", tmp_path, [])


@pytest.mark.slow
def test_every_crop_of_a_real_build_is_reproduced(real_images, tmp_path):
    """Five real sources, each crop equal, and at most 50 ms a crop beyond reading."""
    chosen = config(
        real_images, tmp_path / "cytoimagenet", names=REAL,
        parameters=preset("standard", min_fields=10),
    )  # fmt: skip
    tables = real_images.parent / "metadata"
    inputs = [replace(one, tables=(tables / one.source.name,)) for one in chosen.inputs]
    build(replace(chosen, inputs=inputs))
    found = list(reproduce_all(chosen.output, inputs))
    assert len(found) > 100
    assert [one for one in found if not one.is_equal] == []
    assert sum(one.rendering_seconds for one in found) / len(found) < MOST_SECONDS
