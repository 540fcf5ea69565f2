"""Schedule by hand, arithmetic by device, and settings that a resumed run must share."""

import pytest
import torch

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining import setup
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.setup import (
    alone,
    check_compiler,
    identity,
    precision,
    rate_factor,
    tracker,
)

CPU = torch.device("cpu")


def test_schedule_by_hand():
    """10 steps, 2 of them rising: 1/2, 1, then half a cosine from 1 that would be 0 at step 10."""
    config = TrainConfig(warmup=0.2)
    made = [rate_factor(step, 10, config) for step in range(11)]
    assert made[:3] == [0.5, 1.0, 1.0]
    assert made[4] == pytest.approx(0.5 + 0.5 * 2**-0.5)  # a quarter of the way: cos 45 degrees
    assert made[6] == pytest.approx(0.5)
    assert made[10] == pytest.approx(0.0)


def test_constant_schedule():
    """A constant rate is constant from the first step on."""
    config = TrainConfig(schedule="constant", warmup=0.0)
    assert {rate_factor(step, 10, config) for step in range(20)} == {1.0}


def test_no_bf16_on_a_cpu():
    """On a CPU arithmetic is plain; asking for less is refused and says how to go on."""
    assert precision(TrainConfig(), CPU) == "no"
    for asked in ("bf16", "fp16"):
        with pytest.raises(ValueError, match=rf"{asked}.* cpu: leave --mixed-precision at auto"):
            precision(TrainConfig(mixed_precision=asked), CPU)


def test_bf16_where_a_gpu_has_it(monkeypatch):
    """On a GPU with bf16 units auto takes them, else plain arithmetic."""
    for has, expected in ((True, "bf16"), (False, "no")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert precision(TrainConfig(), torch.device("cuda")) == expected


def test_compile_needs_a_compiler(monkeypatch):
    """Without a C++ compiler --compile is refused before the first step fails in it."""
    check_compiler(TrainConfig(compile=False), CPU)
    monkeypatch.setattr(setup.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"C\+\+ compiler"):
        check_compiler(TrainConfig(compile=True), CPU)


def test_trackers():
    """An unknown tracker and an absent one are told apart; none is none."""
    assert tracker(TrainConfig()) is None
    with pytest.raises(ValueError, match=r"Unknown tracker 'json'.*tensorboard"):
        tracker(TrainConfig(tracker="json"))


def test_absent_tracker(monkeypatch):
    """A tracker that isn't installed is an error, never a run without it."""
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CytoImageNetError, match="pip install wandb"):
        tracker(TrainConfig(tracker="wandb"))


def test_identity_is_of_what_moves_weights():
    """A batch size counts, a folder doesn't; workers count when streaming."""
    base = identity(TrainConfig(), "data")
    assert identity(TrainConfig(batch_size=5), "data") != base
    assert identity(TrainConfig(), "other") != base
    assert identity(TrainConfig(output_dir="x", workers=9, log_steps=1), "data") == base
    streams = [identity(TrainConfig(streaming=True, workers=n), "data") for n in (1, 2)]
    assert streams[0] != streams[1]


def test_a_second_run_is_kept_out(tmp_path):
    """Two runs in one folder would overwrite each other's checkpoints."""
    with alone(tmp_path), pytest.raises(CytoImageNetError, match="another --output-dir"):  # noqa: SIM117
        with alone(tmp_path):
            pass
    with alone(tmp_path):
        pass
