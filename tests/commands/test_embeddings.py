"""`cytoimagenet add-embeddings`: by an encoder, from a file, and refusals in one line."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf import cli
from cytoimagenet_hf.curation.editions import choose_edition
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.evaluation.featurefiles import write_features
from cytoimagenet_hf.evaluation.records import Features
from tests.children import in_child
from tests.curation.forging import rows_of
from tests.curation.test_editions import published
from tests.publishing import OPEN, build_data, edition_of


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A small data set; never change this folder."""
    return build_data(tmp_path_factory.mktemp("plain"), OPEN)


@pytest.fixture
def folder(plain, tmp_path):
    """A copy that gets embeddings."""
    shutil.copytree(plain, tmp_path / "cytoimagenet")
    return tmp_path / "cytoimagenet"


def run(*arguments: object) -> int:
    """Run `cytoimagenet add-embeddings` and return its exit status."""
    try:
        cli.main(["add-embeddings", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def features_of(folder, *, ids=None) -> Features:
    """Made-up features of all crops, in an order of their own."""
    names = ids or sorted((row["image_id"] for row in rows_of(folder, "small")), reverse=True)
    values = np.arange(2 * len(names), dtype=np.float32).reshape(-1, 2)
    return Features(tuple(names), values, {"encoder": "Mine V2", "revision": "r1", "mode": "own"})


def test_encoder_embeds_all_crops(folder, capsys):
    """The outcome is told as JSON, and the folder verifies."""
    assert run(folder, "--encoder", "intensity", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["config"], told["dim"]) == ("embeddings-intensity", 16)
    assert told["rows"] == len(rows_of(folder, "small"))
    report = verify(folder, workers=0)
    assert report.is_whole
    assert report.manifest_sha256 == told["manifest_sha256"]


DYING = """
import hashlib, os, pathlib
HERE = pathlib.Path(__file__).parent
def embed(images):
    log = HERE / "log"
    done = log.read_text().split() if log.exists() else []
    own = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    if (HERE / "die").exists() and len(done) >= int((HERE / "die").read_text()):
        os.kill(os.getpid(), 9)
    log.write_text(" ".join([*done, *own]))
    return images.mean((2, 3))
"""


def test_killed_run_goes_on(folder, tmp_path):
    """After a kill in the second shard no image of the first is embedded again."""
    shards = sorted((folder / "data" / "small").iterdir())
    rows = pq.read_metadata(shards[0]).num_rows
    (tmp_path / "dying.py").write_text(DYING)
    (tmp_path / "die").write_text(str(rows + 2))  # two images tell who the encoder is
    command = (folder, "--encoder", f"{tmp_path / 'dying.py'}:embed", "--name", "mine")
    assert in_child(lambda: run(*command)).killed
    before = (tmp_path / "log").read_text().split()
    (tmp_path / "die").unlink()
    (tmp_path / "log").unlink()
    assert run(*command) == 0
    again = (tmp_path / "log").read_text().split()
    assert len(before) == 2 + rows
    assert len(again) == 2 + len(rows_of(folder, "embeddings-mine")) - rows
    assert before[:2] == again[:2]
    assert not {*before[2:]} & {*again[2:]}
    assert verify(folder, workers=0).is_whole
    assert [path.name for path in (tmp_path / "cytoimagenet.work").rglob("*.parquet")] == []


def test_embeddings_by_weights_that_are_not_for_all_stay_here(folder, tmp_path, capsys):
    """The model's own card says so; told when they are added, and then it is as for the weights."""
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    from cytoimagenet_hf.pretraining.config import TrainConfig
    from cytoimagenet_hf.pretraining.export import save_model

    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=3)
    save_model(net, tmp_path / "model", classes=["a", "b", "c"], config=TrainConfig(image_size=64))
    (tmp_path / "model" / "README.md").write_text(
        "---\nlicense: other\nlicense_name: terms-of-training-data\n---\nHere they carry the "
        "strictest terms of their training data: **CC BY 4.0 + unknown** (local).\n"
    )
    assert run(folder, "--encoder", f"local-dir:{tmp_path / 'model'}", "--name", "own") == 0
    assert "license of the weights: CC BY 4.0 + unknown. These" in capsys.readouterr().err
    assert "CC BY 4.0 + unknown |" in (folder / "README.md").read_text(encoding="utf-8")
    assert run(folder, "--encoder", "intensity") == 0
    assert "not for all" not in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"embeddings-own \(.* \+ unknown\).*--private"):
        choose_edition(folder)
    (closed,) = edition_of(folder).withheld
    assert (closed.source, closed.crops) == ("embeddings-own", len(rows_of(folder, "small")))
    there = published(folder, tmp_path / "out", edition=edition_of(folder))
    assert verify(there, workers=0).findings == ()
    assert "embeddings-own" not in "".join(map(str, there.rglob("*")))
    assert b"embeddings-own" not in (there / "build.json").read_bytes()
    assert len(rows_of(there, "embeddings-intensity")) == closed.crops
    private = published(folder, tmp_path / "b", edition=choose_edition(folder, private=True))
    assert len(rows_of(private, "embeddings-own")) == closed.crops


def test_file_of_features_is_joined_by_id(folder, tmp_path):
    """Each crop gets the vector of its id; name and revision are those of the file."""
    features = features_of(folder)
    write_features(features, tmp_path / "own.parquet")
    given = ("--features", tmp_path / "own.parquet", "--dtype", "float32", "--weights-license")
    assert run(folder, *given, "CC BY-NC 4.0") == 0
    of = dict(zip(features.ids, features.values.tolist(), strict=True))
    rows = rows_of(folder, "embeddings-mine-v2")
    assert {row["image_id"]: list(row["embedding"]) for row in rows} == of
    assert "| Mine V2 | `r1` | 2 float32 | `small`, own | CC BY-NC 4.0 |" in (
        folder / "README.md"
    ).read_text(encoding="utf-8")
    assert verify(folder, workers=0).is_whole


def test_printed_line_names_the_folder_in_full(folder, capsys, monkeypatch):
    """Given as a dot, the folder has another inode than the working folder afterwards."""
    monkeypatch.chdir(folder)
    assert run(".", "--encoder", "intensity") == 0
    said = capsys.readouterr().out
    assert f'load_dataset("{folder.resolve().as_posix()}", "embeddings-intensity")' in said


def test_file_of_other_images_is_refused(folder, tmp_path, capsys):
    """A crop without a vector is named in one line, and nothing is written."""
    write_features(features_of(folder, ids=["x#whole"]), tmp_path / "own.parquet")
    before = (folder / "SHA256SUMS").read_bytes()
    assert run(folder, "--features", tmp_path / "own.parquet") == 2
    assert "images have no features (first:" in capsys.readouterr().err
    assert (folder / "SHA256SUMS").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of them"),
        (("--encoder", "intensity", "--features", "x.parquet"), "one of them"),
        (("--encoder", "intensity", "--mode", "odd"), "odd"),
        (("--encoder", "intensity", "--dtype", "int8"), "int8"),
        (("--features", "absent.parquet"), "absent.parquet"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, message):
    """What can't be meant is told without a traceback."""
    assert run(folder, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
