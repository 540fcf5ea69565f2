"""A run scores all that is there, names what isn't, and goes on where it was stopped."""

import dataclasses
import json

import numpy as np
import pytest

from cytoimagenet_hf.errors import (
    EncoderError,
    FeaturesError,
    NotScorableError,
    TaskNotFoundError,
)
from cytoimagenet_hf.evaluation import _passes, _plots, features, runner
from cytoimagenet_hf.evaluation.records import Features, Images, Protocol, Task
from cytoimagenet_hf.evaluation.scoring import score
from cytoimagenet_hf.models.encoders import load_encoder


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Draw nothing: pictures take time and have tests of their own."""
    monkeypatch.setattr(_plots, "_figure", lambda width, height: None)


SHINING = {"dark": 300, "pale": 900, "bright": 2500}  # counts


def pictures(count=24, *, simulated=True, shift=0):
    """Images of three labels that differ in how their light is spread, in wells of two."""
    random = np.random.default_rng(1)
    labels = [list(SHINING)[at % 3] for at in range(count)]
    planes = [
        random.gamma(SHINING[label] / 300, 300, (1, 40, 40)).astype(np.uint16) + shift
        for label in labels
    ]
    return Images(
        ids=tuple(f"cell{at:03}" for at in range(count)),
        labels=tuple(labels),
        splits=tuple("test" if at % 4 == 0 else "train" for at in range(count)),
        keys={"well": tuple(f"w{at // 6}" for at in range(count))},
        read=lambda row: planes[row],
        simulated=simulated,
    )


LOO = Protocol(name="loo", k=1, metric="euclidean", standardize="all", cluster="well")
APART = Protocol(name="apart", k=3, metric="euclidean", bank="train", query="test")


def opened(images=None, protocols=(LOO, APART), **options):
    task = Task(
        name="made",
        title="A made-up task",
        version=1,
        channels=("light",),
        open=lambda root: images,
        protocols=protocols,
        **options,
    )
    return runner.Opened(task, images or pictures())


def config(folder, one=None, **options):
    fields = {"opened": (one or opened(),), "output": folder / "out", "encoders": ("intensity",)}
    return runner.RunConfig(**fields | options)


def scores_of(found):
    return {(made.protocol.name, made.encoder, made.mode): made for made in found.scores}


def test_scores_are_those_of_scoring_features_by_hand(tmp_path):
    """Each protocol's predictions are what `score` gives for the features of `compute`."""
    one = opened()
    found = runner.run(config(tmp_path, one))
    encoder = load_encoder("intensity")
    mode = features.parse_mode("concat-norm")
    own = features.compute(one.images, encoder, mode, task="made", cache=None)
    for protocol in (LOO, APART):
        expected = score(one.images, [own], protocol)
        made = scores_of(found)[protocol.name, "intensity", "concat-norm"]
        assert (made.correct, made.n) == (int(expected.correct.sum()), len(expected.ids))
    assert scores_of(found)["loo", "intensity", "concat-norm"].accuracy > 0.5  # light differs
    assert found.missing == found.notes == []


def test_files_of_a_run(tmp_path):
    """A JSON and a Parquet a score, the page, and everything says that it is simulated."""
    told = []
    found = runner.run(config(tmp_path), told.append)
    names = sorted(path.suffix for path in (tmp_path / "out" / "scores").iterdir())
    assert names == [".json", ".json", ".parquet", ".parquet"]
    assert found.files[0] == tmp_path / "out" / "report.html"
    assert "SIMULATED" in found.files[0].read_text(encoding="utf-8")
    assert all("[simulated]" in line for line in told)
    assert len(told) == 2


def test_images_that_a_task_leaves_out_are_told(tmp_path):
    """Reasons and counts come before the first score."""
    one = opened(protocols=(LOO,))
    lacking = dataclasses.replace(one.images, dropped={"missing channel file (dna)": 2, "DMSO": 1})
    told = []
    runner.run(config(tmp_path, dataclasses.replace(one, images=lacking)), told.append)
    assert told[0].endswith(" images; left out: DMSO: 1, missing channel file (dna): 2")


def test_images_that_an_encoder_leaves_out_are_told_with_its_score(tmp_path):
    """One image shows nothing at all: 23 of 24 are scored."""
    one = opened(protocols=(LOO,))

    def read(row):
        return one.images.read(row) * (row > 0)

    told = []
    dark = dataclasses.replace(one.images, read=read)
    runner.run(config(tmp_path, runner.Opened(one.task, dark)), told.append)
    assert told[0].endswith(" of 23, 1 images left out")


def test_a_run_goes_on_where_it_was(tmp_path, monkeypatch):
    """A second run computes neither features nor scores, and gives the same ones."""
    first = runner.run(config(tmp_path))
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "scores").iterdir()}
    monkeypatch.setattr(_passes, "score", None)
    told = []
    again = runner.run(config(tmp_path), told.append)
    assert again.scores == first.scores
    assert all(line.endswith(", on disk") for line in told)
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "scores").iterdir()} == before


def test_a_stopped_run_keeps_what_was_finished(tmp_path, monkeypatch):
    """Stopped while the second protocol is scored, the first one's score stays and counts."""
    real, calls = _passes.score, []

    def stop(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(_passes, "score", stop)
    with pytest.raises(KeyboardInterrupt):
        runner.run(config(tmp_path))
    assert len(list((tmp_path / "out" / "scores").glob("*.json"))) == 1
    found = runner.run(config(tmp_path))
    assert len(found.scores) == 2
    assert len(calls) == 3


@pytest.mark.parametrize("change", ["pixels", "labels", "version", "protocol"])
def test_what_changed_is_scored_again(tmp_path, change):
    """Other pixels, labels, version or protocol never meet a score of before."""
    one = opened(protocols=(LOO,))
    runner.run(config(tmp_path, one))
    images, task = one.images, one.task
    if change == "pixels":
        images = pictures(shift=1)
    elif change == "labels":
        images = dataclasses.replace(images, labels=images.labels[1:] + images.labels[:1])
    elif change == "version":
        task = dataclasses.replace(task, version=2)
    else:
        task = dataclasses.replace(task, protocols=(dataclasses.replace(LOO, k=3),))
    told = []
    runner.run(config(tmp_path, runner.Opened(task, images)), told.append)
    assert not any("on disk" in line for line in told)
    assert len(list((tmp_path / "out" / "scores").glob("*.json"))) == 2


def test_features_joined_with_themselves_are_the_same(tmp_path):
    """intensity+intensity predicts as intensity does; the two are a tie."""
    found = runner.run(config(tmp_path, encoders=("intensity", "intensity+intensity")))
    made = scores_of(found)
    for name in ("loo", "apart"):
        alone, joined = (
            made[name, column, "concat-norm"] for column in ("intensity", "intensity+intensity")
        )
        assert (alone.correct, alone.classes) == (joined.correct, joined.classes)
    assert all(pair.adjusted == 1 for pair in found.pairs)


def test_each_mode_and_preset_is_a_row(tmp_path):
    """Two modes and two presets of one protocol are four scores; equal presets are named apart."""
    paper = (dataclasses.replace(LOO, ties="label"),)
    one = opened(protocols=(LOO,), paper=paper)
    given = config(tmp_path, one, modes=("concat-norm", "merge-raw"), presets=("standard", "paper"))
    rows = {(made.mode, made.preset, made.protocol.ties) for made in runner.run(given).scores}
    assert rows == {
        (mode, preset, ties)
        for mode in ("concat-norm", "merge-raw")
        for preset, ties in (("standard", "distance"), ("paper", "label"))
    }


def test_a_part_that_is_absent_is_named_and_the_rest_scored(tmp_path):
    """A protocol whose test set isn't there is missing; the other one counts."""
    far = dataclasses.replace(APART, name="far", query="test4")
    found = runner.run(config(tmp_path, opened(protocols=(LOO, far))))
    assert [made.protocol.name for made in found.scores] == ["loo"]
    assert len(found.missing) == 1
    assert "far" in found.missing[0]
    assert "test4" in found.missing[0]
    assert "test4" in found.files[1].read_text(encoding="utf-8")


def test_a_protocol_that_scores_nothing_is_named_and_the_rest_scored(tmp_path):
    """No query has its label in the bank, or a key is absent: told once; nothing at all: error."""
    images = pictures()
    own = dataclasses.replace(images, keys={**images.keys, "kind": images.labels})
    alike = dataclasses.replace(LOO, name="alike", exclude=("kind",))
    keyless = dataclasses.replace(LOO, name="keyless", cluster="patient")
    given = config(tmp_path, opened(own, (alike, keyless, LOO)), presets=("standard", "paper"),
                   encoders=("intensity", "intensity+intensity"))  # fmt: skip
    found = runner.run(given)
    assert {made.protocol.name for made in found.scores} == {"loo"}
    assert found.missing == [
        "made, concat-norm: protocol alike: none of 24 queries can be scored (label not in its "
        "bank: 24).",
        "made: protocol keyless: the images have no key 'patient'; there are 'kind', 'well'.",
        "made (paper), concat-norm: protocol alike: none of 24 queries can be scored (label not in "
        "its bank: 24).",
    ]
    with pytest.raises(NotScorableError, match=r"Nothing was scored.*alike"):
        runner.run(config(tmp_path, opened(own, (alike,))))


def test_absent_tasks_are_named_and_none_at_all_is_an_error(tmp_path):
    """A task given beside an empty root is scored, and each absent one named."""
    (tmp_path / "data").mkdir()
    roots = (str(tmp_path / "data"),)
    found = runner.run(config(tmp_path, data_roots=roots))
    assert len(found.scores) == 2
    assert any("bbbc021" in one for one in found.missing)
    with pytest.raises(TaskNotFoundError, match=r"bbbc021.*coos7.*cyclops"):
        runner.run(config(tmp_path, data_roots=roots, opened=()))


def test_encoders_that_take_no_such_images(tmp_path, monkeypatch):
    """Asked for, it is an error; of the rows of the design, it is left out with the reason."""
    images = pictures()
    two = dataclasses.replace(images, read=lambda row: np.repeat(images.read(row), 2, axis=0))
    with pytest.raises(EncoderError, match="1 channels, not 2"):
        runner.run(config(tmp_path, opened(two), modes=("joint-norm",)))
    monkeypatch.setattr("cytoimagenet_hf.evaluation.lineup.COLUMNS", ("intensity",))
    found = runner.run(
        config(tmp_path, opened(two), encoders=(), modes=("joint-norm", "merge-norm"))
    )
    assert {made.mode for made in found.scores} == {"merge-norm"}
    assert "joint-norm: intensity is left out" in found.notes[0]
    assert found.missing == []


def published(folder, images, name="features.parquet"):
    """Write features of somebody else's encoder, rows in another order."""
    random = np.random.default_rng(4)
    places = list(SHINING)
    values = np.array([places.index(label) for label in images.labels])[:, None]
    values = values + random.normal(0, 0.1, (len(images), 5))
    order = random.permutation(len(images))
    path = folder / name
    features.write_features(
        Features(tuple(images.ids[at] for at in order), values[order].astype(np.float32), {}), path
    )
    return path


def test_published_features_are_scored_without_an_encoder(tmp_path):
    """They get a column named like their file; nothing is embedded, rows are joined by id."""
    one = opened(protocols=(LOO,))
    blind = dataclasses.replace(one.images, read=None)
    path = published(tmp_path, one.images)
    given = config(tmp_path, runner.Opened(one.task, blind), encoders=(), features=(path,))
    (made,) = runner.run(given).scores
    assert (made.encoder, made.mode, made.accuracy) == ("features.parquet", "published", 1.0)


def test_published_features_stand_beside_encoders(tmp_path):
    """Both are columns, and a name that is taken gets the file's name too."""
    one = opened(protocols=(LOO,))
    path = published(tmp_path, one.images)
    own = features.read_features(path)
    named = tmp_path / "named.parquet"
    features.write_features(
        Features(own.ids, own.values, {"encoder": "intensity", "mode": "concat-norm"}), named
    )
    found = runner.run(config(tmp_path, one, features=(path, named)))
    assert {made.encoder for made in found.scores} == {
        "intensity", "features.parquet", "intensity (named.parquet)",
    }  # fmt: skip


def test_features_of_other_images_are_refused(tmp_path):
    """Ids that no task has are an error that shows both sides."""
    path = published(tmp_path, pictures(30))
    with pytest.raises(FeaturesError, match=r"features\.parquet fits no task.*cell"):
        runner.run(config(tmp_path, opened(pictures(36)), features=(path,)))
    assert not (tmp_path / "out").exists()  # nothing was embedded


def test_features_of_other_pixels_are_refused(tmp_path):
    """Equal ids aren't enough where the file says which pixels it was made of."""
    one = opened(protocols=(LOO,))
    encoder, mode = load_encoder("intensity"), features.parse_mode("concat-norm")
    own = features.compute(one.images, encoder, mode, task="made", cache=None)
    path = tmp_path / "own.parquet"
    features.write_features(own, path)
    assert runner.run(config(tmp_path, one, encoders=(), features=(path,))).scores[0].n == 24
    with pytest.raises(FeaturesError, match=r"24 of 24 .*other pixels .*'cell000', 'cell001'"):
        runner.run(config(tmp_path, opened(pictures(shift=1)), encoders=(), features=(path,)))


def test_files_of_one_name_are_columns_of_their_folders(tmp_path):
    """a/f.parquet and b/f.parquet stand side by side; the same file twice can't."""
    one = opened(protocols=(LOO,))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    paths = tuple(published(tmp_path / name, one.images, "f.parquet") for name in ("a", "b"))
    found = runner.run(config(tmp_path, one, encoders=(), features=paths))
    assert [made.encoder for made in found.scores] == ["f.parquet", "b/f.parquet"]
    with pytest.raises(ValueError, match=r"would both stand in the column 'b/f\.parquet'"):
        runner.run(config(tmp_path, one, features=(*paths, paths[1])))


def test_labels_stand_in_for_images(tmp_path):
    """With a table of labels and the name of a task, features are scored by its protocols."""
    lines = ["id,label,split,plate,well"]
    values = []
    for at in range(40):
        label, split = ("ER", "Golgi")[at % 2], ("train", "test1")[at % 4 == 0]
        lines.append(f"c{at:02},{label},{split},p,w{at % 5}")
        values.append([at % 2, 0.01 * at])
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "f.parquet"
    ids = tuple(f"c{at:02}" for at in range(40))
    features.write_features(Features(ids, np.array(values, np.float32), {}), path)
    given = config(tmp_path, opened=(), encoders=(), features=(path,), labels=table,
                   tasks=("coos7",))  # fmt: skip
    found = runner.run(given)
    (made,) = found.scores
    assert (made.task, made.protocol.name, made.n) == ("coos7", "test1", 10)
    assert len(found.missing) == 3  # test2 to test4
    with pytest.raises(ValueError, match="encoders need images"):
        runner.run(dataclasses.replace(given, encoders=("intensity",)))
    for images in ({"opened": (opened(),)}, {"data_roots": (str(tmp_path),)}):
        with pytest.raises(ValueError, match="stands for images: give either"):
            runner.run(dataclasses.replace(given, **images))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"modes": ("concat",)}, "No mode 'concat'"),
        ({"presets": ("papers",)}, "Unknown preset 'papers'"),
        ({"tasks": ("coos",)}, "Unknown task 'coos'"),
        ({"encoders": ("intensity++",)}, "empty part"),
    ],
)
def test_wrong_names_are_told_before_anything_is_embedded(tmp_path, options, said):
    """Misspelled modes, presets, tasks and encoders end the run at its start."""
    with pytest.raises(ValueError, match=said):
        runner.run(config(tmp_path, **options))
    assert not (tmp_path / "out").exists()


def test_damaged_scores_are_not_passed_over(tmp_path):
    """A score on disk that was edited is an error that names it, not scored again in silence."""
    runner.run(config(tmp_path))
    path = next(iter((tmp_path / "out" / "scores").glob("*.json")))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"correct": 0}))
    with pytest.raises(ValueError, match=path.name):
        runner.run(config(tmp_path))


def test_results_for_the_hub_are_of_real_images_only(tmp_path):
    """Written where a data set is named; of simulated images there are none."""
    hub = pytest.importorskip("huggingface_hub")
    import yaml

    options = {"hub_datasets": {"made": "owner/made"}}
    simulated = runner.run(config(tmp_path / "a", **options))
    assert not any(path.suffix == ".yaml" for path in simulated.files)
    real = runner.run(config(tmp_path / "b", opened(pictures(simulated=False)), **options))
    (path,) = (one for one in real.files if one.suffix == ".yaml")
    assert (
        path.relative_to(tmp_path / "b/out").as_posix() == "hub/intensity/.eval_results/made.yaml"
    )
    entries = hub.parse_eval_result_entries(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert {entry.task_id for entry in entries} == {"loo", "apart"}


def test_other_processes_embed_but_write_no_scores(tmp_path, monkeypatch):
    """What a launcher started beside the first process leaves scoring to it."""
    monkeypatch.setenv("RANK", "1")
    found = runner.run(config(tmp_path))
    assert found.scores == []
    assert (tmp_path / "out" / "features").is_dir()
    assert not (tmp_path / "out" / "scores").exists()


def test_order_of_images_on_disk_changes_no_score(tmp_path):
    """Tables whose keys come in another order, and features read in another, score alike."""
    one = opened(protocols=(LOO,))
    first = runner.run(config(tmp_path / "a", one, features=(published(tmp_path, one.images),)))
    again = runner.run(config(tmp_path / "b", one, features=(published(tmp_path, one.images),)))
    assert first.scores == [
        dataclasses.replace(new, seconds=old.seconds)
        for old, new in zip(first.scores, again.scores, strict=True)
    ]


@pytest.mark.slow
def test_random_weights_give_mean_and_range(tmp_path):
    """Two seeds are two scores of one column, of other revisions; a seed gives the same again."""
    pytest.importorskip("timm")
    given = config(tmp_path, opened(protocols=(LOO,)), encoders=("random:resnet18",), seeds=2)
    found = runner.run(given)
    assert [made.seed for made in found.scores] == [0, 1]
    assert len({made.parts[0]["revision"] for made in found.scores}) == 2
    assert "2 seeds" in found.files[1].read_text(encoding="utf-8")
    other = runner.run(dataclasses.replace(given, output=tmp_path / "other", seeds=1))
    assert other.scores[0].identity == found.scores[0].identity
    assert other.scores[0].correct == found.scores[0].correct
