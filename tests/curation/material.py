"""What the tests of the curation are made of: records, crops, and one small build for all."""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytoimagenet_hf import simulation
from cytoimagenet_hf.curation import inputs
from cytoimagenet_hf.curation.catalog import SourceInput
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.pipeline import BuildConfig, build
from cytoimagenet_hf.curation.selection import Crop
from cytoimagenet_hf.curation.summary import Summary
from cytoimagenet_hf.sources import FieldOfView, Plane, Source

SMALL = Parameters(min_fields=2, tiny_labels=4, tiny_crops=5)  # of the build that tests share


def record(key: str, *, path: str = "", source: str = "made", **known) -> FieldOfView:
    """Make a record with one plane; categories are given as tuples of values."""
    own = {
        name: known.pop(name)
        for name in ("field_key", "group", "plate", "well", "site", "license", "refusal")
        if name in known
    }
    return FieldOfView(
        source=source,
        key=key,
        modality="fluorescence",
        planes=known.pop("planes", (Plane(path or f"{key}.tif", "nucleus"),)),
        annotations=known,
        **own,
    )


def source_of(
    records: Sequence[FieldOfView], *, name: str = "made", rows: Callable | None = None
) -> Source:
    """Make a source that yields given records, in the order given."""

    def fields(folder: object) -> Iterator[FieldOfView]:
        yield from records

    return Source(
        name=name,
        title="Made by a test",
        database="tests",
        accession="",
        page="",
        license="CC0 1.0",
        citation="",
        modality=("fluorescence",),
        expected_fields=None,
        layout="a.tif",
        fields=fields,
        rows=rows,
    )


def entry_of(records: Sequence[FieldOfView], root: Path, **known) -> SourceInput:
    """Make an input of given records over a folder."""
    return SourceInput(source_of(records, **known), root)


def crop(idx: str, window: str = "whole", **known) -> Crop:
    """Make a crop whose bytes and pixels are unlike all others unless they are given."""
    own = hashlib.sha256(f"{idx} {window}".encode()).hexdigest()
    return Crop(
        **{
            "idx": idx,
            "window": window,
            "order": 0,
            "label": 0,
            "field": idx,
            "group": idx,
            "terms": "open",
            "source_sha256": f"raw {idx}",
            "pixel_sha256": own,
            "chunk": "made-00000",
            "row": 0,
            **known,
        }
    )


@dataclass(frozen=True)
class Built:
    """A build of two simulated sources of 12 fields each, one of them open and one local."""

    raw: Path
    output: Path
    work: Path
    summary: Summary


def build_small(factory: pytest.TempPathFactory) -> Built:
    """Simulate and build what several modules look at; the folder must stay as it is."""
    return _build_under(factory.getbasetemp())


@functools.cache
def _build_under(base: Path) -> Built:
    folder = base / "small_build"
    for name in ("bbbc022", "bbbc048"):
        simulation.simulate(name, folder / "raw", fields=12)
    output = folder / "cytoimagenet"
    config = BuildConfig(
        inputs=inputs.from_roots([str(folder / "raw")], []), output=output, parameters=SMALL
    )
    return Built(folder / "raw", output, config.work_folder, build(config))
