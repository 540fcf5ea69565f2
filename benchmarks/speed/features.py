"""Time features against the bare forward pass of their network, and against one image at a time.

Everything counts on our side: reading files, hashing pixels, stretching, batching and keying by id.
The bare pass gets ready batches in the same memory layout. EfficientNet-B0 with random weights, as
they take the same time as trained ones. The network has one thread, and reading runs beside it on a
second core.
"""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import _inputs
import numpy as np
import timm
import torch
from _timing import Figure, Options, compare, cores, run

from cytoimagenet_hf.evaluation.features import BATCH, compute, parse_mode
from cytoimagenet_hf.evaluation.modes import prepare
from cytoimagenet_hf.evaluation.records import Images
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.imaging.intensity import percentiles
from cytoimagenet_hf.imaging.readers import read_plane
from cytoimagenet_hf.models._network import NetworkEncoder
from cytoimagenet_hf.models._timm import seeded
from cytoimagenet_hf.models.encoders import RANDOM, load_encoder

MODE = parse_mode("concat-norm")
Pixels = np.ndarray


def crops(folder: Path, side: int, count: int) -> tuple[list[Path], str]:
    """Cut squares that show something out of fields, evenly, and write them as PNG files."""
    fields = _inputs.gray_pngs(folder, 4)
    planes = [read_plane(field.files[0]) for field in fields]
    paths: list[Path] = []
    positions = itertools.count()
    while len(paths) < count:
        at = next(positions)
        plane = planes[at % len(planes)]
        top = at * 37 % (plane.shape[0] - side + 1)
        left = at * 53 % (plane.shape[1] - side + 1)
        square = np.ascontiguousarray(plane[top : top + side, left : left + side])
        low, high = percentiles(square)
        if high > low:
            paths.append(folder / f"{side}-{len(paths):04d}.png")
            paths[-1].write_bytes(png.encode(square))
    return paths, fields[0].origin


def images_of(paths: Sequence[Path]) -> Images:
    """A task of one channel, read from files."""
    blank = ("",) * len(paths)
    ids = tuple(path.stem for path in paths)
    return Images(ids, blank, blank, {}, lambda row: read_plane(paths[row])[None])


def bare(encoder: NetworkEncoder, pixels: Pixels) -> list[torch.Tensor]:
    """Prepare batches for the network alone."""
    ready = torch.from_numpy(pixels).expand(-1, encoder.channels, -1, -1) / 255
    layout = torch.channels_last
    return [part.contiguous(memory_format=layout) for part in ready.split(BATCH)]


def one_by_one(network: torch.nn.Module, images: Images) -> Pixels:
    """Read, stretch and embed image after image, as a loop over a timm model does."""
    rows = []
    with torch.inference_mode():
        for row in range(len(images)):
            pixels = torch.from_numpy(prepare(images.read(row), MODE)[None])
            rows.append(network(pixels.expand(-1, 3, -1, -1) / 255).numpy()[0])
    return np.stack(rows)


def measure(options: Options) -> Iterator[Figure]:
    """Embed squares of the sizes of cells and of training crops."""
    torch.set_num_threads(1)
    name = "test_efficientnet" if options.quick else RANDOM
    encoder = load_encoder(f"random:{name}")
    assert isinstance(encoder, NetworkEncoder)
    sizes = ((64, 8), (224, 2)) if options.quick else ((64, 512), (224, 64))
    with tempfile.TemporaryDirectory() as temporary:
        for side, count in sizes:
            paths, origin = crops(Path(temporary), side, count)
            images = images_of(paths)
            with cores(2):
                yield _against_forward(encoder, images, side, origin, options)
                if side == sizes[0][0]:
                    some = images_of(paths[: count // 4])
                    yield _against_one_by_one(name, encoder, some, origin, options)


def _against_forward(
    encoder: NetworkEncoder, images: Images, side: int, origin: str, options: Options
) -> Figure:
    pixels = np.stack([prepare(images.read(row), MODE) for row in range(len(images))])
    ready = bare(encoder, pixels)

    def forward() -> Pixels:
        with torch.inference_mode():
            return torch.cat([encoder.forward(part) for part in ready]).numpy()

    def ours() -> Pixels:
        return compute(images, encoder, MODE, task="speed", cache=None).values

    scale = np.abs(forward()).max()
    assert np.abs(forward() - ours()).max() < 1e-4 * scale, "other features than the bare pass"
    assert ours().tobytes() == ours().tobytes(), "a run repeated gives other bytes"
    return compare(
        f"{side} x {side}: forward pass alone",
        forward,
        ours,
        options,
        must=0.92,
        aim=0.96,
        images=len(images),
        note=f"{origin}, PNG files; against ready batches in the same layout",
    )


def _against_one_by_one(
    name: str, encoder: NetworkEncoder, images: Images, origin: str, options: Options
) -> Figure:
    with seeded(0):
        network = timm.create_model(name, num_classes=0).eval()

    def ours() -> Pixels:
        return compute(images, encoder, MODE, task="speed", cache=None).values

    expected = one_by_one(network, images)
    scale = np.abs(expected).max()
    assert np.abs(expected - ours()).max() < 1e-4 * scale, "other features than one by one"
    return compare(
        "64 x 64: one by one",
        lambda: one_by_one(network, images),
        ours,
        options,
        must=4,
        aim=4.5,
        images=len(images),
        note=f"{origin}, PNG files; against a loop in timm's default layout",
    )


if __name__ == "__main__":
    run(measure, __doc__)
