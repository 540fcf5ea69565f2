"""Tiles: even, as few as cover an image, and averaged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from cytoimagenet_hf.models import tiles  # noqa: E402 - imports torch


def test_starts_of_round_cases():
    """One tile where one is enough; 10 in tiles of 4 starts at 0, 3, 6."""
    assert tiles.starts(4, 4) == [0]
    assert tiles.starts(8, 4) == [0, 4]
    assert tiles.starts(10, 4) == [0, 3, 6]
    assert tiles.starts(5, 4) == [0, 1]


@given(tile=st.integers(1, 60), more=st.integers(0, 500))
def test_tiles_cover_evenly(tile, more):
    """They begin and end with the image, leave no gap, are as few as can be, and evenly spread."""
    side = tile + more
    found = tiles.starts(side, tile)
    assert (found[0], found[-1] + tile) == (0, side)
    assert len(found) == -(-side // tile)
    steps = np.diff(found)
    assert all(0 < step <= tile for step in steps)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_small_images_are_continued_by_reflection():
    """1 2 3 becomes 3 2 1 2 3 2 1, the border pixel not repeated; one pixel fills a tile."""
    row = torch.tensor([[[[1.0, 2, 3]]]])
    padded = tiles.pad(row, 7)
    assert padded.shape == (1, 1, 7, 7)
    assert padded[0, 0, 0].tolist() == [3, 2, 1, 2, 3, 2, 1]
    assert torch.equal(padded[0, 0, 0], padded[0, 0, 6])
    assert torch.equal(tiles.pad(torch.full((1, 1, 1, 1), 5.0), 3), torch.full((1, 1, 3, 3), 5.0))


def test_embeddings_are_averaged_image_by_image(monkeypatch):
    """Four tiles of a 4 x 4 image average to its mean, also when forward passes are cut apart."""
    images = torch.arange(32.0).view(2, 1, 4, 4)
    sizes = []

    def mean(cut):
        sizes.append(tuple(cut.shape))
        return cut.mean(dim=(2, 3))

    assert tiles.embed_tiles(images, 2, mean).flatten().tolist() == [7.5, 23.5]
    monkeypatch.setattr(tiles, "PIXELS_AT_ONCE", 12)
    assert tiles.embed_tiles(images, 2, mean).flatten().tolist() == [7.5, 23.5]
    assert sizes == [(8, 1, 2, 2), (3, 1, 2, 2), (3, 1, 2, 2), (2, 1, 2, 2)]
