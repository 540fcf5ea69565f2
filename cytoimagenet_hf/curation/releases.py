"""A published release that a build goes on from: its classes, labels, splits and shards stay.

What others have trained on must not change under them, so a later release only adds: classes are
appended, published crops keep label and side, new crops come in new shards (design 4).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytoimagenet_hf.curation.labels import Pins
from cytoimagenet_hf.schema import SPLITS

if TYPE_CHECKING:
    from cytoimagenet_hf.curation.shards import Shard

LabelKey = tuple[str, str]  # category, value


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCrop:
    """One crop of a release."""

    idx: str
    window: str
    label: LabelKey
    split: str
    group: str
    terms: str
    license: str
    source_sha256: str
    pixel_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A curated folder that stays as it is inside of the next one."""

    folder: Path
    manifest_sha256: str  # of its SHA256SUMS
    build: Mapping[str, Any]  # build.json
    labels: Sequence[LabelKey]  # in the order of their class integers, as `texts`
    texts: Sequence[str]
    crops: Sequence[PublishedCrop]
    exclusions: Sequence[dict[str, str]]  # rows of exclusions.parquet
    shards: Sequence["Shard"]
    sums: Mapping[str, str]  # path of each shard -> sha256

    @property
    def lineage(self) -> list[dict[str, Any]]:
        """The builds that it is made of, oldest first."""
        return list(self.build["lineage"])

    def sides(self) -> tuple[set[str], set[str]]:
        """Groups in train, and groups in validation."""
        train, validation = ({one.group for one in self.crops if one.split == s} for s in SPLITS)
        return train, validation

    def label_fields(self) -> Mapping[LabelKey, int]:
        """Fields of each label that have a published crop."""
        counts: Counter[str] = Counter()
        for of_terms in self.build["label_fields"].values():
            counts.update(of_terms)
        return {label: counts[text] for label, text in zip(self.labels, self.texts, strict=True)}


def pins_of(release: Release, records: Sequence[str], fields: Sequence[int]) -> Pins:
    """Say what a release fixes for the plan.

    Args:
        release: the base.
        records: ids of the records that can be rendered now.
        fields: number of the field of each.
    """
    label_of = {one.idx: one.label for one in release.crops}
    pinned: dict[int, LabelKey] = {}
    for idx, field in zip(records, fields, strict=True):
        if label := label_of.get(idx):
            pinned.setdefault(int(field), label)
    return Pins(taken=release.label_fields(), of_field=sorted(pinned.items()))
