"""Chunks of features as files whose names are hashes of all that could change them.

A name is `<what>-<pixels>.parquet`: the first part covers encoder, mode, versions and the chunk's
ids, the second each image's pixels. Other pixels or renamed images thus have other files, and
nothing is ever found by its position.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cytoimagenet_hf import hashing
from cytoimagenet_hf.errors import FeaturesError
from cytoimagenet_hf.evaluation._batches import Read, read_one
from cytoimagenet_hf.evaluation.featurefiles import read_features, write_features
from cytoimagenet_hf.evaluation.records import Features, Images

logger = logging.getLogger("cytoimagenet_hf")
_DIGITS = 24  # hex, of each part of a name
_UNSAFE = re.compile(r"[^\w.-]+", re.ASCII)  # in names of folders


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of chunks of one encoder and mode."""

    folder: Path
    key: Mapping[str, Any]  # all that changes features, but for the images

    def recall(self, images: Images, rows: Sequence[int], found: Read) -> Features | None:
        """Return a chunk that was finished before, if the images still are the same.

        Images are read for their hashes only where a file of theirs exists. A file that is damaged
        or of something else is named in a warning, and as good as absent.

        Args:
            images: of a task.
            rows: of the chunk.
            found: gets the identity of each image that is read.
        """
        if not any(self.folder.glob(f"{self._what(images, rows)}-*.parquet")):
            return None
        for row in rows:
            read_one(images, row, found)
        path = self.path(images, rows, found)
        if not path.is_file():
            return None
        try:
            kept = read_features(path)
            self._check(path, kept, images, rows, found)
        except FeaturesError as error:
            logger.warning("A file of the cache is made anew: %s", error)
            return None
        return kept

    def keep(self, images: Images, rows: Sequence[int], features: Features, found: Read) -> Path:
        """Write a finished chunk, whole or not at all.

        Raises:
            DiskError: it can't be written.
        """
        path = self.path(images, rows, found)
        write_features(replace(features, provenance={"key": dict(self.key)}), path)
        return path

    def path(self, images: Images, rows: Sequence[int], found: Read) -> Path:
        """Name the file of a chunk whose images have been read."""
        texts = (found.pixels[row] or found.failed[row] for row in rows)
        pixels = hashing.fingerprint(texts, digits=_DIGITS)
        return self.folder / f"{self._what(images, rows)}-{pixels}.parquet"

    def _what(self, images: Images, rows: Sequence[int]) -> str:
        ids = (images.ids[row] for row in rows)
        return hashing.fingerprint([json.dumps(self.key, sort_keys=True), *ids], digits=_DIGITS)

    def _check(
        self, path: Path, kept: Features, images: Images, rows: Sequence[int], found: Read
    ) -> None:
        """Refuse a file that isn't what its name says.

        Raises:
            FeaturesError: says what differs.
        """
        if kept.provenance.get("key") != json.loads(json.dumps(self.key)):
            raise FeaturesError(f"{path} was made by another encoder, mode or version.")
        expected = {images.ids[row]: found.pixels[row] for row in rows}
        if {*kept.ids, *kept.failed} != set(expected) or set(kept.ids) & set(kept.failed):
            raise FeaturesError(f"{path} holds features of other images.")
        if kept.pixels != tuple(expected[name] for name in kept.ids):
            raise FeaturesError(f"{path} holds features of other pixels.")


def folder_of(cache: Path, task: str, encoder: str, mode: str) -> Path:
    """Name the folder of a task, encoder and mode, for people who want to clean up."""
    return cache.joinpath(*(_UNSAFE.sub("_", part).strip(".")[:60] or "_"
                            for part in (task, encoder, mode)))  # fmt: skip
