"""What a card is made of: plain records that assembly fills in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFacts:
    """One class of the data set; `CardFacts.labels` holds them in the order of their integers."""

    label: str
    category: str  # one of schema.CATEGORIES
    fields: int  # positions imaged
    crops: int  # rows of config `default`, over all splits


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What one source gave under one license; a source with two licenses has two of these."""

    name: str  # "bbbc022"
    title: str
    database: str
    page: str
    license: str  # canonical, as in column `license` (licenses.terms_of(...).license)
    terms: str  # one of schema.TERMS
    citation: str
    fields: int
    crops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFacts:
    """Rows and bytes of the shards of one config, split and terms class."""

    config: str
    split: str  # one of schema.SPLITS
    terms: str  # one of schema.TERMS
    rows: int
    bytes: int  # of the Parquet files


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFacts:
    """One config of embeddings; build.json keeps it under `embeddings`, by the config's name."""

    encoder: str  # as it was asked for
    revision: str  # over its weights or code
    dim: int
    dtype: str  # one of schema.EMBEDDING_TYPES
    config: str  # whose images they came from: default or small
    mode: str  # what was made of the images first, as evaluation/modes.py writes it
    preprocessing: str
    license: str  # of the weights, as given; "" where nobody told
    builds: Sequence[str]  # whose crops have embeddings, in the order of the lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """All that a card is made of; equal facts give equal bytes.

    `sizes` and `data_files` hold the same configs: a config or split without rows stands in
    neither.
    """

    labels: Sequence[LabelFacts]
    sources: Sequence[SourceFacts]
    sizes: Sequence[SizeFacts]
    data_files: Mapping[str, Mapping[str, Sequence[str]]]  # config -> split -> relative paths, "/"
    fingerprint: str  # `content_fingerprint` of the shards' sums
    parameters: Mapping[str, object]  # of this build, by the name of the flag
    paper: Mapping[str, object] = field(default_factory=dict)  # those that the paper has
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)  # library -> version
    exclusions: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (stage, reason) -> n
    appended: bool = False  # shards of earlier releases name fewer classes than there are now
    simulated: bool = False  # any source's pixels are simulated: the card says so loudly
    # (source, license) -> bytes that travel when it is loaded alone: row groups with some of it
    transfers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    pictures: Sequence[str] = ()  # paths beside the card: pictures/classes.png, pictures/labels.png
    embeddings: Mapping[str, EmbeddingFacts] = field(default_factory=dict)  # config -> what it is
    hub_id: str = ""  # "owner/name" where it stands on the Hub; "" as long as it stands nowhere
