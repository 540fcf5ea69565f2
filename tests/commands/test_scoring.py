"""`cytoimagenet score` and benchmarks/run_all.py: exit status, and whole runs on simulations."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cytoimagenet_hf import cli, simulation
from cytoimagenet_hf.evaluation import _plots, results

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, str(ROOT / "benchmarks" / "run_all.py")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two of the tasks, simulated."""
    root = tmp_path_factory.mktemp("data")
    simulation.simulate("cyclops", root, fields=48)
    simulation.simulate("bbbc021", root, fields=39)
    return root


def run(*arguments):
    """Run `cytoimagenet score` without pictures and return its exit status."""
    try:
        cli.main(["score", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Draw nothing, as pictures take time."""
    monkeypatch.setattr(_plots, "_figure", lambda width, height: None)


def test_a_missing_task_makes_the_exit_non_zero(data, tmp_path, capsys):
    """COOS-7 is absent: the others are scored, it is named, and the status is 1."""
    given = ("--data-root", data, "--output", tmp_path / "out", "--encoders", "intensity")
    assert run(*given) == 1
    said = capsys.readouterr().out
    assert "missing: coos7: no folder" in said
    assert "cyclops leave-one-out, concat-norm [simulated]" in said
    assert run(*given, "--allow-missing") == 0
    assert run(*given, "--tasks", "cyclops", "bbbc021") == 0


TABLES_OWN = [("--neighbors", 11), ("--metric", "cosine"), ("--box", "zero"), ("--map", "a=b"),
              ("--images", "."), ("--name", "mine")]  # fmt: skip


def test_flags_of_a_table_need_one(data, capsys):
    """They would do nothing without it, even where they say what is the default."""
    for flag, value in TABLES_OWN:
        assert run("--data-root", data, flag, value) == 2
        assert f"{flag} goes with --table" in capsys.readouterr().err


def test_bad_input_is_one_line_and_status_2(data, tmp_path, capsys):
    """Unknown names, absent folders, and encoders out of reach are told in a line."""
    given = ("--data-root", data, "--output", tmp_path / "out", "--tasks", "cyclops")
    for wrong in (
        ("--preset", "papers"),
        ("--modes", "concat"),
        ("--encoders", "intensity", "intensity+"),
        ("--data-root", tmp_path / "absent"),
        ("--hub-dataset", "cyclops"),
        ("--device", "potato"),
        ("--features", tmp_path / "absent.parquet"),
    ):
        assert run(*given, *wrong) == 2, wrong
        said = capsys.readouterr().err
        assert said.startswith("cytoimagenet: "), wrong
        assert said.count("\n") == 1, wrong
    assert not (tmp_path / "out" / "scores").exists()


def test_json_tells_scores_and_what_is_missing(data, tmp_path, capsys):
    """Programs get each score with its interval, and the messages."""
    output = tmp_path / "out"
    arguments = ("--data-root", data, "--output", output, "--encoders", "intensity", "--json")
    assert run(*arguments, "--modes", "paper", "--tasks", "cyclops") == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["mode"] for one in told["scores"]} == {
        "concat-norm", "merge-norm", "concat-raw", "merge-raw",
    }  # fmt: skip
    assert all(one["simulated"] and one["low"] <= one["accuracy"] for one in told["scores"])
    assert all(one["n"] + sum(one["unscorable"].values()) == one["bank_size"]
               for one in told["scores"])  # fmt: skip
    assert all(one["left_out"] == {} and one["dropped"] for one in told["scores"])
    assert (told["missing"], told["notes"]) == ([], [])


def test_a_table_of_ones_own_images_is_a_task(data, tmp_path, capsys):
    """--table and --images score labelled images by their nearest neighbors."""
    lines = ["id,file,kind"]
    for path in sorted((data / "cyclops").rglob("*_gfp.tif"))[:40]:
        lines.append(f"{path.stem},{path.relative_to(data).as_posix()},{path.parent.name}")
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    given = ("--table", table, "--images", data, "--map", "path=file", "--map", "label=kind",
             "--neighbors", 3, "--encoders", "intensity", "--output", tmp_path / "out")  # fmt: skip
    assert run(*given) == 0
    assert "mine leave-one-out, concat-norm" in capsys.readouterr().out


def started(*arguments):
    """Start run_all.py without a network."""
    return subprocess.Popen(
        [*RUN, *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def scores_in(folder):
    """What each score's JSON says, but for what differs from run to run."""
    found = {path.name: json.loads(path.read_text()) for path in folder.glob("scores/*.json")}
    return {
        name: {key: value for key, value in one.items() if key != "seconds"}
        for name, one in found.items()
    }


def given(data, to):
    """Arguments of a run with random weights and a fusion of them, to two folders of scores."""
    return ("--data-root", data, "--tasks", "cyclops", "--seeds", 2, "--preset", "both",
            "--encoders", "intensity", "random:resnet18", "intensity+random:resnet18",
            "--output", to)  # fmt: skip


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The output of a run that wasn't disturbed."""
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("whole")
    process = started(*given(data, folder))
    told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return folder


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not(data, whole, tmp_path):
    """Killed after its first scores and started again, a run leaves the same files."""
    first = started(*given(data, tmp_path))
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("scores/*.json"))) < 2:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.kill()
    first.communicate()
    again = started(*given(data, tmp_path))
    told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert "on disk" in told[1]
    assert scores_in(tmp_path) == scores_in(whole)
    assert len(scores_in(whole)) == 2 * (1 + 2 * 2)
    assert (whole / "report.md").read_bytes() == (tmp_path / "report.md").read_bytes()
    assert all(made.simulated for made in results.read_scores(whole / "scores"))


@pytest.mark.slow
def test_two_processes_score_as_one(data, whole, tmp_path):
    """`accelerate launch` embeds in two processes and gives the scores of one."""
    pytest.importorskip("accelerate")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
              "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
              RUN[1]]  # fmt: skip
    done = subprocess.run(
        [*launch, *map(str, given(data, tmp_path))],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("look: ") == 1
    assert scores_in(tmp_path) == scores_in(whole)


@pytest.mark.slow
def test_a_model_on_the_hub_is_scored_by_its_id(data, tmp_path, hub_server):
    """Pushed once, the same model scores the same from the Hub and from its folder."""
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    from cytoimagenet_hf.pretraining.config import TrainConfig
    from cytoimagenet_hf.pretraining.export import save_model

    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=3)
    save_model(net, tmp_path / "model", classes=["a", "b", "c"], config=TrainConfig(image_size=64))
    hub_server.put_folder("models", "lab/net", tmp_path / "model")
    both = ["hf-hub:lab/net", f"local-dir:{tmp_path / 'model'}"]
    out = tmp_path / "out"
    done = subprocess.run(
        [*RUN, "--data-root", data, "--tasks", "cyclops", "--encoders", *both, "--output", out],
        env={**os.environ, **hub_server.environment(None)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = results.read_scores(out / "scores")
    assert "hf-hub:lab/net" in {first.encoder, second.encoder}
    assert first.encoder != second.encoder
    assert first.accuracy == second.accuracy
