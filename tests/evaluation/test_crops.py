"""Vectors for the crops of a data set: computed in any order of ids, or taken from a file."""

import numpy as np
import pytest

from cytoimagenet_hf.errors import FeaturesError
from cytoimagenet_hf.evaluation.crops import embed_crops, stored_vectors
from cytoimagenet_hf.evaluation.modes import parse_mode
from cytoimagenet_hf.evaluation.records import Features
from cytoimagenet_hf.hashing import pixel_sha256
from cytoimagenet_hf.imaging.statistics import statistics16
from cytoimagenet_hf.models.encoders import load_encoder

IDS = ("b#whole", "a#whole", "c#whole")
PIXELS = [np.arange(48, dtype=np.uint8).reshape(6, 8) + 40 * number for number in range(3)]


def stored(**changes) -> Features:
    given = {
        "ids": ("c#whole", "a#whole", "b#whole"),
        "values": np.array([[3.0], [1.0], [2.0]], np.float32),
        "provenance": {},
    }
    return Features(**(given | changes))


def test_rows_come_in_the_order_of_the_ids_given():
    """Each vector is of its own crop, whatever the order in which they were embedded."""
    found = embed_crops(IDS, PIXELS, load_encoder("intensity"), parse_mode("concat-raw"))
    expected = [statistics16(one.astype(np.float32)) for one in PIXELS]
    assert np.array_equal(found, np.stack(expected).astype(np.float32))


def test_crop_without_features_is_an_error():
    """A constant crop can't be stretched, and a data set has no row without a vector."""
    flat = [*PIXELS[:2], np.full((6, 8), 7, np.uint8)]
    with pytest.raises(FeaturesError, match=r"1 crops give no features.*c#whole"):
        embed_crops(IDS, flat, load_encoder("intensity"), parse_mode("concat-norm"))


def test_stored_vectors_are_joined_by_id():
    """The order of the file means nothing."""
    assert stored_vectors(stored(), IDS, PIXELS).tolist() == [[2.0], [1.0], [3.0]]


def test_crop_that_the_file_lacks_is_named():
    """Nothing is filled in."""
    with pytest.raises(FeaturesError, match=r"1 of 4 images have no features.*d#whole"):
        stored_vectors(stored(), (*IDS, "d#whole"), [*PIXELS, PIXELS[0]])


def test_vectors_of_other_pixels_are_refused():
    """Where the file keeps hashes they are compared: published ones, and those of our files."""
    of = dict(zip(IDS, PIXELS, strict=True))
    hashes = tuple(pixel_sha256(of[one]) for one in stored().ids)
    assert stored_vectors(stored(pixels=hashes), IDS, PIXELS).shape == (3, 1)
    with pytest.raises(FeaturesError, match="made of other pixels"):
        stored_vectors(stored(pixels=hashes[::-1]), IDS, PIXELS)
