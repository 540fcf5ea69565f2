"""Tests of a build that goes on from a published release: nothing that stands is changed."""

import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf.curation.base import read_release
from cytoimagenet_hf.curation.edition_papers import Standing, write_papers
from cytoimagenet_hf.curation.embeddings import add_embeddings
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import build
from cytoimagenet_hf.curation.repair import repair
from cytoimagenet_hf.curation.reproduce import reproduce_all
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.errors import BuildError
from tests.curation.builds import config, raw_data, tree
from tests.curation.forging import rows_of
from tests.curation.test_embeddings import ABOUT, embed
from tests.publishing import OPEN, SMALL, build_data, edition_of, put, read_build

_PARAMETERS = preset("standard", min_fields=3, max_fields=4, group_rows=5)
_COLUMNS = ["image_id", "label", "group", "pixel_sha256"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Simulated raw data of two sources."""
    return raw_data(tmp_path_factory.mktemp("raw"), ("bbbc006", "bbbc048"), fields=8)


@pytest.fixture(scope="module")
def first(raw, tmp_path_factory) -> Path:
    """A release of cells alone."""
    to = tmp_path_factory.mktemp("first") / "cytoimagenet"
    build(config(raw, to, names=("bbbc048",), parameters=_PARAMETERS))
    return to


@pytest.fixture(scope="module")
def second(raw, first, tmp_path_factory) -> Path:
    """The next one, with a source more; the raw data of the first one aren't here."""
    to = tmp_path_factory.mktemp("second") / "cytoimagenet"
    build(config(raw, to, names=("bbbc006",), parameters=_PARAMETERS, base=first))
    return to


def sums(folder: Path) -> dict[str, str]:
    """Sum of each shard."""
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    return {path: one for one, path in (line.split("  ") for line in lines) if "data/" in path}


def rows(folder: Path, split: str) -> dict[str, dict]:
    """Columns of each crop of one split, by image_id."""
    found = {}
    for path in sorted((folder / "data" / "metadata").glob(f"{split}-*")):
        found |= {row["image_id"]: row for row in pq.read_table(path, columns=_COLUMNS).to_pylist()}
    return found


def test_a_later_release_adds_shards_and_rewrites_none(first, second):
    """Each shard of the first release is in the second with the same sum, and there are more."""
    assert sums(first).items() < sums(second).items()
    assert {path.split("/")[1] for path in sums(second).keys() - sums(first).keys()} == {
        "default", "small", "metadata"
    }  # fmt: skip


def test_published_crops_keep_label_and_side(first, second):
    """Integers, groups, pixels and splits of the first release are those of the second."""
    for split in ("train", "validation"):
        assert rows(first, split).items() <= rows(second, split).items()
    assert len(rows(second, "train")) > len(rows(first, "train"))


def test_classes_are_appended(first, second):
    """The first release's class names come first, in their order; `datasets` gives them all."""
    datasets = pytest.importorskip("datasets")
    release = read_release(second, _PARAMETERS)
    before = read_release(first, _PARAMETERS).texts
    assert release.texts[: len(before)] == before
    assert len(release.texts) > len(before)
    for name in ("default", "tiny"):  # of tiny all shards are of the first release
        loaded = datasets.load_dataset(str(second), name, split="train")
        assert loaded.features["label"].names == release.texts


def test_a_release_of_two_builds_is_whole(second):
    """Verification finds nothing wrong, though the older shards name fewer classes."""
    report = verify(second)
    assert [str(one) for one in report.findings] == []


def test_lineage_names_both_builds(first, second):
    """build.json tells which builds a folder is made of, and the sums of the one before."""
    lineage = json.loads((second / "build.json").read_text())["lineage"]
    before = json.loads((first / "build.json").read_text())["lineage"]
    assert lineage[:-1] == before
    assert [one["build"] for one in lineage] == sorted(
        {path.split("-")[-2] for path in sums(second)},
        key=[one["build"] for one in lineage].index,
    )
    assert sum(one["crops"] for one in lineage) == sum(
        len(rows(second, split)) for split in ("train", "validation")
    )


def test_nothing_new_is_no_release(raw, first, tmp_path):
    """The same raw data again add no crop, which is said instead of written."""
    with pytest.raises(BuildError, match="nothing new"):
        build(config(raw, tmp_path / "out", names=("bbbc048",), parameters=_PARAMETERS, base=first))


def test_a_copy_of_a_published_image_is_left_out(raw, first, tmp_path):
    """Raw files of the first release under another name give duplicates or conflicts only."""
    again = tmp_path / "raw"
    shutil.copytree(raw, again)
    names = sorted((again / "bbbc048").rglob("*.jpg"))
    for path in names:
        path.rename(path.with_name(f"9{path.name}"))
    to = tmp_path / "out"
    roomy = preset("standard", min_fields=3, max_fields=40, group_rows=5)
    build(config(again, to, names=("bbbc006", "bbbc048"), parameters=roomy, base=first))
    dropped = [
        row["reason"]
        for row in pq.read_table(to / "exclusions.parquet").to_pylist()
        if row["source"] == "bbbc048" and row["stage"] == "assembly"
    ]
    assert names
    assert dropped
    assert set(dropped) <= {"duplicate", "conflict"}
    for split in ("train", "validation"):
        assert rows(first, split).items() <= rows(to, split).items()


def test_an_old_shard_is_repaired_inside_of_the_new_release(raw, second, tmp_path):
    """A damaged shard of the first build gets its bytes again, with the classes of its time."""
    folder = tmp_path / "cytoimagenet"
    shutil.copytree(second, folder)
    oldest = json.loads((folder / "build.json").read_text())["lineage"][0]["build"]
    path = next(one for one in sorted(sums(folder)) if "default/train" in one and oldest in one)
    content = bytearray((folder / path).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / path).unlink()
    (folder / path).write_bytes(content)
    inputs = config(raw, tmp_path / "none", names=("bbbc006", "bbbc048")).inputs
    done = repair(folder, verify(folder), inputs)
    assert done.rewritten == (path,)
    assert verify(folder).is_whole


def test_published_part_of_a_mixed_folder_is_a_base(tmp_path):
    """Classes whose crops may not go out keep their integers, and what was withheld stays told."""
    mixed = build_data(tmp_path / "mixed")
    part = published_part(mixed, tmp_path)
    before = read_release(part, preset("standard", **SMALL))
    assert 0 in [one["crops"] for one in labels(part)][: len(before.texts)]
    raw = raw_data(tmp_path / "raw", ("bbbc022",), fields=12)
    to = tmp_path / "next"
    build(config(raw, to, names=("bbbc022",), parameters=preset("standard", **SMALL), base=part))
    assert read_release(to, preset("standard", **SMALL)).texts[: len(before.texts)] == before.texts
    assert [str(one) for one in verify(to).findings] == []
    assert [str(one) for one in verify(published_part(to, tmp_path / "again")).findings] == []


def go_on(base: Path, to: Path, *names: str) -> Path:
    """Build sources on a base, with embeddings of all crops."""
    raw = raw_data(to / "raw", names, fields=12)
    parameters = preset("standard", **SMALL)
    chosen = config(raw, to / "cytoimagenet", names=names, parameters=parameters, base=base)
    build(chosen)
    add_embeddings(chosen.output, "made-up", ABOUT, embed)
    return chosen.output


def builds(folder: Path) -> list[str]:
    """Names in the lineage."""
    return [one["build"] for one in read_build(folder)["lineage"]]


@pytest.mark.parametrize("later", [(), ("bbbc022",)], ids=["last", "between"])
def test_build_without_a_published_crop_leaves_no_name(tmp_path, later):
    """Published again and gone on from, the same crops get the same name once, and all is whole."""
    first = build_data(tmp_path / "1", OPEN)
    add_embeddings(first, "made-up", ABOUT, embed)
    folder = second = go_on(first, tmp_path / "2", "bbbc048")
    for name in later:
        folder = go_on(second, tmp_path / "3", name)
    part = published_part(folder, tmp_path / "part")
    gone = builds(second)[-1]
    assert builds(part) == [name for name in builds(folder) if name != gone]
    assert read_build(part)["build"] == builds(part)[-1]
    assert gone not in (part / "build.json").read_text(encoding="utf-8")
    assert sum(one["crops"] for one in read_build(part)["lineage"]) == len(rows_of(part, "small"))
    again = published_part(part, tmp_path / "again")
    for one in (part, again):
        assert [str(found) for found in verify(one).findings] == []
    assert {path: one for path, one in tree(again).items() if path != "README.md"} == {
        path: one for path, one in tree(part).items() if path != "README.md"
    }
    last = go_on(part, tmp_path / "4", "bbbc048")
    assert builds(last) == [*builds(part), gone]
    assert [str(found) for found in verify(last).findings] == []
    assert {row["image_id"] for row in rows_of(last, "small")} == {
        row["image_id"] for row in rows_of(folder, "small")
    }


def published_part(folder: Path, to: Path) -> Path:
    """What of a folder would stand on the Hub."""
    (to / "aside").mkdir(parents=True)
    edition = edition_of(folder)
    papers = write_papers(edition, to / "aside", hub_id="lab/cells", standing=Standing())
    found = {path: (folder / path).read_bytes() for path in edition.shards}
    return put(to / "there", found | {path: at.read_bytes() for path, at in papers.items()})


def labels(folder: Path) -> list[dict]:
    """The label report."""
    return pq.read_table(folder / "labels.parquet").to_pylist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"small_side": 100}, "small_side 256, not 100.*: pass --set small_side=256$"),
        ({"seed": 1}, "seed 0, not 1.*: pass --seed 0$"),
        (
            {"percents": (1.0, 99.0), "min_side": 20},
            r"percents \[0.1, 99.9\], not \[1.0, 99.0\], min_side 32, not 20.*: pass "
            r"--set 'percents=\[0.1,99.9\]' --set min_side=32$",
        ),
        ({"min_contrast": 0.0}, "--set min_contrast=11.5$"),
        ({"min_crop_side": 60}, "--set min_crop_side=70$"),
        ({"tiny_crops": 9}, "--set tiny_crops=100$"),
        ({"group_rows": 6}, "--set group_rows=5$"),
        ({"max_pixels": 1 << 20}, f"--max-pixels {1 << 26}$"),
    ],
)
def test_parameters_that_published_crops_depend_on_are_refused(first, change, message):
    """The message names both values, and the arguments that make them equal."""
    with pytest.raises(ValueError, match=message):
        read_release(first, dataclasses.replace(_PARAMETERS, **change))


def test_parameters_that_only_choose_may_differ(raw, tmp_path):
    """Crops of the base can be made again, its fourth ones too where now one is wanted."""
    build(config(raw, tmp_path / "base", names=("bbbc006",), parameters=_PARAMETERS))
    change = {"max_fields": 5, "min_crops": 1, "validation_share": 0.3, "max_pixels": 1 << 27}
    change |= {"crops_by_fields": ((0, 1),), "presample": 99, "chunk_fields": 3}
    chosen = config(
        raw,
        tmp_path / "out",
        names=("bbbc048",),
        parameters=dataclasses.replace(_PARAMETERS, **change),
        base=tmp_path / "base",
    )
    build(chosen)
    both = config(raw, chosen.output, names=("bbbc006", "bbbc048")).inputs
    assert [one for one in reproduce_all(chosen.output, both) if not one.is_equal] == []
