"""Damage and forgeries of a curated folder, for the tests of verify and repair."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cytoimagenet_hf.curation import shards
from cytoimagenet_hf.files import walk, write_json, write_text
from cytoimagenet_hf.hashing import rank, sha256_file
from cytoimagenet_hf.hub import cards
from cytoimagenet_hf.hub._folders import build_of
from cytoimagenet_hf.hub.croissant import CROISSANT, described_files

Edit = Callable[[str, list[dict[str, Any]]], list[dict[str, Any]]]  # (path, rows) -> rows


def edit_rows(folder: Path, edit: Edit, *, configs: str = "default small tiny metadata") -> None:
    """Rewrite the shards of some configs with other rows; every page gets a right checksum."""
    for path in shard_paths(folder):
        if path.split("/")[1] in configs.split():
            with pq.ParquetFile(folder / path) as file:
                schema, sizes = file.schema_arrow, []
                groups = [
                    file.read_row_group(group).to_pylist() for group in range(file.num_row_groups)
                ]
            sizes = [len(group) for group in groups]
            rows = edit(path, [row for group in groups for row in group])
            with shards.open_writer(folder / path, schema) as writer:
                for size in sizes:
                    shards.write_group(writer, rows[:size], schema)
                    rows = rows[size:]


def forge_sums(folder: Path) -> None:
    """Make all sums, fingerprints and counts of bytes right again, as a careful forger would."""
    build = json.loads((folder / "build.json").read_bytes())
    for name, count in build["counts"].items():
        config, split, terms = name.split("/")
        real = {"commercial": "default", "commercial_small": "small"}.get(config, config)
        own = [path for path in shard_paths(folder) if f"data/{real}/{split}-{terms}-" in path]
        count["bytes"] = sum((folder / path).stat().st_size for path in own)
    sums = {path: sha256_file(folder / path) for path in shard_paths(folder)}
    card = (folder / "README.md").read_text(encoding="utf-8")
    card = card.replace(build_of(folder), cards.content_fingerprint(sums))
    write_text(folder / "README.md", card)
    build["card_sha256"] = cards.generated_sha256(card)
    write_json(folder / "build.json", build)
    about = (folder / CROISSANT).read_text(encoding="utf-8")
    for path, before in described_files(about).items():
        about = about.replace(before, sums.get(path, before))
    write_text(folder / CROISSANT, about)
    listed = [path for path, _ in walk(folder) if path not in ("README.md", "SHA256SUMS")]
    lines = [f"{sha256_file(folder / path)}  {path}\n" for path in listed]
    write_text(folder / "SHA256SUMS", "".join(lines))


def shard_paths(folder: Path) -> list[str]:
    """All shards, sorted."""
    return [path for path, _ in walk(folder) if path.startswith("data/")]


def rows_of(folder: Path, config: str) -> list[dict[str, Any]]:
    """All rows of a config."""
    paths = [path for path in shard_paths(folder) if path.startswith(f"data/{config}/")]
    return [row for path in paths for row in pq.read_table(folder / path).to_pylist()]


def bit_flips(folder: Path, count: int) -> Iterator[tuple[str, int, int]]:
    """Choose (path, byte, bit) by hashes, evenly over the bytes of all files."""
    listed = [(path, stat.st_size) for path, stat in walk(folder)]
    total = sum(size for _, size in listed)
    for number in range(count):
        at = rank(0, "flip", number) % total
        for path, size in listed:
            if at < size:
                yield path, at, rank(0, "bit", number) % 8
                break
            at -= size


def truncations(folder: Path, count: int) -> Iterator[tuple[str, int]]:
    """Choose (path, bytes that are left): all files in turn."""
    listed = [(path, stat.st_size) for path, stat in walk(folder)]
    for number in range(count):
        path, size = listed[number % len(listed)]
        yield path, rank(0, "cut", number) % size
