"""Networks of one input size on images of any size: evenly laid tiles, averaged.

An image smaller than a tile is continued by reflection at both ends; a larger one is covered by as
few tiles as can cover it, evenly spread, so that neighbors overlap as little as they can.
"""

from collections.abc import Callable

import numpy as np
import torch

PIXELS_AT_ONCE = 1 << 22  # of one forward pass, over all its tiles


def starts(side: int, tile: int) -> list[int]:
    """Return where tiles begin along one side of at least `tile` pixels; the last ends with it."""
    gaps = -(-side // tile) - 1
    if gaps == 0:
        return [0]
    return [(2 * at * (side - tile) + gaps) // (2 * gaps) for at in range(gaps + 1)]


def pad(pixels: torch.Tensor, tile: int) -> torch.Tensor:
    """Continue images by reflection until both sides have at least `tile` pixels.

    Args:
        pixels: (n, c, h, w), of any size; the added pixels are split between both ends.
        tile: side in pixels.
    """
    for axis in (2, 3):
        side = pixels.shape[axis]
        if side < tile:
            before = (tile - side) // 2
            places = np.pad(np.arange(side), (before, tile - side - before), mode="reflect")
            pixels = pixels.index_select(axis, torch.from_numpy(places).to(pixels.device))
    return pixels


def embed_tiles(
    pixels: torch.Tensor, tile: int, forward: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Average the embeddings of the tiles of each image.

    Args:
        pixels: (n, c, h, w), ready for the network.
        tile: side of its input in pixels.
        forward: (m, c, tile, tile) -> (m, dim).

    Returns:
        (n, dim).
    """
    pixels = pad(pixels, tile)
    rows, columns = (starts(side, tile) for side in pixels.shape[2:])
    cut = [pixels[:, :, top : top + tile, left : left + tile] for top in rows for left in columns]
    at_once = max(1, PIXELS_AT_ONCE // (tile * tile))
    tiles = torch.cat(cut)
    embedded = torch.cat(
        [forward(tiles[first : first + at_once]) for first in range(0, len(tiles), at_once)]
    )
    return embedded.view(len(cut), len(pixels), -1).mean(dim=0)
