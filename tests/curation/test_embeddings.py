"""Embeddings beside the images: added whole or not at all, and proven to be of these pixels."""

import contextlib
import dataclasses
import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf import files
from cytoimagenet_hf.curation.embeddings import add_embeddings
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import build
from cytoimagenet_hf.curation.repair import repair
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.errors import BuildError, DatasetNotAvailableError
from cytoimagenet_hf.hub.cards import EmbeddingFacts
from cytoimagenet_hf.imaging import png
from tests.curation.builds import config, raw_data, tree
from tests.curation.forging import edit_rows, forge_sums, rows_of, shard_paths
from tests.curation.test_editions import published
from tests.publishing import MIXED, OPEN, SMALL, build_data, publish, put

CONFIG = "embeddings-made-up"
ABOUT = EmbeddingFacts(
    encoder="made up",
    revision="ab" * 32,
    dim=0,
    dtype="float16",
    config="small",
    mode="concat-norm",
    preprocessing="none",
    license="MIT",
    builds=(),
)


def embed(ids, pixels):
    """Mean, deviation and number of pixels in thousands: what a test can compute again."""
    return np.array([[one.mean(), one.std(), one.size / 1000] for one in pixels], np.float32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Open and closed crops without embeddings; never change this folder."""
    return build_data(tmp_path_factory.mktemp("plain"), group_rows=7)


@pytest.fixture(scope="module")
def embedded_once(plain, tmp_path_factory):
    """The same with embeddings; never change this folder."""
    to = tmp_path_factory.mktemp("embedded") / "cytoimagenet"
    shutil.copytree(plain, to)
    add_embeddings(to, "made-up", ABOUT, embed)
    return to


@pytest.fixture
def embedded(embedded_once, tmp_path):
    """A copy that the test may damage."""
    shutil.copytree(embedded_once, tmp_path / "cytoimagenet")
    return tmp_path / "cytoimagenet"


def whats(folder) -> set[str]:
    """What is wrong, without places."""
    return {one.what for one in verify(folder, workers=0).findings}


def test_every_crop_has_the_vector_of_its_own_pixels(plain, embedded_once):
    """Row by row, what the images of config small give, rounded to float16."""
    images = {row["image_id"]: row for row in rows_of(plain, "small")}
    rows = rows_of(embedded_once, CONFIG)
    assert sorted(row["image_id"] for row in rows) == sorted(images)
    for row in rows:
        image = images[row["image_id"]]
        (vector,) = embed([""], [png.decode(image["image"]["bytes"])])
        assert np.array_equal(np.float16(row["embedding"]), vector.astype(np.float16))
        assert (row["label"], row["pixel_sha256"]) == (image["label"], image["pixel_sha256"])


def test_folder_with_embeddings_is_whole_and_nothing_else_changed(plain, embedded_once):
    """Verification finds nothing; shards, reports and pictures are the same bytes."""
    assert verify(embedded_once, workers=0).findings == ()
    before, after = tree(plain), tree(embedded_once)
    added = {path for path in after if path.startswith(f"data/{CONFIG}/")}
    assert set(after) == set(before) | added
    assert len(added) == sum(path.startswith("data/small/") for path in before)
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"README.md", "SHA256SUMS", "build.json", "croissant.json"}


def test_datasets_reads_them_by_name(embedded_once):
    """Vectors of their length, with class names, in the splits of the images."""
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset(str(embedded_once), CONFIG)
    assert found["train"].features["embedding"].length == 3
    images = datasets.load_dataset(str(embedded_once), "small")
    for split in images:
        assert found[split].features["label"] == images[split].features["label"]
        assert found[split]["image_id"] == images[split]["image_id"]


def test_card_and_record_tell_of_the_encoder(embedded_once):
    """Encoder, revision, dimensions and license stand in the card, and all in build.json."""
    card = (embedded_once / "README.md").read_text(encoding="utf-8")
    row = f"| `{CONFIG}` | made up | `{'ab' * 8}` | 3 float16 | `small`, concat-norm | MIT |"
    assert row in card
    record = json.loads((embedded_once / "build.json").read_text(encoding="utf-8"))
    one = EmbeddingFacts(**record["embeddings"][CONFIG])
    builds = [record["build"]]
    assert one == dataclasses.replace(ABOUT, dim=3, builds=builds)


def test_the_same_again_gives_the_same_bytes(plain, embedded_once, tmp_path):
    """Batches are cut by the shards' own row groups."""
    to = tmp_path / "cytoimagenet"
    shutil.copytree(plain, to)
    add_embeddings(to, "made-up", ABOUT, embed)
    assert tree(to) == tree(embedded_once)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_broken_off_nothing_has_changed(plain, tmp_path, error):
    """An error in the second shard leaves the folder as it was, and nothing beside it."""
    to = tmp_path / "cytoimagenet"
    shutil.copytree(plain, to)
    calls = []

    def breaks(ids, pixels):
        calls.append(len(ids))
        if len(calls) > 1:
            raise error("enough")
        return embed(ids, pixels)

    with pytest.raises(error, match="enough"):
        add_embeddings(to, "made-up", ABOUT, breaks)
    assert len(calls) == 2
    assert tree(to) == tree(plain)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cytoimagenet",
        "cytoimagenet.work",  # with the lock
    ]


def test_files_of_no_build_stay(plain, tmp_path):
    """LICENSE, what git reads and a link are there afterwards, also those in folders."""
    to = tmp_path / "cytoimagenet"
    shutil.copytree(plain, to)
    own = {"LICENSE": "MIT", ".gitattributes": "*.parquet binary", "notes/a/b.txt": "mine"}
    for path, text in own.items():
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        (to / path).write_text(text, encoding="utf-8")
    with contextlib.suppress(OSError):  # where links are not allowed
        (to / "more").symlink_to("notes", target_is_directory=True)
    linked = (to / "more").is_symlink()
    add_embeddings(to, "made-up", ABOUT, embed)
    assert {path: (to / path).read_text(encoding="utf-8") for path in own} == own
    assert (to / "more").is_symlink() == linked
    assert len(rows_of(to, CONFIG)) == len(rows_of(plain, "small"))


def test_folder_that_a_build_holds_is_left_alone(plain, tmp_path):
    """The lock of `cytoimagenet build` keeps this out by name, and this keeps others out."""
    to = tmp_path / "cytoimagenet"
    shutil.copytree(plain, to)
    lock = tmp_path / "cytoimagenet.work" / "lock"
    holder = rf"cytoimagenet\.work is held by process {os.getpid()}"
    with files.exclusive_lock(lock), pytest.raises(BuildError, match=holder):
        add_embeddings(to, "made-up", ABOUT, embed)
    assert tree(to) == tree(plain)

    def embed_and_look(ids, pixels):
        with pytest.raises(BuildError, match=holder), files.exclusive_lock(lock):
            pass
        return embed(ids, pixels)

    add_embeddings(to, "made-up", ABOUT, embed_and_look)


def test_misspelled_folder_leaves_nothing(tmp_path):
    """No lock is made beside a folder that isn't there."""
    with pytest.raises(DatasetNotAvailableError):
        add_embeddings(tmp_path / "nowhere", "made-up", ABOUT, embed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        ({"dtype": "float64"}, "x", "float16, float32, not 'float64'"),
        ({"config": "tiny"}, "x", "default, small, not 'tiny'"),
        ({}, "../x", "no name of a config"),
        ({}, "X", "no name of a config"),
        ({"dim": 4}, "x", r"vectors of \(\d+, 3\)"),
    ],
)
def test_what_can_not_be_written_is_refused(plain, change, name, message):
    """Types, configs and names that nothing reads, and vectors of another length."""
    before = tree(plain)
    with pytest.raises(ValueError, match=message):
        add_embeddings(plain, name, dataclasses.replace(ABOUT, **change), embed)
    assert tree(plain) == before


@pytest.mark.parametrize(("value", "dtype"), [(70_000, "float16"), (np.nan, "float32")])
def test_vectors_that_the_type_can_not_hold_are_refused(plain, value, dtype):
    """float16 ends at 65,504, and what isn't finite is no vector."""
    about = dataclasses.replace(ABOUT, dtype=dtype)
    with pytest.raises(ValueError, match="can't hold its vector"):
        add_embeddings(plain, "x", about, lambda ids, pixels: np.full((len(ids), 2), value))


def test_other_embeddings_never_mix_under_one_name(embedded):
    """The same again is refused, another revision too, unless it replaces all."""
    with pytest.raises(ValueError, match="of all its crops already"):
        add_embeddings(embedded, "made-up", ABOUT, embed)
    other = dataclasses.replace(ABOUT, revision="cd" * 32, dtype="float32")
    with pytest.raises(ValueError, match=r"other embeddings .*revision abababababab.*--replace"):
        add_embeddings(embedded, "made-up", other, embed)
    add_embeddings(embedded, "made-up", other, embed, replace=True)
    assert verify(embedded, workers=0).is_whole
    assert add_embeddings(embedded, "second", ABOUT, embed).dim == 3
    assert verify(embedded, workers=0).is_whole


# --- verification: forged with right sums, counts and fingerprints


def forged(folder, edit) -> set[str]:
    """What is found after rows were changed, and all sums made right again."""
    edit_rows(folder, edit, configs=CONFIG)
    forge_sums(folder)
    return whats(folder)


def changed(**values):
    """Change columns of the first row of each shard."""

    def edit(path, rows):
        first = {name: make(rows[0][name]) for name, make in values.items()}
        return [rows[0] | first, *rows[1:]]

    return edit


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"pixel_sha256": lambda one: "0" * 64}, {"embedding of another image"}),
        ({"label": lambda one: 1 - min(one, 1)}, {"embedding of another image"}),
        (
            {"image_id": lambda one: f"{one}x"},
            {"embedding of no crop", f"crop that `{CONFIG}` lacks"},
        ),
        ({"embedding": lambda one: [float("nan")] * 3}, {"embedding that isn't finite"}),
    ],
)
def test_embeddings_of_other_pixels_are_found(embedded, values, found):
    """Another hash, label or id than the image's, and numbers that are none."""
    assert forged(embedded, changed(**values)) == found


def test_crop_without_its_embedding_is_found(embedded):
    """A row less, with counts made right for it, is missed."""
    path = next(one for one in shard_paths(embedded) if one.startswith(f"data/{CONFIG}/"))
    found = forged(embedded, lambda at, rows: rows[1:] if at == path else rows)
    assert f"crop that `{CONFIG}` lacks" in found


def test_config_that_the_record_does_not_list_is_found(embedded):
    """Embeddings of nobody knows what are told, whatever they hold."""
    record = json.loads((embedded / "build.json").read_text(encoding="utf-8"))
    del record["embeddings"]
    (embedded / "build.json").write_text(json.dumps(record), encoding="utf-8")
    forge_sums(embedded)
    assert whats(embedded) == {"embeddings that build.json doesn't list"}


def test_repair_says_how_embeddings_come_back(embedded):
    """They can't be rendered from raw data."""
    path = next(one for one in shard_paths(embedded) if one.startswith(f"data/{CONFIG}/"))
    (embedded / path).write_bytes(b"PAR1")
    done = repair(embedded, verify(embedded, workers=0), [])
    assert "add-embeddings --replace" in done.failed[path]


# --- publishing, and the next release


def test_published_rest_carries_those_of_its_crops(embedded_once, tmp_path):
    """Embeddings of closed crops stay here, by the terms in the files' names."""
    there = published(embedded_once, tmp_path)
    assert verify(there, workers=0).findings == ()
    ids = {row["image_id"] for row in rows_of(there, "small")}
    rows = rows_of(there, CONFIG)
    assert {row["image_id"] for row in rows} == ids
    assert len(rows) < len(rows_of(embedded_once, CONFIG))
    assert f"`{CONFIG}`" in (there / "README.md").read_text(encoding="utf-8")


def test_published_later_only_they_travel(tmp_path, hub_server):
    """On a Hub that has the images no image is sent again, and what stands there is whole."""
    folder = build_data(tmp_path, OPEN)
    (before,) = publish(hub_server, f"{str(folder)!r}")
    added = add_embeddings(folder, "made-up", ABOUT, embed)
    (after,) = publish(hub_server, f"{str(folder)!r}, tag='v1.1'")
    assert after["sent_bytes"] == added.bytes
    assert after["kept_bytes"] == before["sent_bytes"]
    assert (before["stood_bytes"], before["again_bytes"]) == (0, 0)
    assert (after["stood_bytes"], after["again_bytes"]) == (before["sent_bytes"], 0)
    stored = hub_server.files("datasets", "lab/cells", "v1.1")
    assert verify(put(tmp_path / "there", stored), workers=0).findings == ()


def test_next_release_keeps_them_and_gets_those_of_new_crops(tmp_path):
    """Shards of the base stay as they are; added later, only new crops are embedded."""
    raw = raw_data(tmp_path / "raw", MIXED, fields=12)
    parameters = preset("standard", **SMALL)
    one = config(raw, tmp_path / "one" / "cytoimagenet", names=OPEN, parameters=parameters)
    build(one)
    first = add_embeddings(one.output, "made-up", ABOUT, embed)
    two = config(
        raw,
        tmp_path / "two" / "cytoimagenet",
        names=("bbbc048",),
        parameters=parameters,
        base=one.output,
    )
    build(two)
    assert verify(two.output, workers=0).findings == ()
    assert len(rows_of(two.output, CONFIG)) == first.rows
    second = add_embeddings(two.output, "made-up", ABOUT, embed)
    assert verify(two.output, workers=0).findings == ()
    everything = pq.read_table(two.output / "data" / "small", columns=["image_id"])
    assert len(everything) == first.rows + second.rows
    before, after = tree(one.output), tree(two.output)
    kept = {path for path in before if path.startswith(f"data/{CONFIG}/")}
    assert all(after[path] == before[path] for path in kept)
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(two.output), CONFIG)
    assert sum(map(len, loaded.values())) == len(everything)
