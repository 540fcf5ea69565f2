"""Tests of the published files: order, sizes, names, bytes, and what protects them."""

import io
import itertools
import random

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cytoimagenet_hf.curation import shards
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.schema import CATEGORIES, features
from tests.curation.material import crop


def picture(side: int = 80, seed: int = 0) -> bytes:
    """Make a PNG with another library than ours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


PNG = picture()  # above 4 KB, where Parquet keeps no copies as statistics
SCHEMA = features(["x", "y"]).arrow_schema


def row_of(one) -> dict:
    """Make the published row of a crop."""
    empty = dict.fromkeys(SCHEMA.names)
    cells = {category: [] for category in CATEGORIES}
    return {
        **empty,
        **cells,
        "image": {"bytes": PNG, "path": shards.image_path(one.image_id)},
        "label": one.label,
        "image_id": one.image_id,
        "channels": ["nucleus", "actin"],
    }


def written(folder, parts, *, parameters=None, build="0123abcd", bytes_of=lambda one: len(PNG)):
    """Write a config; give the shards, and all places in order."""
    target = shards.Target(folder, SCHEMA, build, parameters or Parameters(), bytes_of)
    made = list(shards.write_config("default", parts, row_of, target))
    return [shard for shard, _ in made], [place for _, placed in made for place in placed]


def many(count: int) -> list:
    """Make crops of two labels."""
    return [crop(f"made/{at}", label=at % 2) for at in range(count)]


def ids(path) -> list[str]:
    """Read the ids of a file in order."""
    return pq.read_table(path, columns=["image_id"])["image_id"].to_pylist()


@pytest.mark.parametrize(
    ("rows", "count"), [(1, 1), (100, 1), (101, 2), (250, 3), (701, 8), (1700, 8)]
)
def test_small_parts_have_a_shard_a_hundred_rows_and_at_most_eight(tmp_path, rows, count) -> None:
    """The number of shards is min(8, ceil(rows / 100)); their rows differ by one at most."""
    made, _ = written(tmp_path, {("train", "open"): many(rows)})
    assert len(made) == count
    sizes = [shard.rows for shard in made]
    assert sum(sizes) == rows
    assert max(sizes) - min(sizes) <= 1
    assert sizes == [len(ids(tmp_path / shard.path)) for shard in made]
    assert [shard.bytes for shard in made] == [
        (tmp_path / shard.path).stat().st_size for shard in made
    ]


def test_many_bytes_make_more_shards(tmp_path) -> None:
    """Thirty images of 100 bytes in shards of 600 bytes are five shards."""
    parameters = Parameters(shard_bytes=600)
    made, _ = written(
        tmp_path, {("train", "open"): many(30)}, parameters=parameters, bytes_of=lambda one: 100
    )
    assert [shard.rows for shard in made] == [6] * 5


def test_no_shard_is_empty(tmp_path) -> None:
    """Images larger than a shard get one each; a shard without rows could not be loaded."""
    parameters = Parameters(shard_bytes=10)
    made, _ = written(
        tmp_path, {("train", "open"): many(3)}, parameters=parameters, bytes_of=lambda one: 100
    )
    assert [shard.rows for shard in made] == [1, 1, 1]


def test_names_tell_config_split_terms_and_build(tmp_path) -> None:
    """Files count from zero in each split and terms class, and bear no total."""
    parts = {
        ("validation", "local"): many(1),
        ("train", "open"): many(150),
        ("train", "local"): many(1),
    }
    made, _ = written(tmp_path, parts, build="89abcdef")
    assert [shard.path for shard in made] == [
        "data/default/train-local-89abcdef-00000.parquet",
        "data/default/train-open-89abcdef-00000.parquet",
        "data/default/train-open-89abcdef-00001.parquet",
        "data/default/validation-local-89abcdef-00000.parquet",
    ]


def test_rows_come_in_hash_order_over_the_shards(tmp_path) -> None:
    """The seed decides the order; the order in which crops are given does not."""
    crops = many(120)
    for seed in (0, 1):
        made, _ = written(tmp_path, {("train", "open"): crops}, parameters=Parameters(seed=seed))
        found = [idx for shard in made for idx in ids(tmp_path / shard.path)]
        assert found == sorted(
            (one.image_id for one in crops), key=lambda idx: rank(seed, "order", idx)
        )


def test_bytes_are_the_same_for_any_order_of_crops(tmp_path) -> None:
    """Shuffled crops give the same files, byte by byte."""
    crops = many(130)
    contents = []
    for number in range(2):
        folder = tmp_path / str(number)
        made, _ = written(folder, {("train", "open"): random.Random(number).sample(crops, 130)})
        contents.append([(folder / shard.path).read_bytes() for shard in made])
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [100, 12]),
        ({"group_rows": 50}, [50, 50, 12]),
        ({"group_bytes": 30 * 100}, [30, 30, 30, 22]),
        ({"group_bytes": 30 * 100 - 1}, [29, 29, 29, 25]),
        ({"group_bytes": 1}, [1] * 112),
    ],
)
def test_row_groups_are_cut_by_rows_and_bytes(tmp_path, changes, expected) -> None:
    """A shard of 112 images of 100 bytes is cut where the next row would be too much."""
    made, _ = written(
        tmp_path,
        {("train", "open"): many(896)},
        parameters=Parameters(**changes),
        bytes_of=lambda one: 100,
    )
    about = pq.read_metadata(tmp_path / made[0].path)
    sizes = [about.row_group(number).num_rows for number in range(about.num_row_groups)]
    assert sizes == expected


def test_places_point_at_the_rows(tmp_path) -> None:
    """Row group and row of each crop find its id again; rows are handed on without images."""
    crops = many(250)
    parameters = Parameters(group_rows=40)
    target = shards.Target(tmp_path, SCHEMA, "0", parameters, lambda one: len(PNG))
    parts = {("train", "open"): crops}
    seen = 0
    for shard, placed in shards.write_config("default", parts, row_of, target):
        file = pq.ParquetFile(tmp_path / shard.path)
        for one, row, group, place in placed:
            found = file.read_row_group(group, columns=["image_id"])["image_id"][place].as_py()
            assert found == one.image_id == row["image_id"]
            assert "image" not in row
            seen += 1
    assert seen == 250


@pytest.fixture
def one_file(tmp_path):
    """A shard with one row group of five crops."""
    made, _ = written(tmp_path, {("train", "open"): many(5)})
    return tmp_path / made[0].path


def test_images_are_stored_as_they_are(one_file) -> None:
    """Image bytes are neither compressed nor put into a dictionary; texts are both."""
    group = pq.read_metadata(one_file).row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    for name in ("image.bytes", "image.path"):
        assert columns[name].compression == "UNCOMPRESSED"
        assert not columns[name].has_dictionary_page
    assert columns["image_id"].compression == "SNAPPY"
    assert columns["image_id"].has_dictionary_page
    assert one_file.read_bytes().count(PNG) == 5


def test_each_column_has_a_page_index(one_file) -> None:
    """Readers of single rows skip the pages before them."""
    group = pq.read_metadata(one_file).row_group(0)
    assert all(group.column(at).has_offset_index for at in range(group.num_columns))
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert columns["image_id"].has_column_index


def test_a_flipped_byte_is_found_by_page_checksums(one_file) -> None:
    """One changed pixel byte is read silently without checksums, and is an error with them."""
    pq.read_table(one_file, page_checksum_verification=True)
    content = bytearray(one_file.read_bytes())
    content[content.find(PNG) + len(PNG) // 2] ^= 1
    one_file.write_bytes(content)
    changed = pq.read_table(one_file)["image"].to_pylist()
    assert [one["bytes"] == PNG for one in changed].count(False) == 1
    with pytest.raises(OSError, match=r"(?i)crc"):
        pq.read_table(one_file, page_checksum_verification=True)


def test_every_page_of_every_column_has_a_checksum(one_file) -> None:
    """Wherever a byte of a page changes, reading with checksums fails."""
    group = pq.read_metadata(one_file).row_group(0)
    original = one_file.read_bytes()
    for at in range(group.num_columns):
        column = group.column(at)
        start = column.data_page_offset
        if column.has_dictionary_page:
            start = min(start, column.dictionary_page_offset)
        content = bytearray(original)
        content[start + column.total_compressed_size - 1] ^= 0xFF  # last byte of the last page
        one_file.write_bytes(content)
        with pytest.raises(OSError, match=r"(?i)crc"):
            pq.read_table(one_file, page_checksum_verification=True)


def test_features_survive(one_file) -> None:
    """A shard alone tells `datasets` that images are images and labels have names."""
    schema = pq.read_schema(one_file)
    assert b"huggingface" in schema.metadata
    found = datasets.Features.from_arrow_schema(schema)
    assert found == features(["x", "y"])
    assert found["label"].names == ["x", "y"]
    assert isinstance(found["image"], datasets.Image)


def test_nulls_and_lists_survive(one_file) -> None:
    """What a row holds comes back, empty lists and absent numbers too."""
    (first, *_) = pq.read_table(one_file).to_pylist()
    assert first["channels"] == ["nucleus", "actin"]
    assert first["gene"] == []
    assert first["x_min"] is None


def test_build_names_depend_on_ids_and_pixels_alone() -> None:
    """Eight hex digits, for any order; another pixel hash is another build."""
    crops = many(5)
    name = shards.build_name(crops)
    assert len(name) == 8
    assert int(name, 16) >= 0
    assert shards.build_name(crops[::-1]) == name
    assert shards.build_name([*crops[:4], crop("made/4", pixel_sha256="other")]) != name
    relabeled = [crop(f"made/{at}", label=0, terms="local", row=at) for at in range(5)]
    assert shards.build_name(relabeled) == name


def test_image_paths_are_names_without_folders() -> None:
    """Slashes and the hash sign of an id become underscores."""
    assert shards.image_path("bbbc022/20585/a01/1#ne-4-0") == "bbbc022_20585_a01_1_ne-4-0.png"


def test_tiny_takes_the_lowest_hashes() -> None:
    """Two of four labels and three crops each, chosen by the text and by the image's id."""
    crops = [crop(f"made/{at}", label=at % 4) for at in range(40)]
    names = dict(enumerate(("p", "q", "r", "s")))
    parameters = Parameters(tiny_labels=2, tiny_crops=3, seed=4)
    chosen = shards.tiny_crops(crops, names, parameters)
    labels = sorted(names, key=lambda one: rank(4, "tiny label", names[one]))[:2]
    assert {one.label for one in chosen} == set(labels)
    for label in labels:
        own = sorted(
            (one.image_id for one in crops if one.label == label),
            key=lambda idx: rank(4, "tiny", idx),
        )
        assert sorted(one.image_id for one in chosen if one.label == label) == sorted(own[:3])


def test_tiny_images_are_averaged() -> None:
    """A board of 2 x 2 squares shrunk by two keeps its squares; a small image stays."""
    board = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((2, 2))).astype(np.uint8) * 200
    sink = io.BytesIO()
    Image.fromarray(board).save(sink, "PNG")
    encoded, height, width, _ = shards.tiny_image(sink.getvalue(), 8)
    assert (height, width) == (8, 8)
    assert np.asarray(Image.open(io.BytesIO(encoded))).tolist() == board[::2, ::2].tolist()
    encoded, height, width, _ = shards.tiny_image(sink.getvalue(), 16)
    assert np.asarray(Image.open(io.BytesIO(encoded))).tolist() == board.tolist()


def test_metadata_is_one_file_a_part(tmp_path) -> None:
    """Rows stay in order in one file, whatever their number."""
    schema = pa.schema([("image_id", pa.string())])
    rows = [{"image_id": str(at)} for at in range(250)]
    shard = shards.write_metadata(("train", "open"), rows, tmp_path, schema, "0123abcd")
    assert shard.path == "data/metadata/train-open-0123abcd-00000.parquet"
    assert ids(tmp_path / shard.path) == [str(at) for at in range(250)]
    assert pq.read_metadata(tmp_path / shard.path).num_row_groups == 1


@pytest.mark.parametrize("rows", [1, 7, 250])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_cuts_cover_all_rows_once(rows, count) -> None:
    """Neighboring cuts touch, the first begins at zero, the last ends at the end."""
    cuts = shards.cut_rows(rows, count)
    assert len(cuts) == count
    assert (cuts[0][0], cuts[-1][1]) == (0, rows)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(cuts))
