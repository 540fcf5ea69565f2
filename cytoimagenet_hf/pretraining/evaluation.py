"""Scoring a split with the network as it stands; every row counts once over all processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import accelerate
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from cytoimagenet_hf import files
from cytoimagenet_hf.errors import CytoImageNetError
from cytoimagenet_hf.pretraining.data import MapBatches, Split, StreamBatches, make_loader
from cytoimagenet_hf.pretraining.inputs import Inputs
from cytoimagenet_hf.pretraining.log import left_out
from cytoimagenet_hf.pretraining.metrics import TOP, per_class
from cytoimagenet_hf.pretraining.sampling import EvalSampler


class Predictions(NamedTuple):
    """Of each row, gathered over processes."""

    ranked: npt.NDArray[np.int64]  # (n, k) class numbers, best first
    truth: npt.NDArray[np.int64]  # (n,)
    loss: float  # mean
    left_out: int = 0  # images that nobody could decode


def predict(
    network: torch.nn.Module,
    split: Split,
    inputs: Inputs,
    accelerator: Any,  # noqa: ANN401
) -> Predictions:
    """Rank the classes of each row of a split.

    Args:
        network: unwrapped, as processes have different numbers of batches.
        split: to score.
        inputs: of the network.
        accelerator: of the run.

    Raises:
        CytoImageNetError: no image can be decoded, or one when the policy is to stop.
    """
    network.eval()
    if accelerator.num_processes > 1:  # statistics of batch norm are those of the first process
        for buffer in network.buffers():
            accelerate.utils.broadcast(buffer)
    ranked: list[list[int]] = []
    truth: list[int] = []
    loss, lost = 0.0, 0
    for batch in _batches(split, accelerator):
        lost += left_out(batch, inputs.config)
        if len(batch.labels) == 0:
            continue
        with torch.inference_mode(), accelerator.autocast():
            logits = network(inputs.validation(batch)).float().cpu()
        loss += float(functional.cross_entropy(logits, batch.labels, reduction="sum"))
        ranked += logits.topk(min(max(TOP), inputs.classes)).indices.tolist()
        truth += batch.labels.tolist()
    everyone = accelerate.utils.gather_object([(ranked, truth, loss, lost)])
    rows = [row for part in everyone for row in part[0]]
    labels = [label for part in everyone for label in part[1]]
    if not labels:
        raise CytoImageNetError("Not one image of the validation split can be decoded.")
    total = sum(part[2] for part in everyone)
    unread = sum(part[3] for part in everyone)
    return Predictions(np.array(rows), np.array(labels), total / len(labels), unread)


def _batches(split: Split, accelerator: Any) -> Any:  # noqa: ANN401 - torch's DataLoader
    place = accelerator.process_index, accelerator.num_processes
    if split.config.streaming:
        return make_loader(StreamBatches(split, *place, train=False), None, split.config)
    sampler = EvalSampler(len(split), split.config, *place)
    return make_loader(MapBatches(split), sampler, split.config)


def write_classes(folder: Path, classes: Sequence[str], found: Predictions) -> None:
    """Write classes.json: of each class its images, how often it was predicted, and rightly so."""
    table = per_class(found.ranked[:, 0], found.truth, len(classes)).tolist()
    rows = [
        {"class": name, "images": images, "predicted": given, "right": right}
        for name, (images, given, right) in zip(classes, table, strict=True)
    ]
    files.write_json(folder / "classes.json", rows)
