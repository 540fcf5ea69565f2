"""Ranks, scrambling and identities, held to the standard library and to plain integers."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytoimagenet_hf.hashing import fingerprint, mix, pixel_sha256, rank, ranks, sha256_file

MASK = (1 << 64) - 1
names = st.text(st.characters(exclude_categories=("Cc",)), max_size=20)


def splitmix64(key):
    """One step of splitmix64 (Steele, Lea, Flood 2014) in Python's integers."""
    z = (key + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def undo_shift(value, shift):
    """Solve z ^ (z >> shift) = value for z."""
    z = value
    for _ in range(64 // shift + 1):
        z = value ^ (z >> shift)
    return z


def unmix(key):
    """Undo splitmix64's step: each of its parts has an inverse."""
    z = undo_shift(key, 31) * pow(0x94D049BB133111EB, -1, 1 << 64) & MASK
    z = undo_shift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & MASK
    return (undo_shift(z, 30) - 0x9E3779B97F4A7C15) & MASK


def test_splitmix_is_the_published_one():
    """Seeded with 0 its first three numbers are those of the reference implementation."""
    seeds = np.array([0, 1, 2], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert [hex(one) for one in mix(seeds).tolist()] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


@given(st.lists(st.integers(0, MASK), max_size=20))
def test_mix_equals_plain_integers_and_has_an_inverse(keys):
    """Any keys, also those whose sums run over 64 bits; as there is an inverse, none collide."""
    mixed = mix(np.array(keys, np.uint64)).tolist()
    assert mixed == [splitmix64(key) for key in keys]
    assert [unmix(one) for one in mixed] == keys


@given(st.integers(0, 1 << 70), names, names)
def test_rank_is_blake2b_of_the_joined_parts(seed, purpose, one):
    """A rank can be computed anywhere: 8 bytes of blake2b, parts joined by the unit separator."""
    text = f"{seed}\x1f{purpose}\x1f{one}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    assert rank(seed, purpose, one) == int.from_bytes(digest, "little")


@given(st.lists(names, max_size=20))
def test_ranks_equal_rank(ids):
    """Ranked together or one by one, ids get the same numbers, in their order."""
    assert ranks(3, "fields", ids).tolist() == [rank(3, "fields", one) for one in ids]
    assert ranks(3, "fields", iter(ids)).dtype == np.uint64


@given(names, names)
def test_parts_stay_distinct(one, other):
    """Moving letters from one part to the next changes the rank; so does any other change."""
    if one + other:
        assert rank(0, "p", one, other) != rank(0, "p", one + other)
        assert rank(0, "p", one, other) != rank(1, "p", one, other)
        assert rank(0, "p", one, other) != rank(0, "q", one, other)
    if one and one[:1] != other[:1]:
        assert rank(0, "p", one, other) != rank(0, "p", other, one)


def test_ranks_are_uniform():
    """Of 16,000 names about 1,000 fall in each sixteenth (within 4 standard deviations)."""
    found = ranks(0, "split", (f"bbbc022/plate/{number}" for number in range(16_000)))
    for shift in (60, 0):
        counts = np.bincount((found >> np.uint64(shift) & np.uint64(15)).astype(int), minlength=16)
        assert np.abs(counts - 1000).max() < 4 * 31
    assert len(set(found.tolist())) == 16_000


def test_purposes_are_independent():
    """Half of those in the lower half for one purpose are so for another, too."""
    ids = [f"a/{number}" for number in range(10_000)]
    half = np.uint64(1 << 63)
    low = (ranks(0, "split", ids) < half) & (ranks(0, "surplus", ids) < half)
    assert low.sum() == pytest.approx(2500, abs=175)


@given(st.lists(names, max_size=6), st.lists(names, max_size=6))
@settings(max_examples=300)
def test_fingerprints_differ_where_parts_do(one, other):
    """Two lists have one fingerprint only if they are equal: no part runs into the next."""
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_fingerprints_of_shifted_parts_differ():
    """ab, c and a, bc and abc and abc with an empty part are four lists."""
    lists = (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], [])
    assert len({fingerprint(parts) for parts in lists}) == len(lists)


@pytest.mark.parametrize("digits", [1, 7, 8, 32, 64])
def test_fingerprints_have_the_wanted_length(digits):
    """Odd numbers of digits, too."""
    assert len(fingerprint(["x"], digits=digits)) == digits


def test_names_that_are_not_utf8_are_ranked():
    """A file name with the byte 0xff, as Python's file functions give it, has its own rank."""
    odd = b"plate_\xff.tif".decode("utf-8", "surrogateescape")
    other = b"plate_\xfe.tif".decode("utf-8", "surrogateescape")
    assert rank(0, "p", odd) != rank(0, "p", other)
    assert fingerprint([odd]) != fingerprint([other])


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_files_are_hashed_whole(size, tmp_path):
    """A file of a little less or more than the block that is read at a time has its sha256."""
    data = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "raw.tif"
    path.write_bytes(data[:size])
    assert sha256_file(path) == hashlib.sha256(data[:size]).hexdigest()


def test_pixels_are_hashed_with_their_size():
    """2 x 3 and 3 x 2 pixels with the same bytes are different images."""
    pixels = np.arange(6, dtype=np.uint8)
    assert pixel_sha256(pixels.reshape(2, 3)) != pixel_sha256(pixels.reshape(3, 2))
    stored = bytes([2, 0, 0, 0, 3, 0, 0, 0, 0, 1, 2, 3, 4, 5])
    assert pixel_sha256(pixels.reshape(2, 3)) == hashlib.sha256(stored).hexdigest()


def test_views_are_hashed_as_they_look():
    """A transposed view and its copy are one image."""
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pixel_sha256(pixels.T) == pixel_sha256(pixels.T.copy())
    assert pixel_sha256(pixels[:, ::-1]) == pixel_sha256(pixels[:, ::-1].copy())
