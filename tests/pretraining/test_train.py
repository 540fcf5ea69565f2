"""The loop: it learns, adds gradients up rightly, and answers bad input with a clear message."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining import checkpoints, inputs, launch, log, train
from tests.pretraining.conftest import CLASSES, rows, write_dataset
from tests.pretraining.test_restart import largest_difference


def weights(config):
    return safetensors.torch.load_file(Path(config.output_dir) / "model" / "model.safetensors")


def lines(config, kind="train"):
    return [one for one in log.read_lines(Path(config.output_dir)) if one["kind"] == kind]


def test_it_learns_and_leaves_its_files(settings):
    """Three plain classes are told apart after some epochs; all files are there."""
    config = settings(epochs=12, learning_rate=1e-2, batch_size=16, log_steps=2)
    scores = train.train(config)
    assert scores["accuracy"] > 0.6
    assert lines(config)[-1]["loss"] < lines(config)[0]["loss"]
    assert scores["images_seen"] == 12 * 46
    folder = Path(config.output_dir)
    assert {path.name for path in folder.iterdir()} >= {
        "model", "checkpoints", "metrics.jsonl", "final.json", "classes.json",
        "train_config.json",
    }  # fmt: skip
    assert len(list((folder / "checkpoints").iterdir())) == config.keep_checkpoints
    table = json.loads((folder / "classes.json").read_text())
    assert [one["class"] for one in table] == list(CLASSES)
    assert sum(one["right"] for one in table) / 13 == scores["accuracy"]


def test_finished_run_is_only_exported_again(settings):
    """The same command after the end trains no step more and gives the same model."""
    config = settings(epochs=1)
    first, before = train.train(config), weights(settings(epochs=1))
    assert train.train(config) == first
    assert largest_difference(weights(config), before) == 0.0


@pytest.mark.parametrize("model", ["test_vit", "test_efficientnet_ln"])
def test_accumulation_equals_a_larger_batch(settings, tmp_path, model):
    """Without batch norm three batches of 4 give the weights of one of 12, to 1e-5."""
    values = {"model": model, "epochs": 1, "optimizer": "sgd", "learning_rate": 1e-2}
    whole = settings(output_dir=str(tmp_path / "a"), batch_size=12, **values)
    parts = settings(
        output_dir=str(tmp_path / "b"), batch_size=4, gradient_accumulation=3, **values
    )
    train.train(whole)
    train.train(parts)
    assert largest_difference(weights(whole), weights(parts)) <= 1e-5


def test_workers_do_not_matter(settings, tmp_path):
    """Decoding in other processes changes no weight."""
    made = [settings(output_dir=str(tmp_path / str(n)), workers=n, epochs=1) for n in (0, 2)]
    for config in made:
        train.train(config)
    assert largest_difference(*map(weights, made)) == 0.0


def test_max_steps_is_the_last_word(settings):
    """max_steps ends a run amid an epoch, or goes on over more epochs than asked for."""
    assert train.train(settings(max_steps=4, epochs=1))["steps"] == 4


def test_max_steps_over_epochs(settings):
    """Eleven steps of six an epoch are two epochs."""
    assert train.train(settings(max_steps=11, epochs=1))["epochs"] == 2


@pytest.mark.parametrize("streaming", [False, True])
def test_each_image_once_an_epoch(settings, streaming):
    """An epoch sees the 46 training images; steps are counted over the epochs."""
    scores = train.train(settings(streaming=streaming, shuffle_buffer=16, batch_size=8))
    assert (scores["images_seen"], scores["steps"]) == (92, 12)


def test_lines_are_written_at_the_end_of_an_epoch_too(settings):
    """Six steps with a line each four: a line at 4 and one of the last two, which means them."""
    config = settings(epochs=1, log_steps=4)
    train.train(config)
    assert [one["step"] for one in lines(config)] == [4, 6]


def test_no_validation_split(settings):
    """A run without validation has no scores, and its model all the same."""
    scores = train.train(settings(epochs=1, validation_split=""))
    assert "accuracy" not in scores
    assert weights(settings())


# -- bad input ---------------------------------------------------------------------------------


def test_nan_loss_stops_before_the_weights(settings, monkeypatch):
    """A loss that is no number ends the run with the checkpoint before it whole."""
    config = settings(checkpoint_steps=1)
    real = inputs.Inputs.training

    def poisoned(self, batch, *, step, part, place):
        pixels, targets, weight = real(self, batch, step=step, part=part, place=place)
        return pixels * (np.nan if step == 3 else 1.0), targets, weight

    monkeypatch.setattr(inputs.Inputs, "training", poisoned)
    with pytest.raises(CytoImageNetError, match=r"loss became nan at step 3.*--learning-rate"):
        train.train(config)
    found = checkpoints.restore(Path(config.output_dir) / "checkpoints", pytest.fail)
    assert found.progress.step == 3
    assert all(one.isfinite().all() for one in found.model.values())


def test_weights_that_run_away_are_not_saved(settings):
    """A step that breaks the weights is found at the next checkpoint, if no loss told it."""
    config = settings(learning_rate=1e3, optimizer="sgd", clip_grad=0.0, checkpoint_steps=1)
    with pytest.raises(CytoImageNetError, match=r"whole; lower --learning-rate"):
        train.train(settings(**{**config.as_dict(), "epochs": 200, "weight_decay": 900.0}))


@pytest.mark.parametrize("streaming", [False, True])
def test_corrupt_rows_are_counted_and_the_loop_lives(settings, tmp_path, capsys, streaming):
    """Two damaged training rows and one for validation cost themselves only, in each epoch."""
    bad = rows(12)
    bad[3] = (bad[3][0][:60], 0)
    bad[7] = (b"", 1)
    folder = write_dataset(
        tmp_path / "bad", {"train": bad, "validation": [*rows(3, 50), (b"x", 2)]}
    )
    config = settings(dataset=str(folder), batch_size=4, streaming=streaming)
    scores = train.train(config)
    assert (scores["bad_rows"], scores["images_seen"]) == (4, 20)
    assert capsys.readouterr().err.count("left out: row") == 6
    stop = settings(dataset=str(folder), bad_rows="stop", output_dir=str(tmp_path / "stop"))
    with pytest.raises(CytoImageNetError, match=r"row .*--bad-rows skip"):
        train.train(stop)


def test_only_corrupt_rows(settings, tmp_path):
    """A data set of nothing that can be decoded is no success."""
    folder = write_dataset(tmp_path / "x", {"train": [(b"x", 0)] * 4, "validation": rows(3)})
    with pytest.raises(CytoImageNetError, match=r"Not one image.*4 can't be decoded"):
        train.train(settings(dataset=str(folder)))


@pytest.mark.parametrize("streaming", [False, True])
def test_one_image_for_the_last_batch(settings, tmp_path, streaming):
    """Nine images in batches of 8 train a network whose batch norm can't take a lone one."""
    folder = write_dataset(tmp_path / "nine", {"train": rows(9), "validation": rows(3)})
    config = settings(dataset=str(folder), streaming=streaming, shuffle_buffer=4)
    assert train.train(config)["images_seen"] == 18


def test_batches_of_one(settings, tmp_path):
    """Even batches of one image train."""
    folder = write_dataset(tmp_path / "three", {"train": rows(3), "validation": rows(3)})
    assert train.train(settings(dataset=str(folder), batch_size=1, epochs=1))["steps"] == 3


def test_empty_class_is_told(settings, tmp_path, capsys):
    """A class without an image is told, and the network has an output for it all the same."""
    two = {name: [one for one in rows(9) if one[1] != 1] for name in ("train", "validation")}
    config = settings(dataset=str(write_dataset(tmp_path / "two", two)), epochs=1)
    train.train(config)
    assert "classes without a training image: 1 (light)" in capsys.readouterr().out
    assert weights(config)["classifier.weight"].shape[0] == 3


def test_changed_settings_are_refused_and_lose_nothing(settings):
    """Another batch size is refused with both values; the saved settings stay the old ones."""
    config = settings(epochs=1)
    train.train(config)
    with pytest.raises(CytoImageNetError, match="batch_size was 8 and is 4"):
        train.train(settings(epochs=1, batch_size=4))
    saved = json.loads((Path(config.output_dir) / "train_config.json").read_text())
    assert saved["batch_size"] == 8
    with pytest.raises(CytoImageNetError, match="--no-resume away"):
        train.train(settings(epochs=1, resume=False))


def test_other_data_under_the_same_name_are_refused(settings, tmp_path):
    """A data set that was built anew in the same folder has other rows."""
    write_dataset(tmp_path / "d", {"train": rows(12), "validation": rows(3)})
    config = settings(dataset=str(tmp_path / "d"), epochs=1)
    train.train(config)
    write_dataset(tmp_path / "d", {"train": rows(13), "validation": rows(3)})
    with pytest.raises(CytoImageNetError, match="labels of the training split"):
        train.train(config)


def test_full_disk_at_a_checkpoint(settings, monkeypatch):
    """When a checkpoint can't be written the run ends, and goes on later where it was."""
    config = settings(checkpoint_steps=2)
    real, calls = torch.save, [0]

    def full(*args, **kwargs):
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(28, "No space left on device")
        real(*args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CytoImageNetError, match=r"No space left.*run the same command again"):
        train.train(config)
    assert train.train(config)["steps"] == 12


def test_weights_state_the_license_of_their_images(settings, tmp_path):
    """The license that the data set's card names stands in the model's own settings."""
    folder = write_dataset(tmp_path / "d", {"train": rows(12), "validation": rows(3)})
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n")
    train.train(settings(dataset=str(folder), epochs=1))
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["pretrained_cfg"]["license"] == "cc-by-4.0"


def test_public_push_of_unknown_terms_is_refused_before_a_step(settings, tmp_path):
    """Weights whose images nobody may pass on: said at the start, and nothing is written."""
    config = settings(push_to_hub=True, hub_model_id="lab/net")
    with pytest.raises(ValueError, match=r"pictures.*Add --hub-private"):
        train.train(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--batch-size", "0"], 2, "batch_size must be"),
        (["--model", "test_efficientnett", "--no-pretrained"], 2, "Did you mean test_efficientnet"),
        (["--tracker", "paper"], 2, "Unknown tracker"),
        (["--mixed-precision", "bf16", "--cpu"], 2, "leave --mixed-precision at auto"),
        (["--dataset", "./nowhere", "--model", "test_vit", "--no-pretrained"], 1, "no folder"),
        (["--config", "nowhere.json"], 2, "nowhere.json is absent"),
        ([], 1, "--model local-dir:FOLDER"),
    ],
)
def test_errors_are_one_line_with_a_status(capsys, tmp_path, monkeypatch, flags, status, words):
    """From the command each mistake is a message without a traceback: 2 bad input, 1 failure."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        launch.main(flags)
    assert ended.value.code == status
    told = capsys.readouterr().err
    assert told.startswith("train: ")
    assert words in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("raised", "status", "words"),
    [(KeyboardInterrupt(), 130, "goes on from the last"), (OSError(28, "No space"), 1, "No space")],
)
def test_stops_from_outside_are_one_line_too(capsys, monkeypatch, raised, status, words):
    """Ctrl-C and an error of the system are no traceback either."""

    def stop(config):
        raise raised

    monkeypatch.setattr(train, "train", stop)
    with pytest.raises(SystemExit) as ended:
        launch.main([])
    assert ended.value.code == status
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_compiled(settings, tmp_path):
    """torch.compile gives about the numbers of plain steps."""
    values = {"max_steps": 2, "model": "test_efficientnet", "drop_path": 0.0}
    plain = settings(output_dir=str(tmp_path / "plain"), **values)
    compiled = settings(output_dir=str(tmp_path / "compiled"), compile=True, **values)
    for config in (plain, compiled):
        train.train(config)
    one, other = ([line["loss"] for line in lines(config)] for config in (plain, compiled))
    assert one == pytest.approx(other, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "values", [{"grad_checkpointing": True}, {"channels_last": False}, {"class_balanced": True}]
)
def test_switches(settings, tmp_path, values):
    """Memory layouts and checkpointing change no loss beyond rounding; balancing runs."""
    plain = settings(output_dir=str(tmp_path / "plain"), epochs=1)
    other = settings(output_dir=str(tmp_path / "other"), epochs=1, **values)
    for config in (plain, other):
        train.train(config)
    if "class_balanced" not in values:
        one, two = ([line["loss"] for line in lines(config)] for config in (plain, other))
        assert one == pytest.approx(two, rel=1e-3)


def test_tracker_gets_every_number_of_the_lines(settings):
    """What TensorBoard's own reader finds is what stands in metrics.jsonl."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = settings(tracker="tensorboard")
    train.train(config)
    found = events.EventAccumulator(str(Path(config.output_dir) / "cytoimagenet")).Reload()
    told = {
        (tag, one.step): one.value for tag in found.Tags()["scalars"] for one in found.Scalars(tag)
    }
    written = log.read_lines(Path(config.output_dir))
    assert {line["kind"] for line in written} == {"train", "validation"}
    assert told == pytest.approx({
        (f"{line['kind']}/{key}", line["step"]): value
        for line in written
        for key, value in line.items()
        if key not in ("kind", "step", "epoch")
    })  # fmt: skip
