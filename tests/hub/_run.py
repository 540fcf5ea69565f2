"""What a finished training run leaves, made by hand: no torch, weights of zeros."""

import json
import struct
from pathlib import Path

CLASSES = ("nucleus", "a|b", "<b>bold</b>")
SETTINGS = {
    "dataset": "cytoimagenet",
    "name": "",
    "revision": "",
    "train_split": "train",
    "validation_split": "validation",
    "model": "tf_efficientnet_b0.in1k",
    "pretrained": True,
    "learning_rate": 0.0003,
    "output_dir": "/home/ada/runs/one",
    "push_to_hub": False,
    "hub_model_id": "",
    "hub_private": False,
}
PRETRAINED_CFG = {
    "tag": "cytoimagenet",
    "input_size": [3, 64, 64],
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}
FINAL = {
    "accuracy": 0.75,
    "balanced_accuracy": 0.5,
    "macro_f1": 0.625,
    "classes_never_hit": 1.0,
    "loss": 0.8,
    "steps": 20,
    "epochs": 2,
    "images_seen": 1280,
    "bad_rows": 0,
}
HISTORY = (
    {"kind": "train", "epoch": 0, "step": 5, "loss": 2.0},
    {"kind": "train", "epoch": 0, "step": 10, "loss": 1.0},
    {"kind": "validation", "epoch": 1, "step": 10, "loss": 1.5, "accuracy": 0.25},
    {"kind": "train", "epoch": 1, "step": 20, "loss": 0.5},
    {"kind": "validation", "epoch": 2, "step": 20, "loss": 0.8, "accuracy": 0.75},
)


def safetensors(tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A file of float32 zeros, written by the format's own description."""
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def make_run(output: Path, **settings) -> Path:
    """Write the files of a run; `settings` change train_config.json."""
    model = output / "model"
    model.mkdir(parents=True, exist_ok=True)
    tensors = {"conv.weight": (4, 3, 3, 3), "bn.running_mean": (4,), "head.bias": (3,)}
    (model / "model.safetensors").write_bytes(safetensors(tensors))
    config = {
        "architecture": "tf_efficientnet_b0",
        "label_names": list(CLASSES),
        "num_classes": len(CLASSES),
        "pretrained_cfg": PRETRAINED_CFG,
    }
    scores = [
        {"class": name, "images": n, "predicted": p, "right": r}
        for name, (n, p, r) in zip(CLASSES, ((4, 5, 4), (2, 3, 2), (2, 0, 0)), strict=True)
    ]
    for name, value in (
        ("model/config.json", config),
        ("train_config.json", SETTINGS | settings),
        ("final.json", FINAL),
        ("classes.json", scores),
    ):
        (output / name).write_text(json.dumps(value), encoding="utf-8")
    lines = "".join(json.dumps(line) + "\n" for line in HISTORY)
    (output / "metrics.jsonl").write_text(lines, encoding="utf-8")
    return output
