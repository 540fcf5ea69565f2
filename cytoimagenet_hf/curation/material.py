"""What assembly works on: the outcome of the stages before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from cytoimagenet_hf.curation.labels import LabelRow
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.releases import Release
from cytoimagenet_hf.sources import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What assembly works on."""

    catalog: pa.Table
    plan: pa.Table  # id, label (index into `labels`; -1: none), wanted, chunk
    labels: Sequence[LabelRow]
    rendered: Path  # folder of chunks
    sources: Mapping[str, Source]
    inputs: Mapping[str, str]  # source -> hash of its catalog
    parameters: Parameters
    simulated: bool
    base: Release | None = None  # published release that the build goes on from
