"""The data set's card: README.md with the configs that `datasets` reads, and what a user must know.

A card depends on nothing but its facts: no date, no host. What was generated stands between
`<!-- generated:NAME -->` marks, so that the prose around it may be edited by hand and the rest can
still be verified (`generated_sha256`; build.json keeps it).
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

import yaml

from cytoimagenet_hf.hub._cardparts import (
    build_part,
    bytes_of,
    configs_part,
    counted,
    declared_files,
    exclusions_part,
    labels_part,
    megabytes,
    rows_of,
    sizes_part,
    sources_part,
)
from cytoimagenet_hf.hub._columns import columns_part
from cytoimagenet_hf.hub._facts import CardFacts, EmbeddingFacts, LabelFacts, SizeFacts, SourceFacts
from cytoimagenet_hf.hub._folders import content_fingerprint
from cytoimagenet_hf.hub._generated import (
    generated_parts,
    generated_sha256,
    keep_prose,
    line_feeds,
    prose_sha256,
    with_added,
)
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.schema import TERMS, embedding_features, features

if TYPE_CHECKING:
    import jinja2

__all__ = [
    "CardFacts",
    "EmbeddingFacts",
    "LabelFacts",
    "SizeFacts",
    "SourceFacts",
    "content_fingerprint",
    "generated_parts",
    "generated_sha256",
    "line_feeds",
    "prose_sha256",
    "refresh_card",
    "render_card",
    "with_added",
]

_PLAIN_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*", re.ASCII)  # datasets reads paths as patterns
_TAGS = ("biology", "microscopy", "cell-biology", "bioimaging", "weakly-supervised")
_SIMULATED = (
    "> **SIMULATED PIXELS.** At least one source of this data set was simulated: its images show "
    "no real cells. It is for trying the software; no result on it says anything of biology."
)


def render_card(facts: CardFacts) -> str:
    """Return README.md for `facts`: YAML front matter, then prose and generated tables.

    Text from outside (labels, titles, citations) is escaped, so that it can't break a table, set
    markup or end a generated part.

    Raises:
        ValueError: `data_files` has no config `default`, names a path that `datasets` would take
            for a pattern or that leaves the folder, or disagrees with `sizes`; or the card is for
            the Hub (`hub_id`) and holds crops that may not be published.
    """
    _check(facts)
    parts = {
        "front_matter": _front_matter(facts),
        "status": _status(facts),
        "code": _code(facts),
        "sizes": sizes_part(facts),
        "configs": configs_part(facts),
        "columns": columns_part(),
        "labels": labels_part(facts),
        "sources": sources_part(facts),
        "build": build_part(facts),
        "exclusions": exclusions_part(facts),
    }
    return _template().render(parts)


def refresh_card(card: str, facts: CardFacts) -> str:
    """Return `card` with its generated parts made anew and the prose around them kept.

    Raises:
        ValueError: `card` lacks a generated part or its marks are broken.
    """
    return keep_prose(card, render_card(facts))


def _check(facts: CardFacts) -> None:
    declared = declared_files(facts)
    if "default" not in declared:
        raise ValueError("The card's data_files have no config `default` with files in it.")
    for config, splits in declared.items():
        for path in (path for paths in splits.values() for path in paths):
            if not _PLAIN_PATH.fullmatch(path) or ".." in path.split("/"):
                raise ValueError(
                    f"data_files of config {config!r}: {path!r} is not a plain relative path "
                    f"(letters, digits, and . _ - between /)."
                )
    named = {(config, split) for config, splits in declared.items() for split in splits}
    sized = {(size.config, size.split) for size in facts.sizes if size.rows}
    if named != sized:
        raise ValueError(
            f"data_files and sizes name different configs and splits: {sorted(named ^ sized)}."
        )
    if facts.hub_id and (kept := sorted({s.config for s in facts.sizes if s.terms == "local"})):
        raise ValueError(
            f"Crops of terms `local` may not be published; {', '.join(kept)} hold some. "
            f"Leave their shards out of the card for {facts.hub_id}."
        )


def _front_matter(facts: CardFacts) -> str:
    configs = []
    for config, splits in declared_files(facts).items():
        files = [{"split": split, "path": list(paths)} for split, paths in splits.items()]
        default = {"default": True} if config == "default" else {}
        # `datasets` names its cache of a folder by this block alone, not by the files' content or
        # place: without the fingerprint a rebuild under the same file names gives the old rows.
        build = {"description": f"build {facts.fingerprint}"}
        configs.append({"config_name": config, **default, **build, "data_files": files})
    block = {
        **_license(facts),
        "pretty_name": "CytoImageNet",
        "size_categories": [_size_category(rows_of(facts, "default"))],
        "task_categories": ["image-classification"],
        "tags": [*_TAGS, *(["simulated"] if facts.simulated else [])],
        **({"dataset_info": _features(facts)} if facts.appended else {}),
        "configs": configs,
    }
    dumped: str = yaml.safe_dump(block, sort_keys=False, allow_unicode=True, width=1000)
    return dumped


def _features(facts: CardFacts) -> list[dict[str, object]]:
    """Declare the features of all configs: `datasets` would take those of the oldest shard."""
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    names, data = [one.label for one in facts.labels], DatasetCardData()
    infos = {}
    for config in declared_files(facts):
        is_about = config == "metadata"
        if one := facts.embeddings.get(config):
            of_config = embedding_features(names, one.dim, one.dtype)
        else:
            of_config = features(names, image=not is_about, pointers=is_about)
        infos[config] = DatasetInfo(features=of_config, config_name=config)
    DatasetInfosDict(infos).to_dataset_card_data(data)
    found = data.to_dict()["dataset_info"]  # type: ignore[no-untyped-call]
    return list(found) if isinstance(found, list) else [found]


def _license(facts: CardFacts) -> dict[str, str]:
    names = {source.license for source in facts.sources}
    if len(names) == 1 and (hub_id := terms_of(next(iter(names))).hub_id):
        return {"license": hub_id}
    found = {"license": "other", "license_name": "per-crop"}
    if facts.hub_id:
        # The Hub takes a URL or a file named LICENSE here, so there is none before it stands there.
        page = f"https://huggingface.co/datasets/{facts.hub_id}"
        found["license_link"] = f"{page}#sources-and-licenses"
    return found


def _status(facts: CardFacts) -> str:
    rows, labels = rows_of(facts, "default"), sum(1 for one in facts.labels if one.crops)
    sources = len({source.name for source in facts.sources})
    held = (
        f"Weakly labeled microscopy images: {counted(rows, 'crop', 'crops')} in "
        f"{counted(labels, 'class', 'classes')} from {counted(sources, 'source', 'sources')}, made "
        f"by the method of [CytoImageNet](https://arxiv.org/abs/2111.11646)."
    )
    where = (
        f"It stands on the Hub as [{facts.hub_id}](https://huggingface.co/datasets/{facts.hub_id})."
        if facts.hub_id
        else "This copy is **not on the Hub**: it stands in the folder that holds this file."
    )
    lines = [held, where, _volume(facts)]
    if facts.simulated:
        lines.insert(0, _SIMULATED)
    return "\n\n".join(lines)


def _volume(facts: CardFacts) -> str:
    """Tell in two sentences what loading transfers and what the terms are."""
    sizes = [
        f"`{config}` {megabytes(bytes_of(facts, config))}"
        for config in ("default", "small", "tiny")
        if rows_of(facts, config)
    ]
    crops = {
        terms: sum(one.rows for one in facts.sizes if (one.config, one.terms) == ("default", terms))
        for terms in TERMS
    }
    held = [f"{count:,} {terms}" for terms, count in crops.items() if count]
    return (
        f"Sizes: {', '.join(sizes)}. Crops by terms: {', '.join(held)} "
        f"([what they allow](#terms); each crop names its own license)."
    )


def _code(facts: CardFacts) -> str:
    split = next(iter(declared_files(facts)["default"]))
    note = "" if facts.hub_id else "  # beside this folder, by its name or path"
    return (
        "from datasets import load_dataset\n"
        f'crops = load_dataset("{facts.hub_id or "cytoimagenet"}", split="{split}"){note}\n'
        'print(crops[0]["image"].size, crops.features["label"].int2str(crops[0]["label"]))'
    )


def _size_category(rows: int) -> str:
    """Name the range of rows as the Hub's cards do."""
    bounds = ((1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"))
    low = ""
    for bound, name in bounds:
        if rows < bound:
            return f"{low}<n<{name}" if low else f"n<{name}"
        low = name
    return "1M<n<10M"


def _template() -> jinja2.Template:
    """Load the card's template; a name in it without a value is an error."""
    import jinja2

    source = resources.files("cytoimagenet_hf.hub").joinpath("_card.md.jinja").read_text("utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(source)
