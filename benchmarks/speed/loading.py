"""Loading batches, without a network: our loaders against torchvision's on the same crops."""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from _inputs import images
from _timing import Figure, Options, against, in_turns, run, shares
from _torch import WORKERS, two_cores
from PIL import Image, ImageFile
from torchvision import transforms
from torchvision.datasets import ImageFolder

from cytoimagenet_hf.curation import records, shards
from cytoimagenet_hf.curation.jobs import PlaneJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.pretraining import decoding
from cytoimagenet_hf.pretraining.config import TrainConfig
from cytoimagenet_hf.pretraining.data import MapBatches, StreamBatches, make_loader, open_split
from cytoimagenet_hf.pretraining.sampling import StepSampler
from cytoimagenet_hf.schema import features
from cytoimagenet_hf.simulation import simulate

CROPS, QUICK_CROPS = 2_000, 200
SIDE, SIZE, BATCH = 500, 224, 64  # pixels of a crop and of what a network sees; images
SHARDS = 4  # two for each worker
LABELS = [f"label {number}" for number in range(10)]
STAGES = {
    "decode": [(decoding, "_plain_png"), (ImageFile.ImageFile, "load")],
    "resize": [(Image.Image, "resize")],
}
Crop = tuple[bytes, bytes]  # PNG of 500 x 500 pixels and of its version in config `small`
Pairs = Iterable[tuple[torch.Tensor, torch.Tensor]]  # images and labels of each batch
Loader = Callable[[], Pairs]  # starts an epoch


def crops(folder: Path, count: int) -> tuple[list[Crop], str]:
    """Render windows of fields of 520 x 696 pixels, shifted so that no two files are equal."""
    root, kind = images(), "real"
    if root is None:
        root, kind = folder, "simulated"
        simulate("bbbc022", folder, fields=8)
    paths = sorted(path for one in ("bbbc022", "bbbc006") for path in root.glob(f"{one}/*/*.tif"))
    reader, parameters = records.RawReader(root, Parameters()), Parameters()
    found = []
    for number in range(count):
        at, place = divmod(number, -(-count // len(paths)))
        x, y = 11 * place % 197, place % 21
        box = (x, y, x + SIDE, y + SIDE)
        job = PlaneJob(str(paths[at].relative_to(root)), "nucleus", 0, 0, box)
        row = records.render_record(
            RecordJob(f"speed/{number}", (job,), 1), reader.plane, reader.sha256, parameters
        )[0]
        assert not row["reason"], f"{paths[at].name} is refused: {row['reason']}"
        found.append((row["png"], row["small_png"]))
    assert len(set(found)) == count, "two crops are equal"
    return found, f"{count} crops of {len(paths)} {kind} fields of bbbc006 and bbbc022"


def label_of(number: int) -> int:
    """Give the class of a crop, in the order of its number."""
    return number % len(LABELS)


def write_folder(pngs: Sequence[bytes], to: Path) -> None:
    """Write a folder of classes."""
    for number, png in enumerate(pngs):
        path = to / LABELS[label_of(number)] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)


def write_shards(pngs: Sequence[bytes], to: Path) -> None:
    """Write Parquet as a build does: its columns, options and row groups."""
    schema, rows = features(LABELS).arrow_schema, Parameters().group_rows
    for shard in range(SHARDS):
        numbers = range(len(pngs))[shard * len(pngs) // SHARDS : (shard + 1) * len(pngs) // SHARDS]
        with shards.open_writer(to / "data" / f"train-{shard:05d}.parquet", schema) as writer:
            for start in range(0, len(numbers), rows):
                own = numbers[start : start + rows]
                known = {
                    "image": [{"bytes": pngs[at], "path": f"{at:05d}.png"} for at in own],
                    "label": [label_of(at) for at in own],
                }
                columns = {one.name: pa.nulls(len(own), one.type) for one in schema}
                columns |= {
                    name: pa.array(some, schema.field(name).type) for name, some in known.items()
                }
                table = pa.table(columns, schema=schema).combine_chunks()
                writer.write_table(table, row_group_size=len(own))


def torchvision_loader(folder: Path) -> Loader:
    """Load as everybody does; images stay uint8, which spares the baseline the way to floats."""
    shape = transforms.Compose([transforms.Resize((SIZE, SIZE)), transforms.PILToTensor()])
    loader = torch.utils.data.DataLoader(
        ImageFolder(folder, shape),
        batch_size=BATCH,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=True,
    )
    return lambda: loader


def our_loader(folder: Path, *, streaming: bool) -> Loader:
    """Load as a run does; streaming starts its workers again each epoch."""
    config = TrainConfig(
        dataset=str(folder), validation_split="", streaming=streaming, image_size=SIZE,
        batch_size=BATCH, workers=WORKERS, cpu=True,
    )  # fmt: skip
    split = open_split(config, "train")
    if streaming:
        source = StreamBatches(split, 0, 1, train=True)

        def stream() -> Pairs:
            source.epoch += 1
            return ((batch.images, batch.labels) for batch in make_loader(source, None, config))

        return stream
    sampler = StepSampler(split.labels, config)
    loader = make_loader(MapBatches(split), sampler, config)

    def mapped() -> Pairs:
        sampler.epoch += 1
        return ((batch.images, batch.labels) for batch in loader)

    return mapped


def seen(epoch: Pairs) -> list[tuple[int, str]]:
    """Give label and hash of the gray pixels of every image of an epoch, sorted."""
    return sorted(
        (int(label), hashlib.sha256(image[0].numpy().tobytes()).hexdigest())
        for batch, labels in epoch
        for image, label in zip(batch, labels, strict=True)
    )


def expected(pngs: Sequence[bytes]) -> list[tuple[int, str]]:
    """Give the same by Pillow alone: decode, antialiased bilinear resizing."""
    found = []
    for number, png in enumerate(pngs):
        image = Image.open(io.BytesIO(png)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        found.append((label_of(number), hashlib.sha256(np.asarray(image)).hexdigest()))
    return sorted(found)


def where(pngs: Sequence[bytes]) -> dict[str, float]:
    """Tell what share of the work of one worker goes where, reading rows left out."""
    config = TrainConfig(image_size=SIZE)
    rows = [{"bytes": png, "path": None} for png in pngs[:BATCH]]
    labels = [0] * len(rows)
    return shares(lambda: decoding.decode_batch(rows, labels, labels, config), STAGES)


def measure(options: Options) -> Iterator[Figure]:
    """Time an epoch of each loader in turns."""
    with tempfile.TemporaryDirectory() as temporary, two_cores(Path(temporary)):
        figures = _measure(Path(temporary), options)
    yield from figures


def _measure(folder: Path, options: Options) -> list[Figure]:
    found, note = crops(folder, QUICK_CROPS if options.quick else CROPS)
    large, small = zip(*found, strict=True)
    write_folder(large, folder / "tree")
    write_shards(large, folder / "large")
    write_shards(small, folder / "small")
    loaders = {
        "ImageFolder": torchvision_loader(folder / "tree"),
        "mapped": our_loader(folder / "large", streaming=False),
        "small": our_loader(folder / "small", streaming=False),
        "streamed": our_loader(folder / "large", streaming=True),
    }
    for name, start in loaders.items():  # the first epoch starts workers
        own = small if name == "small" else large
        assert seen(start()) == expected(own), f"{name} gives other pixels than Pillow"
    actions = {
        name: lambda start=start: sum(len(labels) for _, labels in start())
        for name, start in loaders.items()
    }
    spent = in_turns(actions, options.rounds)
    sizes = " and ".join(f"{sum(map(len, one)) / len(one) / 1e3:.0f} KB" for one in (large, small))
    note += f", {sizes} on average, in the page cache; to {SIZE} px, batch {BATCH}, two workers"
    figures = (
        ("500 px crops", "mapped", 1.0, 1.25, {"where": where(large), "note": note}),
        ("config small, against 500 px", "small", 1.9, 2.6, {"where": where(small)}),
        ("500 px crops, streaming", "streamed", 0.95, 1.15, {}),
    )
    return [
        against(
            f"loading: {name}", spent["ImageFolder"], spent[own],
            must=must, aim=aim, images=len(found), **about,
        )
        for name, own, must, aim, about in figures
    ]  # fmt: skip


if __name__ == "__main__":
    run(measure, __doc__)
