"""Choices without random numbers: everything is ranked by blake2b(seed, purpose, id ...).

A choice depends on nothing but the seed, what it is for, and the names of the things chosen, so it
is the same on every machine, in every order and for any number of workers (design 4).
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

_SEPARATOR = b"\x1f"  # ids hold no control characters, so joined parts stay distinct


def rank(seed: int, purpose: str, *parts: str | int) -> int:
    """Return a 64-bit number for (seed, purpose, parts): equal everywhere, uniform."""
    return int.from_bytes(_digest(seed, purpose, parts), "little")


def ranks(seed: int, purpose: str, ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Rank many ids at once; element i equals `rank(seed, purpose, ids[i])`."""
    joined = b"".join(_digest(seed, purpose, (one,)) for one in ids)
    return np.frombuffer(joined, dtype="<u8").astype(np.uint64)


def mix(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit keys (finalizer of splitmix64), so that sums and xors of hashes rank well."""
    with np.errstate(over="ignore"):
        z = keys + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def fingerprint(parts: Iterable[str], *, digits: int = 32) -> str:
    """Return `digits` hex digits over strings in the given order (names builds and inputs)."""
    state = hashlib.blake2b(digest_size=(digits + 1) // 2)
    for part in parts:
        state.update(_bytes(part) + _SEPARATOR)
    return state.hexdigest()[:digits]


def sha256_file(path: Path) -> str:
    """Return the lower-case sha256 of a file's bytes."""
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(seed: int, purpose: str, parts: Iterable[str | int]) -> bytes:
    text = _SEPARATOR.join(_bytes(str(part)) for part in (seed, purpose, *parts))
    return hashlib.blake2b(text, digest_size=8).digest()


def _bytes(text: str) -> bytes:
    """Encode as UTF-8, file names that are none (Python gives them lone surrogates) too."""
    return text.encode("utf-8", "surrogatepass")


def pixel_sha256(pixels: npt.NDArray[np.uint8]) -> str:
    """Return the identity of an image: sha256 of height, width (uint32, little-endian) and pixels.

    Args:
        pixels: (height, width) uint8.
    """
    height, width = pixels.shape
    state = hashlib.sha256(np.array([height, width], "<u4").tobytes())
    state.update(np.ascontiguousarray(pixels).tobytes())
    return state.hexdigest()
