"""Tests of the configs of a real small build: which rows and columns each holds."""

import hashlib
import io
from collections import Counter, defaultdict
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from cytoimagenet_hf.curation.configs import data_files
from cytoimagenet_hf.curation.shards import Shard
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.schema import CATEGORIES, POINTER_COLUMNS, PUBLISHED_COLUMNS
from tests.curation.material import SMALL, Built, build_small


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Built:
    """The build that several modules look at."""
    return build_small(tmp_path_factory)


def paths(built, config: str) -> list[Path]:
    """Files of a config."""
    return sorted((built.output / "data" / config).iterdir())


def rows(built, config: str) -> list[dict]:
    """All rows of a config, with their split and terms from the file's name."""
    found = []
    for path in paths(built, config):
        split, terms, _, _ = path.stem.split("-")
        found += [
            row | {"in_split": split, "in_terms": terms} for row in pq.read_table(path).to_pylist()
        ]
    return found


def declared(built) -> dict[str, dict[str, list[str]]]:
    """Configs and splits of the card, with the files that they name."""
    text = (built.output / "README.md").read_text(encoding="utf-8")
    card = yaml.safe_load(text.split("---\n")[1])
    return {
        config["config_name"]: {
            entry["split"]: [entry["path"]] if isinstance(entry["path"], str) else entry["path"]
            for entry in config["data_files"]
        }
        for config in card["configs"]
    }


def sha256_of_pixels(encoded: bytes) -> tuple[str, int, int]:
    """Decode with another library and hash height, width and pixels as the design says."""
    pixels = np.asarray(Image.open(io.BytesIO(encoded)))
    assert pixels.dtype == np.uint8
    head = b"".join(side.to_bytes(4, "little") for side in pixels.shape)
    return hashlib.sha256(head + pixels.tobytes()).hexdigest(), *pixels.shape


@pytest.mark.parametrize(("config", "side"), [("default", 10**6), ("small", 256), ("tiny", 128)])
def test_images_are_those_that_their_rows_name(built, config, side) -> None:
    """Hash, height and width of each row are those of its own pixels; no side is too long."""
    for row in rows(built, config):
        sha256, height, width = sha256_of_pixels(row["image"]["bytes"])
        assert (row["pixel_sha256"], row["height"], row["width"]) == (sha256, height, width)
        assert max(height, width) <= side
        assert row["image"]["path"] == (
            row["image_id"].replace("/", "_").replace("#", "_") + ".png"
        )


def test_small_holds_the_rows_of_default(built) -> None:
    """Both configs have the same crops in the same order; only sizes and hashes differ."""
    differing = ("image", "height", "width", "pixel_sha256")
    large, small = (
        [{name: row[name] for name in row if name not in differing} for row in rows(built, config)]
        for config in ("default", "small")
    )
    assert large == small
    assert len(large) == built.summary.crops > 0


def test_crops_larger_than_a_limit_exist(built) -> None:
    """The material is such that shrinking to 256 and to 128 pixels has something to do."""
    longest = [max(row["height"], row["width"]) for row in rows(built, "default")]
    assert max(longest) > 256
    assert min(longest) < 128
    assert max(max(row["height"], row["width"]) for row in rows(built, "tiny")) == 128


def test_tiny_holds_the_lowest_hashes_of_labels_and_crops(built) -> None:
    """Four labels and five crops a label over both splits, ranked by text and id."""
    everything = rows(built, "default")
    names = label_names(paths(built, "default")[0])
    by_label = defaultdict(list)
    for row in everything:
        by_label[names[row["label"]]].append(row["image_id"])
    chosen = sorted(by_label, key=lambda text: rank(SMALL.seed, "tiny label", text))
    expected = {
        idx
        for text in chosen[: SMALL.tiny_labels]
        for idx in sorted(by_label[text], key=lambda idx: rank(SMALL.seed, "tiny", idx))[
            : SMALL.tiny_crops
        ]
    }
    assert {row["image_id"] for row in rows(built, "tiny")} == expected
    assert len(expected) < len(everything)
    split_of = {row["image_id"]: row["in_split"] for row in everything}
    assert all(split_of[row["image_id"]] == row["in_split"] for row in rows(built, "tiny"))


def test_pointers_find_the_image(built) -> None:
    """Shard, row group and row of each metadata row lead to the image of the same id."""
    about = rows(built, "metadata")
    assert len(about) == built.summary.crops
    files = {path: pq.ParquetFile(built.output / path) for path in {row["shard"] for row in about}}
    for row in about:
        group = files[row["shard"]].read_row_group(row["row_group"])
        found = group.slice(row["row"], 1).to_pylist()[0]
        assert found["image_id"] == row["image_id"]
        assert sha256_of_pixels(found["image"]["bytes"])[0] == row["pixel_sha256"]
        assert {name: found[name] for name in found if name != "image"} == {
            name: row[name] for name in found if name != "image"
        }


def test_metadata_has_all_columns_but_the_image(built) -> None:
    """Columns come in the order of the schema, with the pointers at the end."""
    (first, *_) = paths(built, "metadata")
    assert pq.read_schema(first).names == [*PUBLISHED_COLUMNS[1:], *POINTER_COLUMNS]
    assert pq.read_schema(paths(built, "tiny")[0]).names == list(PUBLISHED_COLUMNS)


def label_names(path: Path) -> list[str]:
    """Class names that a file carries."""
    return datasets.Features.from_arrow_schema(pq.read_schema(path))["label"].names


def test_every_file_carries_the_full_list_of_classes(built) -> None:
    """Integers agree over all configs, also where a config lacks some of the classes."""
    listed = {tuple(label_names(path)) for path in (built.output / "data").rglob("*.parquet")}
    assert len(listed) == 1
    (names,) = listed
    assert len(set(names)) == len(names) == built.summary.labels
    in_tiny = {row["label"] for row in rows(built, "tiny")}
    assert len(in_tiny) < len(names)


def test_labels_are_values_of_their_own_rows(built) -> None:
    """The text of a row's label stands in the row's column of the label's category."""
    names = label_names(paths(built, "metadata")[0])
    order = []
    for row in rows(built, "metadata"):
        category = CATEGORIES[row["category"]]
        value = names[row["label"]].removesuffix(f" ({category})")
        if category != "cell_visible":  # one of a cell's three records shows the nucleus
            assert value in row[category]
        order.append((row["label"], row["category"], value))
    listed = [(category, value) for _, category, value in sorted(set(order))]
    assert listed == sorted(listed)


def test_commercial_holds_exactly_what_its_terms_allow(built) -> None:
    """The commercial configs name the shards of open crops and none of local ones."""
    configs = declared(built)
    for config, base in (("commercial", "default"), ("commercial_small", "small")):
        found = [
            row["image_id"]
            for files in configs[config].values()
            for path in files
            for row in pq.read_table(built.output / path).to_pylist()
        ]
        allowed = [row["image_id"] for row in rows(built, base) if row["terms"] == "open"]
        assert sorted(found) == sorted(allowed)
        assert 0 < len(found) < built.summary.crops


def test_shards_hold_one_class_of_terms(built) -> None:
    """CC0 crops lie in files named open, those of unknown license in files named local."""
    for config in ("default", "small", "tiny", "metadata"):
        for row in rows(built, config):
            assert row["terms"] == row["in_terms"]
            assert row["terms"] == {"bbbc022": "open", "bbbc048": "local"}[row["dir_name"]]


def test_groups_lie_in_one_split(built) -> None:
    """No group is on both sides, and every label is in train."""
    sides = defaultdict(set)
    trained = set()
    for row in rows(built, "metadata"):
        sides[row["group"]].add(row["in_split"])
        if row["in_split"] == "train":
            trained.add(row["label"])
    assert all(len(own) == 1 for own in sides.values())
    assert trained == set(range(built.summary.labels))
    assert Counter(row["in_split"] for row in rows(built, "metadata")) == built.summary.splits


def test_ids_are_unique_and_agree_with_their_columns(built) -> None:
    """An image's id is the record's with its window; the source is the first part."""
    about = rows(built, "metadata")
    assert len({row["image_id"] for row in about}) == len(about)
    for row in about:
        idx, _, window = row["image_id"].partition("#")
        assert row["idx"] == idx
        assert idx.split("/")[0] == row["dir_name"]
        assert row["crop"] == (window != "whole")
        assert row["scaling"] == (1 if window == "whole" else 1 / int(window.split("-")[1]))
        assert (row["x_max"] - row["x_min"], row["y_max"] - row["y_min"]) == (
            row["width"],
            row["height"],
        )


def test_the_card_declares_what_is_there(built) -> None:
    """Each declared file exists and each data file is declared; no split is empty."""
    named = [
        path for splits in declared(built).values() for files in splits.values() for path in files
    ]
    there = {
        path.relative_to(built.output).as_posix()
        for path in (built.output / "data").rglob("*.parquet")
    }
    assert set(named) == there
    assert all(pq.read_metadata(built.output / path).num_rows > 0 for path in there)


def test_configs_and_splits_without_rows_are_not_declared() -> None:
    """Without open crops there is no commercial config, without validation no such split."""
    written = [
        Shard("default", "train", "local", "a", 1, 1),
        Shard("small", "train", "local", "b", 1, 1),
        Shard("small", "validation", "noncommercial", "c", 1, 1),
    ]
    assert data_files(written) == {
        "default": {"train": ["a"]},
        "small": {"train": ["b"], "validation": ["c"]},
    }


def test_sharealike_crops_are_commercial() -> None:
    """Share-alike binds what is made of a crop, and not who may use it."""
    written = [
        Shard("default", "train", terms, f"d-{terms}", 1, 1)
        for terms in ("open", "sharealike", "noncommercial", "local")
    ] + [Shard("tiny", "train", "open", "t", 1, 1)]
    assert data_files(written)["commercial"] == {"train": ["d-open", "d-sharealike"]}


def test_datasets_reads_each_config(built, tmp_path) -> None:
    """`load_dataset` beside the folder gives all rows of all configs."""
    counts = {}
    for config, splits in declared(built).items():
        loaded = datasets.load_dataset(str(built.output), config, cache_dir=str(tmp_path))
        counts[config] = {split: len(part) for split, part in loaded.items()}
        assert set(counts[config]) == set(splits)
    assert counts["default"] == built.summary.splits
    assert counts["default"] == counts["small"] == counts["metadata"]


def test_schemas_are_equal_over_files(built) -> None:
    """All files of one kind can be read as one table."""
    for config in ("default", "small", "tiny", "metadata"):
        schemas = [pq.read_schema(path) for path in paths(built, config)]
        assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
        assert isinstance(schemas[0], pa.Schema)
