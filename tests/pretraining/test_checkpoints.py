"""Checkpoints are whole or absent; damaged ones are named and the one before is taken."""

import errno
import json
import os
import pickle
import shutil

import pytest
import torch

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining import checkpoints
from cytoimagenet_hf.pretraining.checkpoints import Parts, Progress, check_same, restore, save
from tests.children import in_child

SETTINGS = {"batch_size": 8, "seed": 0}


def parts(value=1.0, scaler=None):
    """A network of one layer with chosen weights, its optimizer, and an average."""
    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.weight, value)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return Parts(model, optimizer, scaler, torch.nn.Linear(2, 2))


def progress(step=1, epoch=0):
    return Progress(step, epoch, step, step * 8, 1, SETTINGS)


def say_nothing(text):
    raise AssertionError(text)


def test_all_states_come_back(tmp_path):
    """Weights, average, moments of the optimizer and scale of gradients are what they were."""
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    before = parts(3.0, scaler)
    save(tmp_path, progress(), before)
    found = restore(tmp_path, say_nothing)
    fresh_scaler = torch.amp.GradScaler("cpu")
    after = parts(5.0, fresh_scaler)
    found.load_into(after)
    assert torch.equal(after.model.weight, before.model.weight)
    assert torch.equal(after.averaged.weight, before.averaged.weight)
    one, other = (x.optimizer.state_dict()["state"][0]["exp_avg"] for x in (before, after))
    assert torch.equal(one, other)
    assert fresh_scaler.get_scale() == 4096.0
    assert found.progress == progress()


def test_no_checkpoint_is_none(tmp_path):
    """A new run begins."""
    assert restore(tmp_path / "absent", say_nothing) is None


def test_keeps_the_newest(tmp_path):
    """Of five checkpoints the newest two stay; the end of an epoch comes behind its last step."""
    for step, epoch in ((1, 0), (2, 0), (3, 0), (3, 1), (4, 1)):
        save(tmp_path, progress(step, epoch), parts(), keep=2)
    assert sorted(os.listdir(tmp_path)) == [
        "step-00000003-epoch-0001", "step-00000004-epoch-0001",
    ]  # fmt: skip


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def damage_gone(path):
    path.unlink()


@pytest.mark.parametrize("damage", [damage_flip, damage_cut, damage_gone])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "ema.safetensors", "optimizer.pt", "progress.json",
             "manifest.json"]
)  # fmt: skip
def test_damaged_one_is_named_and_passed_by(tmp_path, damage, name):
    """Whatever is damaged, and however: the one before is taken, and people are told."""
    save(tmp_path, progress(1), parts(1.0))
    newest = save(tmp_path, progress(2), parts(2.0))
    damage(newest / name)
    told = []
    found = restore(tmp_path, told.append)
    assert found.progress.step == 1
    assert len(told) == 1
    assert str(newest) in told[0]


def test_good_ones_outlive_damaged_ones(tmp_path):
    """The run goes on behind a damaged checkpoint; what it writes is not tidied away for that."""
    save(tmp_path, progress(1), parts())
    damage_flip(save(tmp_path, progress(5), parts()) / "optimizer.pt")
    save(tmp_path, progress(3), parts(), keep=1)
    assert restore(tmp_path, lambda text: None).progress.step == 3
    save(tmp_path, progress(5), parts(), keep=1)
    assert restore(tmp_path, say_nothing).progress.step == 5


class Bomb:
    """What a pickle of somebody else's may hold."""

    def __reduce__(self):
        return os.mkdir, ("bomb",)


def test_forged_optimizer_runs_nothing(tmp_path, monkeypatch):
    """A checkpoint with right sums and a wrong pickle is damaged, and its code never runs."""
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "c", progress(), parts())
    for payload in (pickle.dumps(Bomb(), protocol=2), b""):
        (path / "optimizer.pt").write_bytes(payload)
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["optimizer.pt"] = hashing.sha256_file(path / "optimizer.pt")
        (path / "manifest.json").write_text(json.dumps(manifest))
        told = []
        assert restore(tmp_path / "c", told.append) is None
        assert len(told) == 1
    assert not (tmp_path / "bomb").exists()


def test_manifest_may_not_leave_the_folder(tmp_path):
    """Names in a manifest are names, not paths."""
    path = save(tmp_path, progress(), parts())
    manifest = json.loads((path / "manifest.json").read_text()) | {"../x": "0"}
    (path / "manifest.json").write_text(json.dumps(manifest))
    told = []
    assert restore(tmp_path, told.append) is None
    assert "leaves the folder" in told[0]


STEPS = [
    (checkpoints.safetensors.torch, "save_file"), (checkpoints.torch, "save"),
    (checkpoints.files, "write_json"), (checkpoints.hashing, "sha256_file"),
    (checkpoints.os, "fsync"), (checkpoints.files, "sync_folder"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize(("module", "name"), STEPS)
def test_full_disk_loses_nothing(tmp_path, monkeypatch, module, name, number):
    """No space at any write: an error of ours, the older checkpoint whole, nothing half-written."""
    save(tmp_path, progress(1), parts(1.0))
    real, calls = getattr(module, name), [0]

    def full(*args, **kwargs):
        calls[0] += 1
        if calls[0] == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, full)
    try:
        save(tmp_path, progress(2), parts(2.0), keep=1)
    except CytoImageNetError as error:
        assert "No space left on device" in str(error)  # noqa: PT017
        assert not list(tmp_path.glob("*.part"))
    else:
        assert calls[0] < number
    monkeypatch.undo()
    assert restore(tmp_path, say_nothing).progress.step in (1, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize(("module", "name"), [*STEPS, (shutil, "rmtree"), (os, "rename")])
def test_killed_at_each_write(tmp_path, module, name, number, after):
    """A kill before or after any write leaves the old checkpoint or the new one, whole."""
    save(tmp_path, progress(1), parts(1.0), keep=1)

    def work():
        real, calls = getattr(module, name), [0]

        def trap(*args, **kwargs):
            calls[0] += 1
            found = real(*args, **kwargs) if after or calls[0] != number else None
            if calls[0] == number:
                os.kill(os.getpid(), 9)
            return found

        setattr(module, name, trap)
        save(tmp_path, progress(2), parts(2.0), keep=1)

    ended = in_child(work)
    assert ended.killed or ended.code == 0
    found = restore(tmp_path, say_nothing)
    assert found.progress.step in (1, 2)
    save(tmp_path, progress(3), parts(3.0), keep=1)
    assert os.listdir(tmp_path) == ["step-00000003-epoch-0000"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_real_limit_of_file_size(tmp_path):
    """A real refusal of the system in the middle of a file is the same error."""
    pytest.importorskip("resource")
    save(tmp_path, progress(1), parts(1.0))

    def work():
        import resource
        import signal

        big = Parts(torch.nn.Linear(300, 300), parts().optimizer)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        with pytest.raises(CytoImageNetError, match="can't be written"):
            save(tmp_path, progress(2), big)
        others = Parts(parts().model, torch.optim.Adam(big.model.parameters()))
        others.optimizer.step(lambda: big.model(torch.ones(300)).sum().backward())
        with pytest.raises(CytoImageNetError, match="as if the disk were full"):
            save(tmp_path, progress(2), others)

    assert in_child(work).code == 0
    assert os.listdir(tmp_path) == ["step-00000001-epoch-0000"]
    assert restore(tmp_path, say_nothing).progress.step == 1


def test_weights_that_are_no_numbers_are_not_saved(tmp_path):
    """A checkpoint of NaN would be gone on from for ever."""
    save(tmp_path, progress(1), parts())
    broken = parts(float("nan"))
    with pytest.raises(CytoImageNetError, match="not finite after step 2"):
        save(tmp_path, progress(2), broken)
    assert restore(tmp_path, say_nothing).progress.step == 1


def test_other_settings_and_processes_are_refused(tmp_path):
    """What differs is named with both values."""
    save(tmp_path, progress(), parts())
    found = restore(tmp_path, say_nothing)
    check_same(found, SETTINGS, 1)
    with pytest.raises(CytoImageNetError, match="batch_size was 8 and is 16"):
        check_same(found, SETTINGS | {"batch_size": 16}, 1)
    with pytest.raises(CytoImageNetError, match="written by 1 processes and this run has 2"):
        check_same(found, SETTINGS, 2)
