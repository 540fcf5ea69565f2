"""Several processes on a CPU train as one does: no row twice, none missing, the same gradients."""

import os
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest
import safetensors.torch
import torch

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining import inputs, log, train
from tests.children import in_child
from tests.pretraining.test_restart import at_step, largest_difference

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are the fast way to processes"),
]


def work(config, folder, trap_on_rank, trap):
    """Train in one of several processes, noting the rows of each batch."""
    real = inputs.Inputs.training
    rank = torch.distributed.get_rank()

    def noting(self, batch, *, step, part, place):
        rows = batch.rows.tolist() if batch is not None else []
        with (Path(folder) / f"rows-{rank}.txt").open("a") as stream:
            stream.write(f"{step} {rows}\n")
        return real(self, batch, step=step, part=part, place=place)

    inputs.Inputs.training = noting
    if trap is not None and rank == trap_on_rank:
        trap()
    train.train(config)


def launch(config, processes, folder, trap=None, rank=0):
    """Train in processes that find each other through files; return how the launcher ended."""
    folder.mkdir(exist_ok=True)
    given = (config, str(folder), rank, trap)
    return in_child(lambda: accelerate.debug_launcher(work, given, num_processes=processes))


def noted(folder, processes):
    """(step, rows) of all processes."""
    lines = [
        line.split(" ", 1)
        for rank in range(processes)
        for line in (folder / f"rows-{rank}.txt").read_text().splitlines()
    ]
    return [(int(step), [int(one) for one in rows.strip("[]").split(",") if one.strip()])
            for step, rows in lines]  # fmt: skip


def weights(config):
    return safetensors.torch.load_file(Path(config.output_dir) / "model" / "model.safetensors")


# Without batch norm, dropout and mixup; augmentation, averages and clipping are on.
SAME = {"model": "test_vit", "drop": 0.0, "ema": 0.9, "learning_rate": 1e-3, "image_size": 32}


def losses(config):
    return [line["loss"] for line in log.read_lines(Path(config.output_dir))]


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_equal_one(settings, tmp_path, accumulation):
    """Half the batch on each of two processes gives the weights of the whole one, to 1e-4."""
    one = settings(batch_size=12 // accumulation, gradient_accumulation=accumulation,
                   output_dir=str(tmp_path / "one"), **SAME)  # fmt: skip
    two = settings(batch_size=6 // accumulation, gradient_accumulation=accumulation,
                   output_dir=str(tmp_path / "two"), **SAME)  # fmt: skip
    assert launch(one, 1, tmp_path / "a").code == 0
    assert launch(two, 2, tmp_path / "b").code == 0
    assert largest_difference(weights(one), weights(two)) <= 1e-4
    assert losses(one) == pytest.approx(losses(two), abs=1e-4)


@pytest.mark.parametrize(("processes", "workers"), [(2, 2), (3, 0)])
def test_rows_once_in_real_processes(settings, tmp_path, processes, workers):
    """In each epoch every row is trained on once, and each validation row counts once."""
    config = settings(batch_size=4, workers=workers)
    assert launch(config, processes, tmp_path / "rows").code == 0
    found = noted(tmp_path / "rows", processes)
    steps = 1 + max(step for step, _ in found)
    for epoch in range(2):
        own = range(epoch * steps // 2, (epoch + 1) * steps // 2)
        assert sorted(row for step, rows in found if step in own for row in rows) == list(range(46))
    classes = log.files.read_json(Path(config.output_dir) / "classes.json")
    assert sum(one["images"] for one in classes) == 13


def test_streams_of_uneven_length(settings, tmp_path):
    """Where a process runs out of rows before another, the others' rows still count, once."""
    config = settings(streaming=True, batch_size=3, shuffle_buffer=8, gradient_accumulation=2)
    assert launch(config, 3, tmp_path / "rows").code == 0
    final = log.files.read_json(Path(config.output_dir) / "final.json")
    assert final["images_seen"] == 2 * 46
    lines = log.read_lines(Path(config.output_dir))
    assert all(line["loss"] < 10 for line in lines)


def test_killed_process_and_restart(settings, tmp_path):
    """One of two processes dies; both started again end as an unbroken run, to the last bit."""
    values = {"drop": 0.3, "drop_path": 0.2, "mixup": 0.2, "cutmix": 1.0, "ema": 0.9,
              "batch_size": 4, "checkpoint_steps": 2}  # fmt: skip
    whole = settings(output_dir=str(tmp_path / "whole"), **values)
    broken = settings(output_dir=str(tmp_path / "broken"), **values)
    assert launch(whole, 2, tmp_path / "a").code == 0
    assert "SIGKILL" in launch(broken, 2, tmp_path / "b", at_step(4), rank=1).said
    assert launch(broken, 2, tmp_path / "c").code == 0
    assert losses(whole) == losses(broken)
    assert largest_difference(weights(whole), weights(broken)) == 0.0


def test_other_number_of_processes_is_refused(settings, tmp_path):
    """A run of two processes isn't gone on with by one: its batches would be others."""
    config = settings(epochs=1, batch_size=4)
    assert launch(config, 2, tmp_path / "a").code == 0
    with pytest.raises(CytoImageNetError, match="written by 2 processes and this run has 1"):
        train.train(config)


def started(command, config):
    """Output of a launcher that runs training/train.py."""
    flags = ["--config", str(Path(config.output_dir) / "train_config.json")]
    config.save(Path(config.output_dir))
    return subprocess.run(
        [sys.executable, "-m", *command, str(ROOT / "training" / "train.py"), *flags],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
        timeout=300,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("asked", [True, False])
def test_torchrun_starts_two(settings, asked):
    """Two processes on a CPU share one run, also where nobody said that there is nothing else."""
    if not asked and torch.accelerator.is_available():
        pytest.skip("there is more than a CPU")
    config = settings(epochs=1, batch_size=4, cpu=asked)
    told = started(["torch.distributed.run", "--standalone", "--nproc_per_node", "2"], config)
    assert told.splitlines()[0] == "2 processes on cpu"
    assert (Path(config.output_dir) / "model" / "config.json").exists()


def test_accelerate_launch_says_how_many_it_started(settings):
    """`accelerate launch --cpu --num_processes 2` starts one without a word; ours is said."""
    command = ["accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    told = started(command, settings(epochs=1))
    assert told.splitlines()[0] == "1 process on cpu"
