"""Repair of damaged shards: only their crops are rendered again, and the old bytes come back.

A shard holds known rows in a known order, so what can be read elsewhere in the folder (other
configs, other row groups) and the raw files of the crops that can't be read give its bytes again.
Nothing is replaced that hasn't the sha256 that SHA256SUMS promises.
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cytoimagenet_hf import files, hashing
from cytoimagenet_hf.curation import shards
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.findings import UNREADABLE, Findings, VerifyReport, told
from cytoimagenet_hf.curation.papers import CARD, SUMS, Papers, read_papers
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.progress import Progress, Silent
from cytoimagenet_hf.curation.reproduce import RawCrops, other_versions, parameters_of
from cytoimagenet_hf.curation.rewriting import open_checked, read_group
from cytoimagenet_hf.curation.selection import Crop
from cytoimagenet_hf.curation.shardcheck import NAME, expected_schema
from cytoimagenet_hf.errors import BuildError
from cytoimagenet_hf.hashing import pixel_sha256
from cytoimagenet_hf.hub.cards import content_fingerprint
from cytoimagenet_hf.imaging import png
from cytoimagenet_hf.imaging.resize import shrink
from cytoimagenet_hf.schema import EMBEDDINGS, POINTER_COLUMNS

# `metadata` has all columns of `default` and where its rows are; `small` is the last resort.
_KNOWING = ("metadata", "default", "small")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a repair came to."""

    rewritten: tuple[str, ...]  # files that have their old bytes again
    rendered: int  # crops rendered from raw files
    failed: Mapping[str, str]  # path -> why it can't be repaired


def repair(
    folder: Path,
    report: VerifyReport,
    inputs: Sequence[SourceInput],
    *,
    progress: Progress | None = None,
) -> Repaired:
    """Give damaged and missing shards their bytes again.

    Args:
        folder: the data set.
        report: of `verify` on it.
        inputs: sources and their raw folders; only those of damaged crops are read.
        progress: is told of each file.

    Raises:
        BuildError: SHA256SUMS, build.json or labels.parquet is damaged: nothing says what the
            shards must look like.
    """
    progress = progress or Silent()
    papers = read_papers(folder, Findings(""))
    _check_papers(folder, papers)
    suspects = sorted({one.path for one in report.findings} - {CARD, SUMS})
    wrong = [path for path in suspects if not _is_whole(folder, path, papers)]
    damaged = [path for path in wrong if _is_of_images(path) and path in papers.sums]
    failed = {path: _why_not(path, papers) for path in wrong if path not in damaged}
    if papers.card_sha256 != papers.build.get("card_sha256"):
        failed[CARD] = _why_not(CARD, papers)
    work = _Repair(folder, papers, parameters_of(papers.build, folder), inputs)
    progress.start("repair", len(damaged), "file")
    rewritten = []
    # `metadata` last: where its rows point to is read from the shards of `default`.
    for path in sorted(damaged, key=lambda one: (one.startswith("data/metadata/"), one)):
        try:
            work.restore(path)
            rewritten.append(path)
        except UNREADABLE as error:
            failed[path] = told(error)
        progress.step(1, f"{path}: {failed.get(path, 'repaired')}")
    return Repaired(rewritten=tuple(rewritten), rendered=work.rendered, failed=failed)


def _check_papers(folder: Path, papers: Papers) -> None:
    """Refuse to repair by sums that nothing vouches for."""
    if not papers.sums or content_fingerprint(papers.sums) != papers.card_build:
        raise BuildError(
            f"{folder}: SHA256SUMS is damaged, or of another build than README.md, so nothing says "
            f"what the shards must look like. Copy, build or pull the data set again."
        )
    for path in ("build.json", "labels.parquet"):
        if not _is_whole(folder, path, papers):
            raise BuildError(
                f"{folder / path} is damaged; repair needs what it says. Copy that file again, or "
                f"build the data set again."
            )


def _is_whole(folder: Path, path: str, papers: Papers) -> bool:
    try:
        return hashing.sha256_file(folder / path) == papers.sums.get(path)
    except OSError:
        return False


def _is_of_images(path: str) -> bool:
    name = NAME.fullmatch(path)
    return name is not None and not name["config"].startswith(EMBEDDINGS)


def _why_not(path: str, papers: Papers) -> str:
    if NAME.fullmatch(path) and path in papers.sums:
        return "embeddings are no raw data; make them again (add-embeddings --replace)"
    if path in papers.sums or path == CARD:
        return "only shards can be rendered again; copy this file again, or build again"
    return "it is not of this build; remove it"


@dataclass(slots=True)
class _Repair:
    """Restores shards of one folder, and counts what it had to render."""

    folder: Path
    papers: Papers
    parameters: Parameters
    inputs: Sequence[SourceInput]
    rendered: int = 0

    def restore(self, path: str) -> None:
        """Write one shard anew, and put it in its place if it has the promised bytes."""
        aside = self.folder.with_name(f"{self.folder.name}.repair")
        try:
            if path.startswith("data/metadata/"):
                self._write_metadata(path, aside)
            else:
                self._write_images(path, aside)
            if hashing.sha256_file(aside / path) != self.papers.sums[path]:
                raise BuildError(
                    "the rows give other bytes than SHA256SUMS promises"
                    + (other_versions(self.papers.build) or "; its sum may be of another file")
                )
            with files.replacing(self.folder / path) as target:
                shutil.move(aside / path, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _write_images(self, path: str, aside: Path) -> None:
        config = _named(path)["config"]
        ids = self._ids_of(path)
        rows = self._rows(path, ids)
        images = self._own_images(path, rows)
        missing = [one for one in ids if one not in images]
        raw = RawCrops(self.inputs, self.parameters, {rows[one]["idx"] for one in missing})
        for image_id in sorted(missing):  # crops of one record follow each other
            images[image_id] = self._render(raw, image_id, rows[image_id], config)
        target = shards.Target(
            folder=aside,
            schema=self._schema(path),
            build=_named(path)["build"],
            parameters=self.parameters,
            bytes_of=lambda _crop: 0,  # sizes are known already
        )
        sizes = [len(images[one]["image"]["bytes"]) for one in ids]
        shards.write_shard(path, ids, sizes, lambda one: rows[one] | images[one], target)

    def _write_metadata(self, path: str, aside: Path) -> None:
        """Gather the rows of config `metadata` from the shards of `default`."""
        name = _named(path)
        schema = self._schema(path)
        columns = [one for one in schema.names if one not in POINTER_COLUMNS]
        rows = []
        for shard in self._siblings(path, "default"):
            with open_checked(self.folder / shard) as file:
                for group in range(file.num_row_groups):
                    rows += [
                        row | {"shard": shard, "row_group": group, "row": number}
                        for number, row in enumerate(read_group(file, group, columns))
                    ]
        shards.write_metadata((name["split"], name["terms"]), rows, aside, schema, name["build"])

    def _schema(self, path: str) -> pa.Schema:
        name = _named(path)
        return expected_schema(self.papers.classes_of(name["build"]), name["config"])

    def _siblings(self, path: str, config: str) -> list[str]:
        """Shards of a config with the same split, terms and build, in order."""
        part = _named(path).group("split", "terms", "build")
        return [
            one
            for one in sorted(self.papers.sums)
            if (name := NAME.fullmatch(one))
            and name["config"] == config
            and name.group("split", "terms", "build") == part
        ]

    def _ids_of(self, path: str) -> list[str]:
        """The crops of a shard, in order of its rows."""
        name = _named(path)
        ids = set(self._labels_of(path))
        if name["config"] == "tiny":
            ids &= self._tiny_ids(name["build"])
        seed = self.parameters.seed
        ordered = sorted(ids, key=lambda one: (hashing.rank(seed, "order", one), one))
        own = self._siblings(path, name["config"])
        low, high = shards.cut_rows(len(ordered), len(own))[own.index(path)]
        return ordered[low:high]

    def _labels_of(self, path: str) -> dict[str, int]:
        """Label of each crop of the shard's split, terms and build, from whatever can be read."""
        found: dict[str, int] = {}
        for config in _KNOWING:
            for shard in self._siblings(path, config):
                for row in _readable(self.folder / shard, ["image_id", "label"]):
                    found.setdefault(row["image_id"], row["label"])
        return found

    def _tiny_ids(self, build: str) -> set[str]:
        labels: dict[str, int] = {}
        for path in self.papers.sums:
            if path.startswith("data/metadata/") and _named(path)["build"] == build:
                labels |= self._labels_of(path)
        crops = [
            Crop(idx, window, 0, label, "", "", "", "", "", "", 0)
            for (idx, _, window), label in (
                (image_id.partition("#"), label) for image_id, label in labels.items()
            )
        ]
        texts = {number: one.text for number, one in enumerate(self.papers.classes_of(build))}
        return {crop.image_id for crop in shards.tiny_crops(crops, texts, self.parameters)}

    def _rows(self, path: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Published rows without their images; what differs between configs is set later."""
        wanted = set(ids)
        found: dict[str, dict[str, Any]] = {}
        columns = expected_schema((), "metadata").names
        columns = [one for one in columns if one not in POINTER_COLUMNS]
        for config in _KNOWING:
            for shard in self._siblings(path, config):
                if wanted <= found.keys():
                    return found
                for row in _readable(self.folder / shard, columns):
                    if row["image_id"] in wanted:
                        found.setdefault(row["image_id"], row)
        if lost := sorted(wanted - found.keys()):
            raise BuildError(f"no config holds the columns of {lost[0]} any more")
        return found

    def _own_images(
        self, path: str, rows: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Images that can still be read in the damaged shard itself."""
        found = {}
        for row in _readable(self.folder / path, ["image_id", "image", "pixel_sha256"]):
            try:
                pixels = png.decode(row["image"]["bytes"])
            except UNREADABLE:
                continue
            if row["image_id"] in rows and pixel_sha256(pixels) == row["pixel_sha256"]:
                found[row["image_id"]] = _image(row["image_id"], pixels, row["image"]["bytes"])
        return found

    def _render(
        self, raw: RawCrops, image_id: str, row: Mapping[str, Any], config: str
    ) -> dict[str, Any]:
        crop = raw.crop(row["idx"], image_id.partition("#")[2])
        if crop.source_sha256 != row["source_sha256"]:
            raise BuildError(f"the raw files of {row['idx']} are not those that were published")
        if crop.pixels is None:
            raise BuildError(f"{image_id} is not rendered any more: {crop.reason}")
        self.rendered += 1
        longest = {"small": self.parameters.small_side, "tiny": self.parameters.tiny_side}
        pixels = shrink(crop.pixels, longest[config]) if config in longest else crop.pixels
        return _image(image_id, pixels, png.encode(pixels))


def _image(image_id: str, pixels: npt.NDArray[np.uint8], encoded: bytes) -> dict[str, Any]:
    """The columns of a row that differ between configs."""
    return {
        "image": {"bytes": encoded, "path": shards.image_path(image_id)},
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "pixel_sha256": pixel_sha256(pixels),
    }


def _named(path: str) -> re.Match[str]:
    name = NAME.fullmatch(path)
    if name is None:
        raise BuildError(f"{path} is not the name of a shard")
    return name


def _readable(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of all row groups of a file whose pages are whole."""
    try:
        file = open_checked(path)
    except UNREADABLE:
        return
    with file:
        for group in range(file.num_row_groups):
            try:
                rows = read_group(file, group, columns)
            except UNREADABLE:
                continue
            yield from rows
