"""The tables of the data set's card, each a generated part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cytoimagenet_hf.hub._facts import CardFacts, SourceFacts
from cytoimagenet_hf.hub._markdown import link, table, text
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.schema import CATEGORIES, SPLITS, TERMS

CONFIGS = {  # in the order of the card
    "default": "the crops as they were cut",
    "small": "longest side at most {small_side} pixels, by area averaging",
    "tiny": (
        "up to {tiny_labels} labels with up to {tiny_crops} crops each, longest side at most "
        "{tiny_side} pixels"
    ),
    "metadata": "all columns but the image, with the place of each image",
    "commercial": "the crops of `default` whose terms allow commercial use",
    "commercial_small": "the crops of `small` whose terms allow commercial use",
}

CLASSES_PICTURE, LABELS_PICTURE = "pictures/classes.png", "pictures/labels.png"

_ALT = {
    CLASSES_PICTURE: "rows of crops, a row for each of some classes of all categories",
    LABELS_PICTURE: "bars of crops by category, and columns of crops of each class",
}
_REASONS = {  # why a preset departs from the paper, by parameter
    "allocation": "proportional shares leave rare conditions without a place",
    "min_contrast": "a crop of noise alone shows nothing of its label",
    "min_crops": "a class with few crops can be left out by whoever loads it",
}
_OWN = "set for this build"
_REVISION = 16  # digits of a revision shown; build.json has it whole
_SMALL = 100_000  # bytes under which MB with one digit say too little


def declared_files(facts: CardFacts) -> dict[str, dict[str, Sequence[str]]]:
    """Return the configs and splits that have files, in the order of the card."""
    found = {
        config: {split: splits[split] for split in sorted(splits, key=split_order) if splits[split]}
        for config, splits in sorted(facts.data_files.items(), key=lambda one: config_order(one[0]))
    }
    return {config: splits for config, splits in found.items() if splits}


def sizes_part(facts: CardFacts) -> str:
    """Tell rows and bytes by config, split and terms."""
    ordered = sorted(
        (size for size in facts.sizes if size.rows),
        key=lambda one: (
            config_order(one.config),
            split_order(one.split),
            TERMS.index(one.terms),
        ),
    )
    rows = [
        (f"`{one.config}`", one.split, one.terms, f"{one.rows:,}", megabytes(one.bytes))
        for one in ordered
    ]
    told = table(("config", "split", "terms", "crops", "size"), rows, right=2)
    return f"<details><summary>Sizes by split and terms</summary>\n\n{told}\n\n</details>"


def configs_part(facts: CardFacts) -> str:
    """Tell what each config holds and what loading it transfers, and what one source does."""
    rows = [
        (
            f"`{config}`",
            megabytes(bytes_of(facts, config)),
            f"{rows_of(facts, config):,}",
            _what(facts, config),
        )
        for config in declared_files(facts)
    ]
    told = table(("config", "load transfers", "crops", "what"), rows)
    parts = [told]
    if facts.transfers:
        parts.append(_one_source(facts))
    if shown := [one for one in declared_files(facts) if one in facts.embeddings]:
        parts.append(_embeddings(facts, shown))
    return "\n\n".join(parts)


def _embeddings(facts: CardFacts, shown: Sequence[str]) -> str:
    """Tell what encoder each config of embeddings is of."""
    rows = []
    for config in shown:
        one = facts.embeddings[config]
        rows.append(
            (
                f"`{config}`",
                text(one.encoder),
                f"`{text(one.revision[:_REVISION])}`",
                f"{one.dim:,} {one.dtype}",
                f"`{one.config}`, {text(one.mode)}",
                text(one.license) or "not stated",
            )
        )
    names = ("config", "encoder", "revision", "dimensions", "images", "license of the weights")
    return (
        "Embeddings stand beside the images, so that nobody needs a GPU to start. Columns: "
        "`image_id`, `label`, `embedding`, and `pixel_sha256` of the image that it came from.\n\n"
        + table(names, rows)
    )


def _what(facts: CardFacts, config: str) -> str:
    defaults = {"small_side": 256, "tiny_side": 128, "tiny_labels": 100, "tiny_crops": 100}
    if config in facts.embeddings:
        return "embeddings of the crops, see below"
    return CONFIGS.get(config, "").format_map({**defaults, **facts.parameters})


def _one_source(facts: CardFacts) -> str:
    """Tell what loading one source alone transfers: of the smallest, and of the largest."""
    alone: Counter[str] = Counter()
    for (source, _), count in facts.transfers.items():
        alone[source] += count
    ordered = sorted(alone, key=lambda one: (alone[one], one))
    ends = [f"{megabytes(alone[one])} (`{text(one)}`)" for one in (ordered[0], ordered[-1])]
    span = ends[0] if len(ordered) == 1 else f"from {ends[0]} to {ends[1]}"
    return (
        f"One source alone, by `cytoimagenet_hf.load_dataset(sources=[...])`, transfers the row "
        f"groups of `default` that hold some of it: {span}; all of them stand in the table of "
        f"sources."
    )


def labels_part(facts: CardFacts) -> str:
    """Tell the classes: in pictures, by category, and each one."""
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
    shown = [_picture(path, facts) for path in (LABELS_PICTURE, CLASSES_PICTURE)]
    return "\n\n".join(
        [
            *([shown[0]] if shown[0] else []),
            table(("category", "labels", "fields", "crops"), summary, right=3),
            *([shown[1]] if shown[1] else []),
            f"<details><summary>All {len(all_labels):,} labels</summary>",
            table(("integer", "label", "category", "fields", "crops"), all_labels, right=2),
            "</details>",
        ]
    )


def _picture(path: str, facts: CardFacts) -> str:
    """Refer to a picture beside the card, with the text for those who don't see it."""
    if path not in facts.pictures:
        return ""
    mark = "Simulated data: " if facts.simulated else ""
    return f"![{mark}{_ALT[path]}]({path})"


def sources_part(facts: CardFacts) -> str:
    """Tell license, citation and size of each source; folded, as it is long."""
    rows = [
        (
            f"`{text(one.name)}`",
            link(one.title, one.page),
            text(one.database),
            link(one.license, terms_of(one.license).url),
            one.terms,
            f"{one.fields:,}",
            f"{one.crops:,}",
            _alone(facts, one),
            text(one.citation),
        )
        for one in sorted(facts.sources, key=lambda one: (one.name, one.license))
    ]
    names = (
        "source", "title", "database", "license", "terms", "fields", "crops", "load alone",
        "citation",
    )  # fmt: skip
    count = counted(len({one.name for one in facts.sources}), "source", "sources")
    return "\n\n".join(
        [
            _licenses(facts),
            f"<details><summary>{count} with license and citation</summary>",
            table(names, rows),
            "</details>",
        ]
    )


def _alone(facts: CardFacts, one: SourceFacts) -> str:
    count = facts.transfers.get((one.name, one.license))
    return "" if count is None else megabytes(count)


def _licenses(facts: CardFacts) -> str:
    """Sum up sources and crops by license."""
    rows = []
    for license in sorted({one.license for one in facts.sources}):
        own = [one for one in facts.sources if one.license == license]
        terms, crops = own[0].terms, sum(one.crops for one in own)
        shown = link(license, terms_of(license).url)
        rows.append((shown, terms, f"{len({one.name for one in own}):,}", f"{crops:,}"))
    return table(("license", "terms", "sources", "crops"), rows, right=2)


def build_part(facts: CardFacts) -> str:
    """Tell the parameters beside the paper's, the differing ones first, ours, and the versions."""
    same, differing, ours = [], [], []
    for name in sorted(facts.parameters):
        here, paper = _value(facts.parameters[name]), _value(facts.paper.get(name, ""))
        if name not in facts.paper:
            ours.append((text(name), here))
        elif facts.parameters[name] == facts.paper[name]:
            same.append((text(name), here))
        else:
            differing.append((text(name), f"**{here}**", paper, _REASONS.get(name, _OWN)))
    versions = ", ".join(f"{name} {facts.versions[name]}" for name in sorted(facts.versions))
    return "\n\n".join(
        [
            f"Seed {facts.seed}.",
            table(("parameter", "here", "paper", "why"), differing)
            if differing
            else "No parameter is other than in the paper.",
            *_folded("Parameters that are as in the paper", same),
            *_folded("Parameters of ours, which the paper doesn't have", ours),
            f"Made with {text(versions)}." if versions else "Versions were not recorded.",
        ]
    )


def _folded(summary: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    told = table(("parameter", "value"), rows)
    return [f"<details><summary>{summary}</summary>", told, "</details>"]


def exclusions_part(facts: CardFacts) -> str:
    """Count what was left out by stage and reason."""
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


def bytes_of(facts: CardFacts, config: str) -> int:
    """Sum up the files of a config."""
    return sum(size.bytes for size in facts.sizes if size.config == config)


def rows_of(facts: CardFacts, config: str) -> int:
    """Sum up the rows of a config."""
    return sum(size.rows for size in facts.sizes if size.config == config)


def counted(number: int, one: str, many: str) -> str:
    """Write a number with its noun."""
    return f"{number:,} {one if number == 1 else many}"


def megabytes(count: int) -> str:
    """Write bytes as MB of 10^6, few ones as kB."""
    return f"{count / 1e6:,.1f} MB" if count >= _SMALL else f"{count / 1e3:,.0f} kB"


def config_order(config: str) -> tuple[int, str]:
    """Order configs as `CONFIGS` does, others behind by name."""
    return (list(CONFIGS).index(config) if config in CONFIGS else len(CONFIGS), config)


def split_order(split: str) -> tuple[int, str]:
    """Order splits as the schema does."""
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)
