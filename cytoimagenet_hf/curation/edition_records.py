"""The record of a build, build.json, of what is published of it.

It tells of nothing else: of builds without a published crop not even the name, of in-house data
neither names nor numbers.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from cytoimagenet_hf.curation.editions import SECRET, Edition, crops_by
from cytoimagenet_hf.curation.papers import class_ends


def published_record(edition: Edition, exclusions: Mapping[tuple[str, str], int]) -> dict[str, Any]:
    """The record of the build, of what is published; without the hashes of the card."""
    build = {**edition.papers.build, "counts": published_counts(edition)}
    lineage = build["lineage"] if edition.is_whole else published_lineage(edition)
    there = [one["build"] for one in lineage]
    if "embeddings" in build:
        build["embeddings"] = {
            config: about | {"builds": [name for name in about["builds"] if name in there]}
            for config, about in build["embeddings"].items()
            if config not in edition.without
        }
    if edition.is_whole:
        return build
    gone = edition.withheld_terms
    withheld = {**build.get("withheld", {}), **_withheld(edition)}
    build |= {
        "build": there[-1],
        "lineage": lineage,
        "inputs": _inputs(edition),
        "sources": published_sources(edition),
        "label_fields": {
            terms: counts for terms, counts in build["label_fields"].items() if terms not in gone
        },
        "exclusions": {
            f"{stage}: {reason}": count for (stage, reason), count in sorted(exclusions.items())
        },
        "withheld": {name: counts for name, counts in withheld.items() if name in there},
    }
    return build


def published_lineage(edition: Edition) -> list[dict[str, Any]]:
    """The builds with published crops, and how many.

    Of one without any not even the name stays, as the same crops, built again on what is published,
    get the same name. Where it added classes that later shards name, the next build keeps their
    number: classes are in order inside of each build alone.
    """
    crops = crops_by(edition, "build")
    kept: list[dict[str, Any]] = []
    before: list[int] = []
    for one in edition.papers.build["lineage"]:
        if count := crops[(one["build"],)]:
            before += one.get("classes_before", [])
            kept.append(one | {"crops": count} | ({"classes_before": before} if before else {}))
            before = []
        else:
            before += class_ends([one])
    return kept


def published_fields(edition: Edition) -> Counter[str]:
    """Count the fields with published crops of each label."""
    fields: Counter[str] = Counter()
    for terms, counts in edition.papers.build["label_fields"].items():
        if terms not in edition.withheld_terms:
            fields.update(counts)
    return fields


def published_counts(edition: Edition) -> dict[str, dict[str, int]]:
    """The counts of build.json that are published: config/split/terms -> rows, bytes."""
    counts: dict[str, dict[str, int]] = edition.papers.build["counts"]
    return {
        key: count
        for key, count in counts.items()
        if key.rpartition("/")[2] not in edition.withheld_terms
        and key.partition("/")[0] not in edition.without
    }


def published_sources(edition: Edition) -> list[dict[str, Any]]:
    """The sources of build.json that have published crops."""
    return [
        one for one in edition.papers.build["sources"] if one["terms"] not in edition.withheld_terms
    ]


def _inputs(edition: Edition) -> dict[str, dict[str, Any]]:
    """The inputs of build.json, without sources of which all is in-house."""
    hidden = edition.secret - {one["name"] for one in published_sources(edition)}
    return {
        name: known | {"licenses": [one for one in known.get("licenses", ()) if one != SECRET]}
        for name, known in edition.papers.build["inputs"].items()
        if name not in hidden
    }


def _withheld(edition: Edition) -> dict[str, dict[str, int]]:
    """Count the withheld crops by build and terms: such a build can't be named by its crops.

    In-house crops aren't counted, but their build is listed.
    """
    found: dict[str, dict[str, int]] = defaultdict(dict)
    names = ["build", "terms", "dir_name"]
    for row in edition.rows.group_by(names).aggregate([([], "count_all")]).to_pylist():
        if row["terms"] in edition.withheld_terms:
            counts = found[row["build"]]
            if row["dir_name"] not in edition.secret:
                counts[row["terms"]] = counts.get(row["terms"], 0) + row["count_all"]
    return {name: dict(sorted(counts.items())) for name, counts in found.items()}
