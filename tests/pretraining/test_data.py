"""Opening data sets of any make, and batches over processes and workers: none twice, none gone."""

import hashlib
import itertools

import numpy as np
import pytest
from PIL import Image

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining.data import (
    MapBatches,
    StreamBatches,
    make_loader,
    open_split,
)
from cytoimagenet_hf.pretraining.decoding import decode
from cytoimagenet_hf.pretraining.sampling import StepSampler
from tests.pretraining.conftest import CLASSES, png, rows, write_dataset

COMBINATIONS = list(itertools.product([1, 2, 3], [0, 1, 2]))


def digests(batch):
    return [hashlib.sha256(one.numpy().tobytes()).hexdigest() for one in batch.images]


@pytest.fixture(scope="module")
def expected():
    """The pictures of the training split, by the digest of what the network sees."""
    return sorted(hashlib.sha256(decode(data, 32).tobytes()).hexdigest() for data, _ in rows(46))


@pytest.mark.parametrize(("processes", "workers"), COMBINATIONS)
def test_map_style_rows_once(settings, expected, processes, workers):
    """By number: processes and workers share an epoch out without loss or repeat."""
    config = settings(workers=workers)
    split = open_split(config, "train")
    found, numbers = [], []
    for process in range(processes):
        sampler = StepSampler(split.labels, config, process, processes)
        for batch in make_loader(MapBatches(split), sampler, config):
            found += digests(batch)
            numbers += batch.rows.tolist()
    assert sorted(found) == expected
    assert sorted(numbers) == list(range(46))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("processes", "workers"), COMBINATIONS)
def test_streamed_rows_once(settings, expected, processes, workers, train):
    """Streamed: the same, whether or not the shards can be shared out evenly."""
    config = settings(workers=workers, streaming=True, shuffle_buffer=16)
    split = open_split(config, "train")
    found = []
    for process in range(processes):
        source = StreamBatches(split, process, processes, train=train)
        for batch in make_loader(source, None, config):
            found += digests(batch)
    assert sorted(found) == expected


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("used", [1, 3, 5])
def test_streamed_batches_after_a_skip(settings, workers, used):
    """What a resumed run has used comes as None or is thrown away; the rest is what it was."""
    config = settings(workers=workers, streaming=True, shuffle_buffer=16, batch_size=4)
    split = open_split(config, "train")

    def batches(skip):
        source = StreamBatches(split, 0, 1, train=True)
        source.epoch, source.skip = 3, skip
        return list(make_loader(source, None, config))

    whole, late = batches(0), batches(used)
    assert any(batch is None for batch in late[:used])
    assert [digests(one) for one in late[used:]] == [digests(one) for one in whole[used:]]


def test_streamed_epochs_differ(settings):
    """Each epoch has an order of its own."""
    config = settings(streaming=True, shuffle_buffer=16)
    source = StreamBatches(open_split(config, "train"), 0, 1, train=True)
    first = [digests(batch) for batch in source]
    source.epoch = 1
    assert [digests(batch) for batch in source] != first


@pytest.mark.parametrize("streaming", [False, True])
def test_labels_are_read(settings, streaming):
    """Labels and classes are those of the files, shard by shard."""
    split = open_split(settings(streaming=streaming), "train")
    assert split.classes == CLASSES
    expected = [label for shard in range(4) for _, label in rows(46)[shard::4]]
    assert split.labels.tolist() == expected
    assert split.absent_classes() == []


def test_identity_follows_labels(settings, tmp_path):
    """Another order of rows is another data set."""
    other = write_dataset(tmp_path / "other", {"train": rows(46)[::-1]})
    one = open_split(settings(), "train")
    two = open_split(settings(dataset=str(other)), "train")
    assert one.identity() != two.identity()
    assert one.identity() == open_split(settings(streaming=True), "train").identity()


def test_folder_of_images(settings, tmp_path):
    """A folder with a folder of files for each class is a data set like any other."""
    for split, (label, name) in itertools.product(("train", "validation"), enumerate("ab")):
        for number in range(3):
            path = tmp_path / "folder" / split / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9), 100 * label + number).save(path)
    config = settings(dataset=str(tmp_path / "folder"))
    split = open_split(config, "train")
    batch = MapBatches(split).__getitems__([0, 5])
    assert split.classes == ("a", "b")
    assert (batch.labels.tolist(), batch.bad) == ([0, 1], ())
    assert batch.images[:, 0, 0, 0].tolist() == [0, 102]


def test_label_out_of_range_is_named(settings, tmp_path):
    """A label that the classes don't have would index beyond the network's outputs."""
    bad = [*rows(4), (png(np.zeros((9, 9), np.uint8)), 7)]
    folder = write_dataset(tmp_path / "bad", {"train": bad})
    with pytest.raises(ValueError, match="row 4: label 7 is out of range, there are 3 classes"):
        open_split(settings(dataset=str(folder)), "train")


def test_missing_label_is_named(settings, tmp_path):
    """A row without a label is an error too."""
    folder = write_dataset(tmp_path / "none", {"train": [*rows(2), (rows(1)[0][0], None)]})
    for streaming in (False, True):
        with pytest.raises(ValueError, match="row 2: label -1"):
            open_split(settings(dataset=str(folder), streaming=streaming), "train")


def test_missing_split_column_and_data_set(settings, tmp_path):
    """Each says what there is instead."""
    with pytest.raises(ValueError, match=r"test.*--validation-split"):
        open_split(settings(), "test")
    with pytest.raises(ValueError, match=r"no column 'picture'; there are \['image', 'label'\]"):
        open_split(settings(image_column="picture"), "train")
    with pytest.raises(ValueError, match=r"'image' is no ClassLabel.*class_encode_column"):
        open_split(settings(label_column="image"), "train")
    with pytest.raises(ValueError, match="'label' holds no images"):
        open_split(settings(image_column="label"), "train")
    with pytest.raises(ValueError, match=r"'large' not found.*'default'.*--name"):
        open_split(settings(name="large"), "train")
    with pytest.raises(ValueError, match="is a folder and has no --revision"):
        open_split(settings(revision="v1"), "train")
    with pytest.raises(CytoImageNetError, match="no folder"):
        open_split(settings(dataset=str(tmp_path / "absent")), "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CytoImageNetError, match="can't be read"):
        open_split(settings(dataset=str(tmp_path / "empty")), "train")


def test_empty_class_is_found(settings, tmp_path):
    """A class without a row is told."""
    folder = write_dataset(tmp_path / "two", {"train": [one for one in rows(9) if one[1] != 1]})
    assert open_split(settings(dataset=str(folder)), "train").absent_classes() == ["light"]
