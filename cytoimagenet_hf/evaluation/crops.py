"""Features of the crops of a data set: computed a batch at a time, or taken from a file by id."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import FeaturesError
from cytoimagenet_hf.evaluation._batches import planes_sha256
from cytoimagenet_hf.evaluation.features import BATCH, compute
from cytoimagenet_hf.evaluation.modes import Mode
from cytoimagenet_hf.evaluation.records import Features, Images
from cytoimagenet_hf.hashing import pixel_sha256
from cytoimagenet_hf.models.encoders import Encoder

Pixels = npt.NDArray[np.uint8]  # (height, width)


def embed_crops(
    ids: Sequence[str],
    pixels: Sequence[Pixels],
    encoder: Encoder,
    mode: Mode,
    *,
    cache: Path | None = None,
    batch: int = BATCH,
) -> npt.NDArray[np.float32]:
    """Embed gray crops as `compute` embeds the images of a task.

    Args:
        ids: unique, in any order.
        pixels: of each.
        encoder: what embeds them.
        mode: what is made of pixels first.
        cache: folder of finished chunks; None: nothing is kept.
        batch: most images of the encoder at a time.

    Returns:
        (n, dim) in the order of `ids`.

    Raises:
        FeaturesError: a crop gives no features; a data set has no rows without.
        EncoderError: the encoder fails.
    """
    order = sorted(range(len(ids)), key=ids.__getitem__)
    names = tuple(ids[at] for at in order)
    blank = ("",) * len(ids)
    images = Images(names, blank, blank, {}, lambda row: pixels[order[row]][None])
    found = compute(images, encoder, mode, task="crops", cache=cache, batch=batch)
    if found.failed:
        name, why = next(iter(found.failed.items()))
        raise FeaturesError(
            f"{len(found.failed)} crops give no features (first: {name!r}: {why}). Another --mode "
            f"may take them."
        )
    return found.take(tuple(ids))


def stored_vectors(
    features: Features, ids: Sequence[str], pixels: Sequence[Pixels]
) -> npt.NDArray[np.float32]:
    """Take the vectors of some crops from features that were computed before.

    Args:
        features: with an id for each crop, `image_id`.
        ids: of the crops.
        pixels: of each; compared with the hashes that the features keep, if they do.

    Returns:
        (n, dim) in the order of `ids`.

    Raises:
        FeaturesError: a crop has none, or they were made of other pixels.
    """
    values = features.take(tuple(ids))
    if features.pixels:
        made_of = dict(zip(features.ids, features.pixels, strict=True))
        for name, one in zip(ids, pixels, strict=True):
            # Files of ours hash the planes as read; published embeddings hash as the data set does.
            if made_of[name] not in (planes_sha256(one[None]), pixel_sha256(one)):
                raise FeaturesError(
                    f"The features of {name!r} were made of other pixels than this data set has. "
                    f"Compute them from it, or name the --config that they are of."
                )
    return values
