"""A run that was killed anywhere and started again ends as one that never was."""

import os
import signal

import pytest
import safetensors.torch
import torch

from cytoimagenet_hf.pretraining import checkpoints, inputs, log, train
from tests.children import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
slow = pytest.mark.slow

# All that draws random numbers is on.
RANDOM = {
    "drop": 0.3, "drop_path": 0.2, "mixup": 0.2, "cutmix": 1.0, "ema": 0.9, "noise": 0.05,
    "learning_rate": 3e-3, "checkpoint_steps": 2, "gradient_accumulation": 1,
}  # fmt: skip


def die():
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def result(output):
    """Losses of each step, and all weights at the end."""
    lines = log.read_lines(output)
    losses = [(one["kind"], one["epoch"], one["step"], one["loss"]) for one in lines]
    weights = safetensors.torch.load_file(output / "model" / "model.safetensors")
    newest = checkpoints._listed(output / "checkpoints")[-1]
    weights |= {f"raw {k}": v for k, v in
                safetensors.torch.load_file(newest / "model.safetensors").items()}  # fmt: skip
    return losses, weights


def largest_difference(one, other):
    assert one.keys() == other.keys()
    return max(float((one[key].double() - other[key].double()).abs().max()) for key in one)


def killer(module, name, at, *, after=False):
    """Replace a function by one that dies at its call number `at`, before or after its work."""
    real, calls = getattr(module, name), [0]

    def wrapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at and not after:
            die()
        found = real(*args, **kwargs)
        if calls[0] == at:
            die()
        return found

    setattr(module, name, wrapped)


def at_step(number):
    return lambda: killer(train.Run, "_step", number)


def while_writing_optimizer():
    killer(torch, "save", 2)


def before_rename():
    killer(checkpoints, "_seal", 2, after=True)


def between_rename_and_cleanup():
    killer(checkpoints.files, "sync_folder", 13, after=True)


def nothing():
    """Change nothing."""


def seeding_only_once():
    """Keep all random numbers in one stream."""
    real, seeded = torch.manual_seed, []

    def only_once(seed):
        if not seeded:
            real(seed)
        seeded.append(seed)

    torch.manual_seed = only_once


def both(settings, tmp_path, trap, before=nothing, **values):
    """Results of an unbroken run and of one that met a trap; `before` is called in each child."""
    values = RANDOM | values

    def run(config, meet=nothing):
        def work():
            before()
            meet()
            train.train(config)

        return in_child(work)

    whole = settings(output_dir=str(tmp_path / "whole"), **values)
    assert run(whole).code == 0
    broken = settings(output_dir=str(tmp_path / "broken"), **values)
    assert run(broken, trap).killed
    assert run(broken).code == 0
    return result(tmp_path / "whole"), result(tmp_path / "broken")


def hold(settings, tmp_path, trap, **values):
    (losses, weights), (again, others) = both(settings, tmp_path, trap, **values)
    assert again == losses
    assert largest_difference(weights, others) == 0.0


@slow
def test_without_seeds_of_steps_the_same_kill_differs(settings, tmp_path):
    """The guard bites: where dropout draws from one stream, the resumed run ends elsewhere."""
    (_, weights), (_, others) = both(settings, tmp_path, at_step(4), before=seeding_only_once)
    assert largest_difference(weights, others) > 1e-4


@slow
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_a_step(settings, tmp_path, streaming, workers):
    """Losses and weights are equal to the last bit, rows by number or streamed."""
    hold(settings, tmp_path, at_step(4), streaming=streaming, workers=workers, shuffle_buffer=16)


@slow
@pytest.mark.parametrize(
    "trap", [while_writing_optimizer, before_rename, between_rename_and_cleanup]
)
def test_killed_while_saving(settings, tmp_path, trap):
    """A checkpoint that was half-written, or written and not yet tidied up, changes nothing."""
    hold(settings, tmp_path, trap, keep_checkpoints=1)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(1, 31))
def test_killed_thirty_times(settings, tmp_path, number):
    """At any of the first steps and saves, in all kinds of runs, the end is the same."""
    trap = (lambda: killer(torch, "save", number // 4 + 1)) if number % 4 == 0 else at_step(
        number % 6 + 1
    )  # fmt: skip
    hold(
        settings, tmp_path, trap, streaming=number % 2 == 0, workers=number % 3,
        gradient_accumulation=1 + number % 2, shuffle_buffer=16,
        class_balanced=number % 6 == 1, checkpoint_steps=1 + number % 3,
    )  # fmt: skip


@slow
def test_resumed_steps_have_the_same_rows(settings, tmp_path):
    """The rows of each step after a restart are those of the unbroken run."""

    def recorded(name, trap=None):
        real = inputs.Inputs.training

        def noting(self, batch, *, step, part, place):
            with (tmp_path / name).open("a") as stream:
                stream.write(f"{step} {batch.rows.tolist()}\n")
            return real(self, batch, step=step, part=part, place=place)

        inputs.Inputs.training = noting
        if trap:
            trap()
        train.train(settings(output_dir=str(tmp_path / name.partition(".")[0]), **RANDOM))

    assert in_child(lambda: recorded("whole.txt")).code == 0
    assert in_child(lambda: recorded("broken.1.txt", at_step(8))).killed
    assert in_child(lambda: recorded("broken.2.txt")).code == 0
    whole = (tmp_path / "whole.txt").read_text().splitlines()
    before = (tmp_path / "broken.1.txt").read_text().splitlines()
    after = (tmp_path / "broken.2.txt").read_text().splitlines()
    assert before == whole[:7]
    assert after == whole[-len(after) :]
    assert len(before) + len(after) >= len(whole) == 12
