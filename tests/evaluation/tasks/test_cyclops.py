"""CYCLoPs as the three HDF5 files of DeepLoc, and as a tree of TIFF files."""

from collections import Counter

import numpy as np
import pytest
import tifffile

from cytoimagenet_hf.errors import TaskNotFoundError
from cytoimagenet_hf.evaluation.tasks import cyclops

PARTS = ("Chong_test_set", "Chong_train_set", "Chong_valid_set")


@pytest.fixture
def written(tmp_path, simulated):
    """Give a function that writes the simulated cells as HDF5 and returns the folder."""
    h5py = pytest.importorskip("h5py")
    given = simulated("cyclops")
    paths = sorted(path for path in given.truth if path.endswith("_gfp.tif"))
    names = sorted({path.split("/")[0] for path in paths})

    def write(change=lambda data: data):
        for number, part in enumerate(PARTS):
            own = paths[number::3]
            pairs = [
                [
                    tifffile.imread(given.root / path.replace("_gfp", end))
                    for end in ("_gfp", "_rfp")
                ]
                for path in own
            ]
            marks = [[float(name == path.split("/")[0]) for name in names] for path in own]
            data = {
                "data1": np.array(pairs).reshape(len(own), -1),
                "Index1": np.array(marks),
                "Index1_columns": np.array(names, "S"),
                "Info1": np.zeros((len(own), 3)),
            }
            with h5py.File(tmp_path / f"{part}.hdf5", "w") as file:
                for name, values in change(data).items():
                    file[name] = values
        return tmp_path

    return write


def pixels_of(images):
    """The pixels of all images, with their labels."""
    return sorted((label, images.read(row).tobytes()) for row, label in enumerate(images.labels))


def test_hdf5_and_tiff_hold_the_same_cells(written, simulated):
    """A flat row is gfp and then rfp, as the two files are."""
    tree, files = simulated("cyclops").open(), cyclops.TASK.open(written())
    assert pixels_of(files) == pixels_of(tree)
    assert files.dropped == tree.dropped
    assert files.read(0).dtype == np.float32


def test_dead_cells_and_ghosts_are_out_and_counted(simulated):
    """Of 60 cells in ten classes six each are dead and ghosts; two classes become one."""
    images = simulated("cyclops").open()
    assert images.dropped == {"class DEAD": 6, "class GHOST": 6}
    assert Counter(images.labels) == {
        "ACTIN": 6,
        "CELLPERIPHERY": 6,
        "CYTOPLASM": 6,
        "ENDOSOME": 6,
        "MITOCHONDRIA": 6,
        "NUCLEI": 6,
        "SPINDLE": 12,
    }


def test_ids_keep_the_class_as_it_was_written(simulated):
    """A cell of either class keeps its name, so that none is taken for another."""
    images = simulated("cyclops").open()
    spindles = [name for name, label in zip(images.ids, images.labels, strict=True)
                if label == "SPINDLE"]  # fmt: skip
    assert spindles[0] == "SPINDLE/SPINDLE_0"
    assert spindles[-1] == "SPINDLEPOLE/SPINDLEPOLE_5"


def test_an_hdf5_cell_is_called_by_file_and_row(written):
    """All three files are pooled."""
    images = cyclops.TASK.open(written())
    assert {name.split("/")[0] for name in images.ids} == set(PARTS)
    assert all(len(name.split("/")[1]) == 6 for name in images.ids)
    assert set(images.splits) == {""}


def test_other_files_of_the_archive_are_passed_over(written):
    """Test sets of other studies lie beside the three."""
    root = written()
    (root / "wt2017_test_set.hdf5").write_bytes(b"never opened")
    (root / "Schuldiner_test_set.hdf5").write_bytes(b"never opened")
    assert len(cyclops.TASK.open(root)) == 48


def test_a_cell_of_no_class_or_two_is_counted(written):
    """Rows of labels that aren't one 1 and zeros."""

    def change(data):
        data["Index1"][0] = 0
        data["Index1"][1] = 1
        data["Index1"][2, -1] = 0.5
        return data

    images = cyclops.TASK.open(written(change))
    assert images.dropped["no class, or several"] == 9  # three a file
    assert len(images) + sum(images.dropped.values()) == 60


def test_other_keys_are_an_error_that_lists_them(written):
    """What is there is shown."""

    def change(data):
        return {"images" if name == "data1" else name: values for name, values in data.items()}

    with pytest.raises(TaskNotFoundError, match=r"no key 'data1'.*'images' \(float32 \(20, 8192\)"):
        cyclops.TASK.open(written(change))


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("data1", lambda values: values.reshape(-1, 2, 64, 64), r"\(cells, 8192\) is expected"),
        ("data1", lambda values: values[:, :4096], r"\(cells, 8192\) is expected"),
        ("Index1", lambda values: values[1:], "for 20 cells and 10 classes"),
        ("Index1", lambda values: values.argmax(axis=1), r"'Index1' has the shape \(20,\)"),
        ("Index1_columns", lambda values: values[1:], "for 20 cells and 9 classes"),
    ],
)
def test_other_shapes_are_refused(written, key, change, words):
    """Unflattened cells, one channel, a label less, numbers for labels, a name less."""
    with pytest.raises(TaskNotFoundError, match=words):
        cyclops.TASK.open(written(lambda data: data | {key: change(data[key])}))


def test_both_forms_in_one_folder_are_refused(written, simulated):
    """Each cell would count twice."""
    root = simulated("cyclops").copy(written()).root
    with pytest.raises(TaskNotFoundError, match="Keep one copy"):
        cyclops.TASK.open(root)


def test_real_pairs_of_another_set_are_refused(real_images):
    """Cells in folders of proteins, as AAC1, aren't cells in folders of classes."""
    with pytest.raises(TaskNotFoundError, match="looked for Chong_train_set"):
        cyclops.TASK.open(real_images / "yeast_paired")
