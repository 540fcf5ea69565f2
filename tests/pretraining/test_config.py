"""Settings: presets to the last number, flags, and values that no run can be made with."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from cytoimagenet_hf.pretraining.config import (
    _OF_EXAMPLES,
    PRESETS,
    TrainConfig,
    load_config,
    parse_config,
)

# Written down from the paper's section 2.3 and its training code, not from PRESETS.
PAPER = {
    "model": "tf_efficientnet_b0", "pretrained": False, "image_size": 224,
    "drop": 0.2, "drop_path": 0.2, "bn_momentum": 0.01, "normalization": "none",
    "initialization": "keras", "batch_size": 64, "gradient_accumulation": 1, "drop_last": True,
    "seed": 728565, "epochs": 24, "max_steps": 0, "class_balanced": False,
    "optimizer": "adam", "learning_rate": 0.001, "epsilon": 1e-7, "weight_decay": 0.0,
    "schedule": "constant", "warmup": 0.0, "clip_grad": 0.0, "label_smoothing": 0.0, "ema": 0.0,
    "mixed_precision": "no", "rotate": 360.0, "flip": False, "zoom": 1.0, "brightness": 0.0,
    "contrast": 0.0, "gamma": 0.0, "blur": 0.0, "noise": 0.0, "mixup": 0.0, "cutmix": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_paper_preset(name):
    """Each number of the paper is in its preset, written out and not left to a default."""
    assert PRESETS["paper"][name] == PAPER[name]
    assert getattr(parse_config(["--preset", "paper"]), name) == PAPER[name]


def test_paper_preset_leaves_out_only_what_moves_no_weight():
    """A setting that changes the outcome and isn't in the preset would follow the defaults."""
    rest = {one.name for one in dataclasses.fields(TrainConfig)} - set(PRESETS["paper"])
    assert rest == {
        "dataset", "name", "revision", "train_split", "validation_split", "image_column",
        "label_column", "streaming", "shuffle_buffer", "bad_rows", "workers", "channels_last",
        "compile", "grad_checkpointing", "output_dir", "resume", "checkpoint_steps",
        "keep_checkpoints", "log_steps", "tracker", "cpu", "push_to_hub", "hub_model_id",
        "hub_private",
    }  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    """Every preset makes a record."""
    assert parse_config(["--preset", name]).as_dict().items() >= dict(PRESETS[name]).items()


def test_no_flags_fine_tune_imagenet_weights():
    """Without flags a run starts from the plain ImageNet-1k weights on cytoimagenet."""
    config = parse_config([])
    assert (config.model, config.pretrained) == ("tf_efficientnet_b0.in1k", True)
    assert config.dataset == "cytoimagenet"


def test_flags_win_over_file_over_preset(tmp_path):
    """Single flags are the last word, then a file, then a preset."""
    path = tmp_path / "train_config.json"
    TrainConfig(batch_size=5, epochs=7).save(tmp_path)
    config = parse_config(["--preset", "paper", "--config", str(path), "--epochs", "3"])
    assert (config.batch_size, config.epochs, config.drop) == (5, 3, 0.0)


def test_underscores_and_no_flags():
    """Flags may have underscores, and switches are turned off by --no-."""
    config = parse_config(["--batch_size=8", "--no_pretrained", "--no-flip"])
    assert (config.batch_size, config.pretrained, config.flip) == (8, False, False)


def test_saved_settings_come_back(tmp_path):
    """train_config.json holds all settings."""
    config = TrainConfig(mixup=0.3, name="small")
    config.save(tmp_path)
    assert load_config(tmp_path / "train_config.json") == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch_size": 0}, "batch_size must be 1"),
        ({"checkpoint_steps": 0}, "checkpoint_steps"),
        ({"keep_checkpoints": 0}, "keep_checkpoints"),
        ({"workers": -1}, "workers"),
        ({"image_size": 4}, "image_size"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"zoom": 0.5}, "zoom"),
        ({"epochs": 0}, "epochs or max_steps"),
        ({"batch_size": "64"}, "batch_size must be int, got '64'"),
        ({"pretrained": 1}, "pretrained must be bool"),
        ({"optimizer": "lion"}, "optimizer must be one of adam, adamw, sgd, got 'lion'"),
        ({"streaming": True, "class_balanced": True}, "leave streaming away"),
        ({"initialization": "keras"}, "--no-pretrained"),
        ({"push_to_hub": True}, "--hub-model-id"),
    ],
)
def test_refused(values, words):
    """A value that no run can be made with is refused and named."""
    with pytest.raises(ValueError, match=words):
        TrainConfig(**values)


def test_unknown_settings_of_a_file_are_named(tmp_path):
    """A file of another program, or with a slip, isn't half read."""
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"batchsize": 3}))
    with pytest.raises(ValueError, match="batchsize"):
        load_config(path)
    path.write_text("[1")
    with pytest.raises(ValueError, match="no train_config"):
        load_config(path)


# -- the guide -----------------------------------------------------------------------------------

GUIDE = (Path(__file__).parents[2] / "docs" / "pretraining.md").read_text(encoding="utf-8")
OF_LAUNCHERS = {
    "multi_gpu", "num_processes", "num_machines", "mixed_precision", "dynamo_backend", "cpu",
    "standalone", "nproc_per_node",
}  # fmt: skip


def test_guide_names_flags_that_there_are():
    """Every flag in docs/pretraining.md is a field, or one of accelerate and torchrun."""
    named = {one.replace("-", "_") for one in re.findall(r"--([a-z][\w-]*)", GUIDE)}
    fields = {one.name for one in dataclasses.fields(TrainConfig)}
    known = fields | {f"no_{name}" for name in fields} | {"help", "preset", "config"}
    assert named - OF_LAUNCHERS <= known
    assert len(named & fields) > 40


def test_guide_shows_the_numbers_of_the_presets():
    """Its table has each setting that a preset changes, and nothing else."""
    default = TrainConfig().as_dict()
    made = {name: TrainConfig(**PRESETS[name]).as_dict() for name in ("paper", "modern", "demo")}
    expected = {}
    for name, value in default.items():
        cells = ["" if one[name] == value else str(one[name]) for one in made.values()]
        if any(cells):
            expected[f"`--{name.replace('_', '-')}`"] = [str(value), *cells]
    table = GUIDE.partition("|---|---|---|---|---|\n")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert {row[0]: row[1:] for row in rows} == expected


def test_flags_of_the_hugging_face_examples_work():
    """Who comes from run_image_classification.py needs no other names."""
    config = parse_config(
        ["--dataset_name", "cells", "--model_name_or_path", "resnet18",
         "--per_device_train_batch_size=8", "--num-train-epochs", "3"]
    )  # fmt: skip
    assert (config.dataset, config.model, config.batch_size, config.epochs) == (
        "cells", "resnet18", 8, 3,
    )  # fmt: skip
    names = {one.name.replace("_", "-") for one in dataclasses.fields(TrainConfig)}
    assert set(_OF_EXAMPLES.values()) <= names
    assert not names & set(_OF_EXAMPLES)
