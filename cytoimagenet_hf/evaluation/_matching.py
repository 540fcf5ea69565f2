"""Features that were made before, and the images that they are said to be of: by id and pixels."""

from cytoimagenet_hf.errors import FeaturesError
from cytoimagenet_hf.evaluation._batches import Read, planes_sha256, read_one
from cytoimagenet_hf.evaluation.records import Features, Images
from cytoimagenet_hf.hashing import pixel_sha256

_SHOWN = 3  # ids in a message


def match(features: Features, images: Images) -> Features:
    """Take the rows of a task's images from features, by id and in the order of the images.

    Raises:
        FeaturesError: an image has neither features nor a reason to have none; shows ids of both
            sides.
    """
    there = set(features.ids)
    failed = {name: features.failed[name] for name in images.ids if name in features.failed}
    missing = [name for name in images.ids if name not in there and name not in failed]
    if missing:
        other = sorted(there - set(images.ids))
        raise FeaturesError(
            f"{len(missing)} of {len(images)} images have no features (first: {missing[0]!r}), and "
            f"{len(other)} of {len(there)} features belong to no image"
            f"{f' (first: {other[0]!r})' if other else ''}. They were made from other images: name "
            f"their ids as the task does, or compute them again."
        )
    ids = tuple(name for name in images.ids if name in there)
    at = {name: row for row, name in enumerate(features.ids)}
    pixels = tuple(features.pixels[at[name]] for name in ids) if features.pixels else ()
    return Features(ids, features.take(ids), features.provenance, failed, pixels)


def check_pixels(features: Features, images: Images) -> None:
    """Refuse features of other pixels than the images have that are at hand; all images are read.

    Args:
        features: as `match` gives them; without hashes of pixels nothing is compared.
        images: that can be read.

    Raises:
        FeaturesError: some are of other pixels, or of an image that can't be read; names ids.
    """
    made_of = dict(zip(features.ids, features.pixels, strict=True)) if features.pixels else {}
    other = [
        name
        for row, name in enumerate(images.ids)
        if name in made_of and made_of[name] not in _hashes(images, row)
    ]
    if other:
        raise FeaturesError(
            f"{len(other)} of {len(made_of)} features were made of other pixels than the images "
            f"here have (first: {', '.join(map(repr, other[:_SHOWN]))}). Compute them again from "
            f"these, or score them without images (--labels)."
        )


def _hashes(images: Images, row: int) -> set[str]:
    """Return what the pixels of an image may be known by: as read, and as the data set has them."""
    planes = read_one(images, row, Read())
    if planes is None:
        return set()
    is_gray = len(planes) == 1 and planes.dtype == "uint8"
    return {planes_sha256(planes), *([pixel_sha256(planes[0])] if is_gray else [])}
