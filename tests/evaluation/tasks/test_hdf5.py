"""HDF5 files from outside: what is read, and what is refused before it is read."""

import numpy as np
import pytest

from cytoimagenet_hf.errors import ImageRefusedError, TaskNotFoundError
from cytoimagenet_hf.evaluation.tasks import _hdf5
from cytoimagenet_hf.evaluation.tasks._layout import open_folder

h5py = pytest.importorskip("h5py")


@pytest.fixture
def made(tmp_path):
    """Give a function that writes a file by another function and opens it."""

    def make(fill, **options):
        path = tmp_path / "x.hdf5"
        with h5py.File(path, "w", **options) as file:
            fill(file)
        return _hdf5.File(path)

    return make


def test_texts_and_whole_numbers_are_names(made):
    """Bytes, texts of any length, integers and floats without a fraction."""

    def fill(file):
        file["bytes"] = np.array([b"ER", b" Golgi "])
        file["texts"] = ["ER", "é"]
        file["numbers"] = [3, 11]
        file["floats"] = [3.0, 11.0]

    file = made(fill)
    assert file.names("bytes") == ["ER", "Golgi"]
    assert file.names("texts") == ["ER", "é"]
    assert file.names("numbers") == file.names("floats") == ["3", "11"]


@pytest.mark.parametrize("value", [[0.5], [np.nan], [b"\xff"]])
def test_other_values_are_no_names(made, value):
    """A fraction, no number and bytes that aren't UTF-8 are refused."""
    file = made(lambda file: file.create_dataset("labels", data=np.array(value)))
    with pytest.raises(TaskNotFoundError, match="neither UTF-8 texts nor whole numbers"):
        file.names("labels")


def test_keys_met_are_listed_with_their_shapes(made):
    """Arrays, groups and links are told apart, and nobody follows the links."""

    def fill(file):
        file["cells"] = np.zeros((3, 2), np.uint16)
        file.create_group("more")
        file["elsewhere"] = h5py.ExternalLink("secret.hdf5", "/data")
        file["soft"] = h5py.SoftLink("/cells")

    assert made(fill).keys_met() == (
        "'cells' (uint16 (3, 2)), 'elsewhere' (a link), 'more' (a group), 'soft' (a link)"
    )


def test_many_keys_are_cut(made):
    """Twenty are shown; a name is cut at 80 characters."""

    def fill(file):
        for number in range(25):
            file.create_group(f"{number:02}" + "x" * 100)

    told = made(fill).keys_met()
    assert told.count("(a group)") == 20
    assert told.endswith(", ...")
    assert len(told) < 20 * 100


def test_an_empty_file_has_no_keys(made):
    """The message says none."""
    with pytest.raises(TaskNotFoundError, match=r"no key 'data'. Keys there: none"):
        made(lambda file: None).array("data")


@pytest.mark.parametrize("link", ["external", "soft", "path"])
def test_links_are_not_followed(made, tmp_path, link):
    """Another file, another key by a link, and a path into a group: all three are refused."""
    with h5py.File(tmp_path / "secret.hdf5", "w") as other:
        other["data"] = np.arange(4)

    def fill(file):
        file["group/data"] = np.arange(4)
        if link == "external":
            file["data"] = h5py.ExternalLink(str(tmp_path / "secret.hdf5"), "/data")
        elif link == "soft":
            file["data"] = h5py.SoftLink("/group/data")

    file = made(fill)
    with pytest.raises(TaskNotFoundError, match=r"isn't followed|no key 'group/data'"):
        file.array("group/data" if link == "path" else "data")


def test_arrays_in_other_files_are_refused(made, tmp_path):
    """External storage and virtual arrays would read files that the HDF5 file names."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"password")
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["data"] = np.arange(4)

    def fill(file):
        file.create_dataset("raw", (8,), "u1", external=[(str(secret), 0, 8)])
        layout = h5py.VirtualLayout((4,), "i8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "data", (4,))
        file.create_virtual_dataset("virtual", layout)

    file = made(fill)
    for key in ("raw", "virtual"):
        with pytest.raises(TaskNotFoundError, match="kept in other files"):
            file.array(key)


def test_objects_are_refused(made):
    """References, arrays of arrays and records are never read."""

    def fill(file):
        file["target"] = [1]
        file.create_dataset("references", data=[file["target"].ref], dtype=h5py.ref_dtype)
        file.create_dataset("ragged", (2,), h5py.vlen_dtype(np.int32))
        file["records"] = np.zeros(2, [("a", "i4")])

    file = made(fill)
    for key in ("references", "ragged", "records"):
        with pytest.raises(TaskNotFoundError, match="which isn't read"):
            file.array(key)


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((10**6, 2), (1, 2)),  # rows
        ((4, 1 << 15, 1 << 15), (1, 64, 64)),  # one row is 1 GiB
        ((1 << 18, 1 << 12), (1 << 18, 1 << 11)),  # one piece is 512 MiB
        ((0, 2), (1, 2)),  # nothing
    ],
)
def test_sizes_are_bounded_before_anything_is_read(made, shape, chunks):
    """A file of a few kilobytes may declare any shape."""
    file = made(
        lambda file: file.create_dataset(
            "data", shape, "u1", chunks=chunks, maxshape=(None,) * len(shape)
        )
    )
    assert file.path.stat().st_size < 1 << 16
    with pytest.raises(TaskNotFoundError, match=r"out of bounds|too large"):
        file.array("data")


def test_a_column_that_is_too_large_is_not_read_whole(made):
    """65 MiB of one-hot labels are more than 64."""
    file = made(lambda file: file.create_dataset("labels", (65 << 4, 1 << 16), "u1"))
    with pytest.raises(TaskNotFoundError, match="has the shape"):
        file.column("labels", dimensions=2)


def test_a_group_is_no_array(made):
    """Its name is all that it has in common."""
    with pytest.raises(TaskNotFoundError, match="is no array"):
        made(lambda file: file.create_group("data")).array("data")


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"version https://git-lfs.github.com"])
def test_what_is_no_hdf5_is_refused(tmp_path, content):
    """The file is named."""
    path = tmp_path / "train.hdf5"
    path.write_bytes(content)
    with pytest.raises(TaskNotFoundError, match=r"train\.hdf5: can't be read as HDF5"):
        _hdf5.File(path)


def test_a_file_that_was_cut_off_is_refused(made):
    """Half of a download isn't opened."""
    whole = made(lambda file: file.create_dataset("data", data=np.ones((100, 100)))).path
    whole.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(TaskNotFoundError, match="can't be read"):
        _hdf5.File(whole)


def test_a_damaged_row_is_refused_and_others_are_read(tmp_path):
    """Two pieces of compressed rows; garbage in the second leaves the first alone."""
    noise = np.random.default_rng(0).integers(0, 255, (2, 4096), np.uint8)
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", data=noise, chunks=(1, 4096), compression="gzip")
        at = data.id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[at : at + 2000] = bytes(2000)
    path.write_bytes(content)
    array = _hdf5.File(path).array("data")
    assert np.array_equal(_hdf5.read_row(array, 0), noise[0])
    with pytest.raises(ImageRefusedError, match="unreadable: row 1"):
        _hdf5.read_row(array, 1)


def test_two_files_of_one_part_are_refused(tmp_path):
    """Both are named."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        with h5py.File(tmp_path / folder / "x.hdf5", "w"):
            pass
    folder = open_folder(tmp_path, "task")
    with pytest.raises(TaskNotFoundError, match=r"'a/x\.hdf5' and 'b/x\.hdf5'"):
        _hdf5.open_parts(folder, r".*/(?P<part>x)\.hdf5")


def test_without_h5py_the_way_forward_is_named(tmp_path, monkeypatch):
    """The rest of the package works without it."""
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(TaskNotFoundError, match="pip install h5py"):
        _hdf5.File(tmp_path / "x.hdf5")
