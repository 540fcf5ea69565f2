"""The builder over a curated folder."""

import os

import datasets
import pytest

from builders.cytoimagenet import CytoImageNet
from cytoimagenet_hf.errors import DatasetNotAvailableError
from tests.hub._folder import LABELS, ROWS, make_folder


@pytest.fixture
def folder(tmp_path):
    """A tiny curated folder."""
    return make_folder(tmp_path / "cytoimagenet")


def build(folder, **how):
    """Prepare one config in a cache beside the folder."""
    builder = CytoImageNet(data_dir=folder, cache_dir=str(folder.parent / "cache"), **how)
    builder.download_and_prepare()
    return builder


def test_it_is_a_builder_that_gives_the_rows_of_a_config(folder):
    """Rows, image sizes and class names are those of the config's shards."""
    builder = build(folder, config_name="small")
    train = builder.as_dataset("train")
    assert isinstance(builder, datasets.ArrowBasedBuilder)
    assert train["idx"][:] == ["fake/f1", "fake/f2", "fake/f3", "fake/f4"]
    assert train[0]["image"].size == (40, 40)
    assert train.features["label"].names == list(LABELS)
    assert builder.info.splits["validation"].num_examples == 2


def test_default_config_and_streaming(folder):
    """Without a config name it is `default`, and nothing need be prepared to stream."""
    builder = CytoImageNet(data_dir=folder, cache_dir=str(folder.parent / "cache"))
    rows = list(builder.as_streaming_dataset("validation"))
    assert [row["idx"] for row in rows] == ["fake/f5", "fake/f6"]
    assert rows[0]["image"].size == (80, 80)


def test_rebuild_in_place_is_read_again(folder):
    """A new build under the old file names and times is not hidden by the old one's cache."""
    assert build(folder).as_dataset("train")["idx"][0] == "fake/f1"
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}
    make_folder(folder, (("f7", "train", "open", 0), *ROWS[1:]))
    for path, time_ns in times.items():
        os.utime(path, ns=(time_ns, time_ns))
    assert build(folder).as_dataset("train")["idx"][0] == "fake/f7"


def test_unknown_config_names_those_there_are(folder):
    """The error lists the configs of the folder."""
    with pytest.raises(ValueError, match=r"'huge' not found.*'default', 'small', 'metadata'"):
        CytoImageNet(data_dir=folder, config_name="huge")


def test_folder_that_is_not_whole_is_refused(folder):
    """The same checks as in load_dataset come first."""
    (folder / "README.md").unlink()
    with pytest.raises(DatasetNotAvailableError, match=r"no README\.md"):
        CytoImageNet(data_dir=folder)
