"""COOS-7 as HDF5, one file a part, and as a tree of TIFF files."""

import shutil

import numpy as np
import pytest

from cytoimagenet_hf.errors import ImageRefusedError, TaskNotFoundError
from cytoimagenet_hf.evaluation.records import Features
from cytoimagenet_hf.evaluation.scoring import score
from cytoimagenet_hf.evaluation.tasks import coos7


def planes_of(images):
    """The pixels of all images, by part and label."""
    return sorted(
        (images.splits[row], images.labels[row], images.read(row).tobytes())
        for row in range(len(images))
    )


@pytest.fixture
def written(tmp_path, simulated):
    """Give a function that writes the simulated cells as HDF5 and returns the folder."""
    h5py = pytest.importorskip("h5py")
    images = simulated("coos7").open()

    def write(change=lambda data: data, *, names="{}.hdf5", **keys):
        labels = sorted(set(images.labels))
        for part in sorted(set(images.splits)):
            rows = [row for row, own in enumerate(images.splits) if own == part]
            data = {
                "data": np.stack([images.read(row) for row in rows]),
                "labels": [labels.index(images.labels[row]) for row in rows],
                "plate": [f"p{row % 2}" for row in rows],
                "well": [f"B0{row % 3}" for row in rows],
            }
            with h5py.File(tmp_path / names.format(part), "w") as file:
                for name, values in change(data).items():
                    file[keys.get(name, name)] = values
        return tmp_path

    return write


def test_hdf5_and_tiff_hold_the_same_cells(written, simulated):
    """Parts and pixels agree; an HDF5 file has numbers for labels."""
    tree, files = simulated("coos7").open(), coos7.TASK.open(written())
    numbers = {name: str(at) for at, name in enumerate(sorted(set(tree.labels)))}
    told = sorted((part, numbers[label], pixels) for part, label, pixels in planes_of(tree))
    assert planes_of(files) == told
    assert not files.simulated  # the mark isn't there


def test_an_hdf5_cell_is_called_by_part_and_row(written):
    """The row is the only name that the data set has for a cell; six digits sort as numbers do."""
    images = coos7.TASK.open(written())
    assert images.ids[0] == "test1/000000"
    assert images.splits[0] == "test1"
    assert images.ids[-1] == f"train/{images.splits.count('train') - 1:06}"


def test_wells_are_known_from_hdf5_only(written, simulated):
    """Plate and well make the cluster of an interval; the tree has none."""
    images = coos7.TASK.open(written())
    assert set(images.keys["well"]) <= {f"p{plate}/B0{well}" for plate in "01" for well in "012"}
    assert set(simulated("coos7").open().keys["well"]) == {""}


def test_files_without_plate_and_well_are_read(written):
    """They aren't needed."""

    def change(data):
        return {name: data[name] for name in ("data", "labels")}

    assert set(coos7.TASK.open(written(change)).keys["well"]) == {""}


def test_labels_may_be_texts(written):
    """Bytes are as good as numbers."""

    def change(data):
        return data | {"labels": [f"class {one}".encode() for one in data["labels"]]}

    assert set(coos7.TASK.open(written(change)).labels) == {f"class {one}" for one in range(7)}


def test_channels_may_come_last(written):
    """(cells, 64, 64, 2) can't mean anything else."""
    whole = planes_of(coos7.TASK.open(written()))

    def change(data):
        return data | {"data": np.moveaxis(data["data"], 1, -1)}

    assert planes_of(coos7.TASK.open(written(change))) == whole


@pytest.mark.parametrize("shape", [(2, 2, 64), (2, 64, 2), (64, 2, 64), (64, 64, 64), (64, 64)])
def test_other_axes_are_refused(written, shape):
    """Where channels could be one axis or another, or none, the shape is told."""

    def change(data):
        return data | {"data": np.zeros((len(data["labels"]), *shape), np.uint8)}

    with pytest.raises(TaskNotFoundError, match=r"has the shape .* \(cells, 2, 64, 64\) is exp"):
        coos7.TASK.open(written(change))


def test_other_keys_are_an_error_that_lists_them(written):
    """Keys were inferred: a user can see at once what is there."""
    said = r"no key 'data'. Keys there: 'images' \(uint16 \(.*under the keys 'data', 'labels', "
    with pytest.raises(TaskNotFoundError, match=said):
        coos7.TASK.open(written(data="images"))


def test_lengths_must_agree(written):
    """One label less than cells is no file to guess about."""

    def change(data):
        return data | {"labels": data["labels"][1:]}

    with pytest.raises(TaskNotFoundError, match=r"'labels' has \d+ values for \d+ cells"):
        coos7.TASK.open(written(change))


def test_files_may_bear_a_longer_name(written):
    """A prefix, and training for train."""
    images = coos7.TASK.open(written(names="COOS7_v1.0_{}ing.h5"))
    assert set(images.splits) == {"train", "test1", "test2", "test3", "test4"}


@pytest.mark.parametrize("kind", ["hdf5", "tiff"])
def test_without_training_cells_nothing_is_scored(written, simulated, tmp_path, kind):
    """Neither form is of use with test sets alone."""
    root = written() if kind == "hdf5" else simulated("coos7").copy(tmp_path / "tree").root
    if kind == "hdf5":
        (root / "train.hdf5").unlink()
    else:
        shutil.rmtree(root / "train")
    with pytest.raises(TaskNotFoundError, match=r"looked for train\.hdf5 .*first one seen: 'test1"):
        coos7.TASK.open(root)


def test_both_forms_in_one_folder_are_refused(written, simulated):
    """Each cell would count twice."""
    root = simulated("coos7").copy(written()).root
    with pytest.raises(TaskNotFoundError, match="Keep one copy"):
        coos7.TASK.open(root)


def test_two_copies_of_the_tree_are_refused(simulated, tmp_path):
    """A zip unpacked twice, one inside of the other."""
    root = simulated("coos7").copy(tmp_path).root
    shutil.copytree(root / "test1", root / "again" / "test1")
    with pytest.raises(TaskNotFoundError, match=r"'again/test1/.*' and 'test1/"):
        coos7.TASK.open(root)


def test_masks_are_no_channel(simulated):
    """Two planes a cell, though three files lie there."""
    images = simulated("coos7").open()
    assert images.read(0).shape == (2, 64, 64)
    assert images.dropped == {}


def test_names_may_hold_what_html_and_urls_mean_something_by(tmp_path, simulated):
    """A class or cell is called as its folder is; # and % can't be mistaken for parts of an id."""
    given = simulated("coos7")
    cell = min(path for path in given.truth if path.startswith("train") and "protein" in path)
    for kind in ("protein", "nucleus"):
        to = tmp_path / "train" / "ER&amp;" / f"a#1%_{kind}.tif"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(given.root / cell.replace("protein", kind), to)
    images = coos7.TASK.open(tmp_path)
    assert images.ids == ("train/ER&amp;/a%231%25",)
    assert images.labels == ("ER&amp;",)
    assert images.read(0).shape == (2, 64, 64)


def test_channels_of_other_sizes_are_refused_when_read(tmp_path, simulated):
    """One half of a pair from elsewhere."""
    import tifffile

    copy = simulated("coos7").copy(tmp_path)
    path = min(copy.root.glob("test1/*/*_nucleus.tif"))
    tifffile.imwrite(path, np.arange(30 * 20, dtype=np.uint16).reshape(30, 20))
    images = copy.open()
    assert images.ids[0].startswith("test1/")
    with pytest.raises(ImageRefusedError, match=r"channels differ: .*nucleus\.tif is uint16 \(30"):
        images.read(0)


def test_a_class_of_a_test_set_alone_is_named_as_not_scorable(tmp_path, simulated):
    """Training images of one class are gone."""
    copy = simulated("coos7").copy(tmp_path)
    shutil.rmtree(copy.root / "train" / "Golgi")
    images = copy.open()
    values = np.random.default_rng(0).normal(size=(len(images), 3)).astype(np.float32)
    features = [Features(images.ids, values, {})]
    outcome = score(images, features, coos7.TASK.protocols[0], backend="numpy")
    assert set(outcome.unscorable.values()) == {"label not in its bank"}
    assert {name.split("/")[1] for name in outcome.unscorable} == {"Golgi"}
