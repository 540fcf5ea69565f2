"""The data set's card: README.md with the configs that `datasets` reads, and what a user must know.

A card depends on nothing but its facts: no date, no host. What was generated stands between
`<!-- generated:NAME -->` marks, so that the prose around it may be edited by hand and the rest can
still be verified (`generated_sha256`; build.json keeps it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import yaml

from cytoimagenet_hf.hub._facts import CardFacts, LabelFacts, SizeFacts, SourceFacts
from cytoimagenet_hf.hub._folders import content_fingerprint
from cytoimagenet_hf.hub._generated import (
    generated_parts,
    generated_sha256,
    line_feeds,
    marks,
    prose_sha256,
)
from cytoimagenet_hf.hub._markdown import link, table, text
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.schema import CATEGORIES, SPLITS, TERMS, features

if TYPE_CHECKING:
    import jinja2

__all__ = [
    "CardFacts",
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
]

_PLAIN_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*", re.ASCII)  # datasets reads paths as patterns
_TAGS = ("biology", "microscopy", "cell-biology", "bioimaging", "weakly-supervised")
_SIMULATED = (
    "> **SIMULATED PIXELS.** At least one source of this data set was simulated: its images show "
    "no real cells. It is for trying the software; no result on it says anything of biology."
)
_CONFIGS = {  # in the order of the card
    "default": "the crops as they were cut",
    "small": "longest side at most 256 pixels, by area averaging",
    "tiny": "up to 100 labels with up to 100 crops each, longest side at most 128 pixels",
    "metadata": "all columns but the image, with the place of each image",
    "commercial": "the crops of `default` whose terms allow commercial use",
    "commercial_small": "the crops of `small` whose terms allow commercial use",
}


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
        "sizes": _sizes(facts),
        "configs": _configs(facts),
        "labels": _labels(facts),
        "sources": _sources(facts),
        "build": _build(facts),
        "exclusions": _exclusions(facts),
    }
    return _template().render(parts)


def refresh_card(card: str, facts: CardFacts) -> str:
    """Return `card` with its generated parts made anew and the prose around them kept.

    Raises:
        ValueError: `card` lacks a generated part or its marks are broken.
    """
    new = generated_parts(render_card(facts))
    old = generated_parts(card)
    if missing := sorted(new.keys() - old.keys()):
        raise ValueError(
            f"The card lacks the generated part {', '.join(missing)}; make it anew without keeping "
            f"its prose, or put the marks back."
        )
    kept = line_feeds(card)
    for name, body in old.items():
        before, after = marks(name)
        kept = kept.replace(before + body + after, before + new.get(name, body) + after, 1)
    return kept


def _check(facts: CardFacts) -> None:
    declared = _declared(facts)
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


def _declared(facts: CardFacts) -> dict[str, dict[str, Sequence[str]]]:
    """Return the configs and splits that have files, in the order of the card."""
    found = {
        config: {
            split: splits[split] for split in sorted(splits, key=_split_order) if splits[split]
        }
        for config, splits in sorted(
            facts.data_files.items(), key=lambda one: _config_order(one[0])
        )
    }
    return {config: splits for config, splits in found.items() if splits}


def _front_matter(facts: CardFacts) -> str:
    configs = []
    for config, splits in _declared(facts).items():
        files = [{"split": split, "path": list(paths)} for split, paths in splits.items()]
        default = {"default": True} if config == "default" else {}
        # `datasets` names its cache of a folder by this block alone, not by the files' content or
        # place: without the fingerprint a rebuild under the same file names gives the old rows.
        build = {"description": f"build {facts.fingerprint}"}
        configs.append({"config_name": config, **default, **build, "data_files": files})
    block = {
        **_license(facts),
        "pretty_name": "CytoImageNet",
        "size_categories": [_size_category(_rows(facts, "default"))],
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
    for config in _declared(facts):
        is_about = config == "metadata"
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
    rows, labels = _rows(facts, "default"), sum(1 for one in facts.labels if one.crops)
    sources = len({source.name for source in facts.sources})
    held = (
        f"Weakly labeled microscopy images: {_count(rows, 'crop', 'crops')} in "
        f"{_count(labels, 'class', 'classes')} from {_count(sources, 'source', 'sources')}, made "
        f"by the method of [CytoImageNet](https://arxiv.org/abs/2111.11646)."
    )
    where = (
        f"It stands on the Hub as [{facts.hub_id}](https://huggingface.co/datasets/{facts.hub_id})."
        if facts.hub_id
        else "It is **not on the Hub yet**: it stands in the folder that holds this file."
    )
    lines = [held, where]
    if facts.simulated:
        lines.insert(0, _SIMULATED)
    return "\n\n".join(lines)


def _code(facts: CardFacts) -> str:
    split = next(iter(_declared(facts)["default"]))
    place = facts.hub_id or "cytoimagenet"
    note = "" if facts.hub_id else "  # beside the folder cytoimagenet"
    return (
        "from datasets import load_dataset\n"
        f'crops = load_dataset("{place}", split="{split}"){note}\n'
        'print(crops[0]["image"].size, crops.features["label"].int2str(crops[0]["label"]))'
    )


def _sizes(facts: CardFacts) -> str:
    ordered = sorted(
        (size for size in facts.sizes if size.rows),
        key=lambda one: (
            _config_order(one.config),
            _split_order(one.split),
            TERMS.index(one.terms),
        ),
    )
    rows = [
        (f"`{one.config}`", one.split, one.terms, f"{one.rows:,}", _megabytes(one.bytes))
        for one in ordered
    ]
    return table(("config", "split", "terms", "crops", "size"), rows, right=2)


def _configs(facts: CardFacts) -> str:
    rows = [
        (f"`{config}`", f"{_rows(facts, config):,}", _CONFIGS.get(config, ""))
        for config in _declared(facts)
    ]
    return table(("config", "crops", "what"), rows)


def _labels(facts: CardFacts) -> str:
    of = {one: [label for label in facts.labels if label.category == one] for one in CATEGORIES}
    summary = [
        (
            one,
            f"{len(held):,}",
            f"{sum(x.fields for x in held):,}",
            f"{sum(x.crops for x in held):,}",
        )
        for one, held in of.items()
    ]
    all_labels = [
        (str(number), text(one.label), one.category, f"{one.fields:,}", f"{one.crops:,}")
        for number, one in enumerate(facts.labels)
    ]
    return "\n\n".join(
        [
            table(("category", "labels", "fields", "crops"), summary, right=3),
            f"<details><summary>All {len(all_labels):,} labels</summary>",
            table(("integer", "label", "category", "fields", "crops"), all_labels, right=2),
            "</details>",
        ]
    )


def _sources(facts: CardFacts) -> str:
    rows = [
        (
            f"`{text(one.name)}`",
            link(one.title, one.page),
            text(one.database),
            link(one.license, terms_of(one.license).url),
            one.terms,
            f"{one.fields:,}",
            f"{one.crops:,}",
            text(one.citation),
        )
        for one in sorted(facts.sources, key=lambda one: (one.name, one.license))
    ]
    header = ("source", "title", "database", "license", "terms", "fields", "crops", "citation")
    return table(header, rows)


def _build(facts: CardFacts) -> str:
    rows = []
    for name in sorted(facts.parameters):
        here, paper = _value(facts.parameters[name]), _value(facts.paper.get(name, ""))
        differs = name in facts.paper and facts.parameters[name] != facts.paper[name]
        rows.append((text(name), f"**{here}**" if differs else here, paper))
    versions = ", ".join(f"{name} {facts.versions[name]}" for name in sorted(facts.versions))
    return "\n\n".join(
        [
            f"Seed {facts.seed}. Bold: other than in the paper.",
            table(("parameter", "here", "paper"), rows),
            f"Made with {text(versions)}." if versions else "Versions were not recorded.",
        ]
    )


def _exclusions(facts: CardFacts) -> str:
    if not facts.exclusions:
        return "Nothing was left out."
    rows = [
        (text(stage), text(reason), f"{count:,}")
        for (stage, reason), count in sorted(facts.exclusions.items())
    ]
    return table(("stage", "reason", "records or crops"), rows, right=1)


def _value(raw: object) -> str:
    if isinstance(raw, (list, tuple)):
        return text(", ".join(str(one) for one in raw))
    return text(str(raw))


def _rows(facts: CardFacts, config: str) -> int:
    return sum(size.rows for size in facts.sizes if size.config == config)


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _size_category(rows: int) -> str:
    """Name the range of rows as the Hub's cards do."""
    bounds = ((1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"))
    low = ""
    for bound, name in bounds:
        if rows < bound:
            return f"{low}<n<{name}" if low else f"n<{name}"
        low = name
    return "1M<n<10M"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _config_order(config: str) -> tuple[int, str]:
    return (list(_CONFIGS).index(config) if config in _CONFIGS else len(_CONFIGS), config)


def _split_order(split: str) -> tuple[int, str]:
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)


def _template() -> jinja2.Template:
    """Load the card's template; a name in it without a value is an error."""
    import jinja2

    source = resources.files("cytoimagenet_hf.hub").joinpath("_card.md.jinja").read_text("utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(source)
