"""The published columns, in their order and types, and the limits on outside input."""

import subprocess
import sys

import pytest

from cytoimagenet_hf import schema
from cytoimagenet_hf.schema import Limits, features

# Written out here once more (design 3), so that no column is renamed or moved by accident.
TEXT = (
    "image label category database name dir_name idx image_id group plate well site "
    "compound sirna gene phenotype cell_visible cell_type organism "
    "microscopy channels crop scaling x_min x_max y_min y_max height width "
    "source_sha256 pixel_sha256 license terms"
)
COLUMNS = TEXT.split()


def test_columns_are_the_published_ones():
    """Names and order never change between releases; the seven categories stand as in the paper."""
    assert list(schema.PUBLISHED_COLUMNS) == COLUMNS
    assert len(set(COLUMNS)) == len(COLUMNS)
    first = COLUMNS.index("compound")
    assert list(schema.CATEGORIES) == COLUMNS[first : first + 7]


def test_features_have_all_columns_in_order():
    """The schema of `datasets` has every column once, in the same order."""
    assert list(features(["a", "b"])) == COLUMNS


def test_metadata_has_pointers_instead_of_images():
    """The config without images names the shard, row group and row of each."""
    found = list(features(["a"], image=False, pointers=True))
    assert found == [*COLUMNS[1:], "shard", "row_group", "row"]
    assert list(schema.POINTER_COLUMNS) == found[-3:]


def test_labels_keep_their_order():
    """A label's integer is its place in the list, whatever the alphabet says."""
    label = features(["zebrafish", "actin"])["label"]
    assert label.str2int(["zebrafish", "actin"]) == [0, 1]
    assert features([])["category"].names == list(schema.CATEGORIES)


def test_a_row_can_be_written_and_read():
    """Types hold a row with no, one and several values, and refuse a label that is unknown."""
    kinds = features(["actin"], image=False)
    row = dict.fromkeys(kinds, "") | {
        "label": "actin",
        "category": "cell_visible",
        "channels": ["nucleus", "actin"],
        "crop": True,
        "scaling": 0.25,
        **{category: [] for category in schema.CATEGORIES},
        **dict.fromkeys(("x_min", "x_max", "y_min", "y_max", "height", "width"), 1 << 16),
    }
    back = kinds.decode_example(kinds.encode_example(row))
    assert (back["label"], back["category"]) == (0, 4)
    assert back["channels"] == ["nucleus", "actin"]
    assert back["gene"] == []
    with pytest.raises(ValueError, match="tubulin"):
        kinds.encode_example(row | {"label": "tubulin"})


def test_limits_allow_the_largest_plane():
    """2^26 pixels of 4 bytes are exactly 256 MiB."""
    assert Limits().pixels * 4 == Limits().decoded_bytes == 256 * 1024 * 1024


def test_more_pixels_raise_both_limits():
    """Twice the pixels may take twice the bytes; fewer pixels don't lower the bytes."""
    assert Limits.for_pixels(1 << 27) == Limits(pixels=1 << 27, decoded_bytes=1 << 29)
    assert Limits.for_pixels(100) == Limits(pixels=100)


def test_importing_the_schema_is_cheap():
    """`datasets` is imported by `features` only."""
    code = "import sys, cytoimagenet_hf.schema; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
