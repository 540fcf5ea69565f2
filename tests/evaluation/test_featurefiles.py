"""Feature files: what is written comes back, what others write is read, and junk is refused."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf.errors import FeaturesError
from cytoimagenet_hf.evaluation import featurefiles
from cytoimagenet_hf.evaluation.featurefiles import read_features, write_features
from cytoimagenet_hf.evaluation.records import Features


@pytest.fixture
def features():
    """Three images of two features, and one without."""
    values = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    return Features(
        ("a", "b", "c"), values, {"encoder": "random", "dim": 2}, {"d": "constant"},
        ("11", "22", "33"),
    )  # fmt: skip


def table(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_what_is_written_comes_back(features, tmp_path):
    """Ids, values to the last bit, pixel hashes, provenance and reasons; bytes are the same."""
    write_features(features, tmp_path / "a.parquet")
    write_features(features, tmp_path / "b.parquet")
    found = read_features(tmp_path / "a.parquet")
    assert (found.ids, found.pixels) == (features.ids, features.pixels)
    assert (found.provenance, found.failed) == (features.provenance, features.failed)
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values, features.values)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_columns_are_those_that_the_documentation_names(features, tmp_path):
    """Any reader of Parquet sees id, embedding and pixel_sha256."""
    write_features(features, tmp_path / "a.parquet")
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names == ["id", "embedding", "pixel_sha256"]
    assert schema.field("embedding").type == pa.list_(pa.float32(), 2)


def test_unknown_pixels_stay_unknown(features, tmp_path):
    """Features that came without hashes are written and read without."""
    write_features(dataclasses.replace(features, pixels=()), tmp_path / "a.parquet")
    assert read_features(tmp_path / "a.parquet").pixels == ()


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float16()),
                                  pa.list_(pa.int32()), pa.list_(pa.float32(), 2)])  # fmt: skip
def test_parquet_of_others(tmp_path, kind):
    """A list column of any numbers is read; provenance names the file and its hash."""
    values = pa.array([[1, 2], [3, 4]]).cast(pa.list_(kind.value_type)).cast(kind)
    found = read_features(
        table(tmp_path / "x.parquet", id=["b", "a"], embedding=values, more=[1, 2])
    )
    assert found.ids == ("b", "a")
    assert found.values.tolist() == [[1, 2], [3, 4]]
    assert found.provenance["encoder"] == "x.parquet"
    assert len(found.provenance["revision"]) == 64


def test_csv(tmp_path):
    """The column id, wherever it stands, and numbers beside it in their order; ids stay text."""
    path = tmp_path / "x.csv"
    path.write_text("f1,id,f0\n1.5,007,2\n3,b,4\n")
    found = read_features(path)
    assert found.ids == ("007", "b")
    assert found.values.tolist() == [[1.5, 2], [3, 4]]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"name": ["a"], "embedding": [[1.0]]}, "no column 'id'"),
        ({"id": ["a"], "values": [[1.0]]}, "no column 'embedding'"),
        ({"id": ["a"], "embedding": [1.0]}, "lists of numbers, not double"),
        ({"id": ["a"], "embedding": [["x"]]}, "lists of numbers"),
        ({"id": ["a", "b"], "embedding": [[1.0], [1.0, 2.0]]}, "lengths 1 to 2"),
        ({"id": ["a", "b"], "embedding": [[1.0], None]}, "1 rows have no embedding"),
        ({"id": ["a"], "embedding": [[1.0, None]]}, "1 empty values"),
        ({"id": ["a", "a"], "embedding": [[1.0], [2.0]]}, "'a' occurs twice"),
        ({"id": ["a", None], "embedding": [[1.0], [2.0]]}, "1 rows have no id"),
        ({"id": [""], "embedding": [[1.0]]}, "an id has 0 characters"),
        ({"id": [1.5], "embedding": [[1.0]]}, "ids must be text"),
        ({"id": ["a", "b"], "embedding": [[1.0], [float("nan")]]}, "1 of 2 rows.*first: 'b'"),
        ({"id": ["a"], "embedding": [[1e300]]}, "NaN or infinite"),
        ({"id": pa.array([], pa.string()), "embedding": pa.array([], pa.list_(pa.float32()))},
         "no features"),
    ],
)  # fmt: skip
def test_tables_that_hold_no_features(tmp_path, columns, words):
    """Each is refused with the file's name and what is wrong."""
    with pytest.raises(FeaturesError, match=words) as error:
        read_features(table(tmp_path / "x.parquet", **columns))
    assert "x.parquet" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "one column `id`"),
        ("id,f\na,x\n", "'f' holds string"),
        ("id,f\na,\nb,1\n", "1 empty"),
        ("id\na\n", "no features"),
        ("", "can't be read"),
        ("id,f\na,1,2\n", "can't be read"),
    ],
)
def test_csv_that_holds_no_features(tmp_path, text, words):
    """Text, empty cells and ragged rows are refused."""
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(FeaturesError, match=words):
        read_features(path)


def test_absent_and_foreign_files(tmp_path):
    """A file that isn't there, and one that is no Parquet, are one line each."""
    with pytest.raises(FeaturesError, match=r"x\.parquet can't be read"):
        read_features(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing of the kind PAR1")
    with pytest.raises(FeaturesError, match=r"x\.parquet can't be read"):
        read_features(tmp_path / "x.parquet")


def test_no_flipped_byte_goes_unnoticed(features, tmp_path):
    """Whatever byte of a file is changed: an error of ours, or what was written."""
    path = tmp_path / "x.parquet"
    write_features(features, path)
    whole = path.read_bytes()
    unnoticed = 0
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            found = read_features(path)
        except FeaturesError:
            continue
        unnoticed += 1
        assert np.array_equal(found.values, features.values)
    assert unnoticed < len(whole) / 7


@pytest.mark.parametrize(
    "about", ["[]", "{", '{"provenance": 3}', '{"failed": [1]}', "[" * 100_000]
)
def test_foreign_provenance(features, tmp_path, about):
    """JSON of another shape never gets further than the reader."""
    path = tmp_path / "x.parquet"
    columns = pa.table({"id": ["a"], "embedding": [[1.0]]})
    pq.write_table(columns.replace_schema_metadata({b"cytoimagenet_features": about}), path)
    if about == "[]":
        assert read_features(path).provenance["encoder"] == "x.parquet"
        return
    with pytest.raises(FeaturesError, match=r"x\.parquet"):
        read_features(path)


def test_too_much_is_refused_by_the_footer(features, tmp_path, monkeypatch):
    """Rows, dimensions and bytes are bounded before anything is read."""
    path = tmp_path / "x.parquet"
    write_features(features, path)
    monkeypatch.setattr(featurefiles, "MOST_BYTES", path.stat().st_size)
    read_features(path)
    for name, value, words in [("MOST_BYTES", 10, "larger than"), ("MOST_ROWS", 2, "too much"),
                               ("MOST_DIMENSIONS", 1, "too much")]:  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(featurefiles, name, value)
            with pytest.raises(FeaturesError, match=words):
                read_features(path)


def test_list_lengths_are_bounded_before_they_are_read(tmp_path, monkeypatch):
    """A small compressed file of very many zeros is refused by the counts in its footer."""
    path = table(tmp_path / "x.parquet", id=["a"], embedding=[[0.0] * 1_000_000])
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(featurefiles, "MOST_BYTES", 1_000_000)
    with pytest.raises(FeaturesError, match="1000000 numbers"):
        read_features(path)


def test_provenance_is_json(features, tmp_path):
    """It can be read from the schema by anyone."""
    write_features(features, tmp_path / "a.parquet")
    about = json.loads(pq.read_schema(tmp_path / "a.parquet").metadata[b"cytoimagenet_features"])
    assert about["provenance"] == {"dim": 2, "encoder": "random"}
