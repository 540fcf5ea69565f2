"""Assembly: from rendered crops to the folder that `load_dataset` reads (design 4).

The new folder is made aside and takes the place of the old one when it is complete, so that a
reader never sees half a data set.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cytoimagenet_hf import files
from cytoimagenet_hf.curation import selection
from cytoimagenet_hf.curation.advice import nothing_left
from cytoimagenet_hf.curation.base import carry_over
from cytoimagenet_hf.curation.configs import ConfigWriter
from cytoimagenet_hf.curation.documents import Contents, write_documents
from cytoimagenet_hf.curation.labels import LabelRow, label_texts
from cytoimagenet_hf.curation.material import Material
from cytoimagenet_hf.curation.outputs import check_output
from cytoimagenet_hf.curation.releases import Release
from cytoimagenet_hf.curation.selection import Crop, Exclusions
from cytoimagenet_hf.curation.splits import Split, split_groups
from cytoimagenet_hf.errors import BuildError
from cytoimagenet_hf.schema import CATEGORIES, SPLITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """What a build came to."""

    contents: Contents
    split: Split
    split_of: Mapping[str, str]  # group -> split
    manifest_sha256: str  # of SHA256SUMS: names the whole folder


def assemble(material: Material, output: Path) -> Assembled:
    """Write the data set's folder.

    Args:
        material: catalog, plan and rendered chunks.
        output: the folder; one that a former build wrote is replaced.

    Raises:
        BuildError: no crop is left, or `output` holds something that no build wrote.
    """
    check_output(output)
    parameters = material.parameters
    out = Exclusions([label.value for label in material.labels])
    crops = selection.collect(material, out)
    crops = selection.drop_duplicates(crops, out)
    crops, reasons = selection.drop_small_labels(crops, parameters.min_crops, out)
    crops = selection.drop_surplus(crops, parameters.max_crops, parameters.seed, out)
    if not crops:
        raise BuildError(nothing_left(material, out))
    if all(crop.is_published for crop in crops):
        raise BuildError("There is nothing new: every crop is in the release of --base already.")
    published = set(material.base.labels) if material.base else set()
    labels = _finished(material.labels, crops, reasons, published)
    names = published_names(labels, crops, material.base)
    trained, held_out = material.base.sides() if material.base else (set(), set())
    split = split_groups(
        ((crop.label, crop.group) for crop in crops),
        share=parameters.validation_share,
        seed=parameters.seed,
        held_out=held_out,
        trained=trained,
    )
    split_of = {
        crop.group: SPLITS[1] if crop.group in split.validation else SPLITS[0] for crop in crops
    }
    settle(output)
    aside = aside_of(output)
    if material.base:
        carry_over(material.base, aside)
    writer = ConfigWriter(material, names, split_of, crops, aside)
    contents = Contents(
        labels=labels,
        names=names,
        crops=crops,
        exclusions=out,
        written=writer.write_all(),
        build=writer.build,
    )
    former = output / "README.md"
    prose = former.read_text(encoding="utf-8") if former.exists() else ""
    manifest = write_documents(aside, material, contents, prose=prose)
    check_output(output)  # rendering and writing took hours, in which people may put files there
    swap(aside, output)
    return Assembled(contents=contents, split=split, split_of=split_of, manifest_sha256=manifest)


def settle(output: Path) -> None:
    """Undo what a run that was killed left beside the output folder; nothing, as a rule.

    A run may end after the old folder was put aside and before the new one took its place. Then
    the old one comes back, as its card may hold prose that people wrote.

    Raises:
        DiskError: the system refuses.
    """
    aside, old = aside_of(output), _old(output)
    with files.disk_errors(output):
        if old.exists() and not output.exists():
            old.rename(output)
            files.sync_folder(output.parent)
        for left in (aside, old):
            if left.exists():
                shutil.rmtree(left)


def published_names(
    labels: Sequence[LabelRow], crops: Iterable[Crop], base: Release | None = None
) -> dict[int, str]:
    """Name the labels that have crops, in the order of their class integers.

    Those of a release come first, with the names and in the order that they have there.
    """
    number_of = {(one.category, one.value): number for number, one in enumerate(labels)}
    before = [number_of[label] for label in base.labels] if base else []
    texts = list(base.texts) if base else []
    new = sorted(
        {crop.label for crop in crops} - set(before),
        key=lambda one: (CATEGORIES.index(labels[one].category), labels[one].value),
    )
    texts += label_texts(
        [(labels[one].category, labels[one].value) for one in new], published=texts
    )
    return dict(zip([*before, *new], texts, strict=True))


def _finished(
    labels: Sequence[LabelRow],
    crops: Sequence[Crop],
    reasons: Mapping[int, str],
    published: Collection[tuple[str, str]],
) -> list[LabelRow]:
    """Add the number of crops, and the reason where a planned label came to nothing.

    A published one keeps its integer, also where its crops may not be published.
    """

    def is_published(label: LabelRow) -> bool:
        return (label.category, label.value) in published

    counts = Counter(crop.label for crop in crops)
    before: dict[int, set[str]] = defaultdict(set)
    for crop in crops:
        if crop.is_published:
            before[crop.label].add(crop.source)
    return [
        replace(
            label,
            crops=counts[number],
            sources=tuple(sorted({*label.sources, *before[number]})),
            dropped_reason=label.dropped_reason
            or reasons.get(number, "")
            or ("" if counts[number] or is_published(label) else "no crop was left"),
        )
        for number, label in enumerate(labels)
    ]


def swap(aside: Path, output: Path) -> None:
    """Put the new folder in the place of the old one; `settle` heals a swap that was cut short."""
    old = _old(output)
    with files.disk_errors(output):
        if output.exists():
            output.rename(old)
        aside.rename(output)
        files.sync_folder(output.parent)
        if old.exists():
            shutil.rmtree(old)


def work_of(output: Path) -> Path:
    """Where a build keeps its files if nothing else is said, and the lock on `output` lies."""
    return output.with_name(f"{output.name}.work")


def aside_of(output: Path) -> Path:
    """Where a new folder grows; hidden, so that it's nobody's own."""
    return output.with_name(f".{output.name}.part")


def _old(output: Path) -> Path:
    """Where the former folder waits until the new one stands in its place."""
    return output.with_name(f".{output.name}.old")
