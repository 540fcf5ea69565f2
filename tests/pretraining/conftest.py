"""Small labelled image data sets, and runs that leave nothing behind in the process."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("torch") is None:  # the core alone: nothing here can run
    collect_ignore_glob = ["test_*.py"]
else:
    import torch

    torch.set_num_threads(1)

CLASSES = ("dark", "light", "striped")


def picture(label: int, number: int, size: int = 40) -> np.ndarray:
    """Draw a noisy picture of a class; no two are equal."""
    noise = np.random.default_rng([label, number]).normal(0, 20, (size, size))
    stripes = 80 * (np.arange(size) // 4 % 2) if label == 2 else 0
    return (noise + stripes + (60, 170, 80)[label]).clip(0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Encode with Pillow, which knows nothing of our own writer."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_dataset(folder: Path, splits, *, shards: int = 1, classes=CLASSES) -> Path:
    """Write splits of (encoded image, label) rows as the Parquet files of a data set."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features, Image

    schema = Features({"image": Image(), "label": ClassLabel(names=list(classes))}).arrow_schema
    for split, rows in splits.items():
        for shard in range(shards):
            own = rows[shard::shards]
            table = pa.table(
                {
                    "image": [{"bytes": data, "path": None} for data, _ in own],
                    "label": [label for _, label in own],
                },
                schema=schema,
            )
            path = folder / "data" / f"{split}-{shard:05d}-of-{shards:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, row_group_size=8)
    return folder


def rows(count: int, first: int = 0):
    """Make rows, classes in turn."""
    return [(png(picture(at % 3, at)), at % 3) for at in range(first, first + count)]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep the copies that `datasets` makes out of the user's cache."""
    import datasets

    datasets.disable_progress_bars()
    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    yield
    patch.undo()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, own_cache) -> Path:
    """46 training and 13 validation images of three classes, in 4 shards."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    return write_dataset(folder, {"train": rows(46), "validation": rows(13, 1000)}, shards=4)


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Accelerate keeps device and precision for the life of a process: forget them."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.fixture
def settings(dataset, tmp_path):
    """Settings of a run of seconds; keywords override them."""
    from cytoimagenet_hf.pretraining.config import TrainConfig

    def make(**values):
        given = {
            "dataset": str(dataset), "model": "test_efficientnet", "pretrained": False,
            "image_size": 32, "batch_size": 8, "epochs": 2, "workers": 0, "cpu": True,
            "log_steps": 1, "checkpoint_steps": 100, "output_dir": str(tmp_path / "run"),
        }  # fmt: skip
        return TrainConfig(**given | values)

    return make
