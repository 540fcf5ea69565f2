"""The description of the data set for machines: Croissant 1.0, JSON-LD beside the card.

Format: https://docs.mlcommons.org/croissant/docs/croissant-spec.html. Every shard is a file with
its hash, size, split and terms; the columns are those of config `default`. Like the card it depends
on nothing but facts, so it has no date.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cytoimagenet_hf.hub._cardparts import declared_files
from cytoimagenet_hf.hub._columns import MEANINGS
from cytoimagenet_hf.hub._facts import CardFacts
from cytoimagenet_hf.hub.licenses import terms_of
from cytoimagenet_hf.schema import CATEGORIES, features

CROISSANT = "croissant.json"

_PAPER = "https://arxiv.org/abs/2111.11646"
_CITE = (
    "Hua, S. B. Z., Lu, A. X., Moses, A. M.: CytoImageNet: A large-scale pretraining dataset for "
    f"bioimage transfer learning. LMRL Workshop, NeurIPS (2021). {_PAPER}"
)
_PARQUET = "application/x-parquet"
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {"string": "sc:Text", "int32": "sc:Integer", "float32": "sc:Float", "bool": "sc:Boolean"}


def render_croissant(facts: CardFacts, files: Mapping[str, tuple[str, int]]) -> str:
    """Return croissant.json for the facts of a card.

    Args:
        facts: of the card.
        files: relative path of each shard -> sha256 and bytes.

    Returns:
        JSON text; text from outside stands in strings alone.

    Raises:
        ValueError: the card declares a shard whose hash isn't given.
    """
    configs = declared_files(facts)
    declared = {path for splits in configs.values() for paths in splits.values() for path in paths}
    if missing := sorted(declared - files.keys()):
        raise ValueError(f"{missing[0]} is declared in the card and has no hash.")
    page = f"https://huggingface.co/datasets/{facts.hub_id}" if facts.hub_id else ""
    base = f"{page}/resolve/main/" if page else ""
    shown = [one for one in configs if not one.startswith("commercial")]  # files of others
    about = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": "CytoImageNet",
        "description": _description(facts),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": _licenses(facts),
        "url": page or _PAPER,
        "version": f"1.0.0+{facts.fingerprint}",
        "citeAs": _CITE,
        "keywords": ["microscopy", "cell biology", "weakly supervised"],
        "distribution": ([_repository(page)] if page else [])
        + [
            _file(path, f"config {config}, split {split}", files[path], base)
            for config in shown
            for split, paths in configs[config].items()
            for path in paths
        ]
        + [_file_set(split, inside="repo" if page else "") for split in configs["default"]],
        "recordSet": [
            _splits(list(configs["default"])),
            _labels(facts),
            *(_crops(facts, split) for split in configs["default"]),
        ],
    }
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def described_files(text: str) -> dict[str, str]:
    """Read back the sha256 of each shard by its path, from a file that nobody vouches for.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it isn't of the form that is written.
    """
    parts = json.loads(text)["distribution"]
    return {
        one["@id"]: one["sha256"]
        for one in parts
        if one.get("encodingFormat") == _PARQUET and one["@type"] == "cr:FileObject"
    }


def _description(facts: CardFacts) -> str:
    mark = "SIMULATED PIXELS, no real cells. " if facts.simulated else ""
    return (
        f"{mark}Weakly labeled microscopy images for pretraining, made by the method of "
        f"CytoImageNet ({_PAPER}). Each crop names its own license and terms."
    )


def _licenses(facts: CardFacts) -> list[str]:
    """Addresses of the licenses of all sources; the name of one that has none."""
    return sorted({terms_of(one.license).url or one.license for one in facts.sources})


def _file(path: str, what: str, known: tuple[str, int], base: str) -> dict[str, Any]:
    sha256, size = known
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "description": what,
        "contentUrl": base + path,
        "contentSize": f"{size} B",
        "encodingFormat": _PARQUET,
        "sha256": sha256,
    }


def _repository(page: str) -> dict[str, Any]:
    """Name the repository that the shards are in, in the form that the Hub itself uses."""
    return {
        "@type": "cr:FileObject",
        "@id": "repo",
        "name": "repo",
        "description": "The repository on the Hub.",
        "contentUrl": page,
        "encodingFormat": "git+https",
        "sha256": "https://github.com/mlcommons/croissant/issues/80",  # git names no such hash
    }


def _file_set(split: str, *, inside: str) -> dict[str, Any]:
    """Gather the shards of a split: of a repository, or those beside this file."""
    return {
        "@type": "cr:FileSet",
        "@id": f"default-{split}",
        "name": f"default-{split}",
        "description": f"shards of config default, split {split}",
        **({"containedIn": {"@id": inside}} if inside else {}),
        "encodingFormat": _PARQUET,
        "includes": f"data/default/{split}-*.parquet",
    }


def _splits(names: Sequence[str]) -> dict[str, Any]:
    uses = {"train": "cr:TrainingSplit", "validation": "cr:ValidationSplit"}
    rows = [{"splits/name": one, "splits/url": uses[one]} for one in names]
    fields = [_inline("splits", "name", "sc:Text"), _inline("splits", "url", "sc:URL")]
    return _records("splits", "splits", fields) | {
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "data": rows,
    }


def _labels(facts: CardFacts) -> dict[str, Any]:
    rows = [
        {"labels/integer": number, "labels/text": one.label, "labels/category": one.category}
        for number, one in enumerate(facts.labels)
    ]
    fields = [
        _inline("labels", "integer", "sc:Integer"),
        _inline("labels", "text", "sc:Text"),
        _inline("labels", "category", "sc:Text"),
    ]
    return _records("labels", "classes by their integers", fields) | {
        "dataType": "sc:Enumeration",
        "key": {"@id": "labels/integer"},
        "data": rows,
    }


def _crops(facts: CardFacts, split: str) -> dict[str, Any]:
    name = f"default-{split}-rows"
    columns = features([one.label for one in facts.labels])
    fields = [_column(name, split, column, feature) for column, feature in columns.items()]
    return _records(name, f"rows of config default, split {split}", fields)


def _records(name: str, what: str, fields: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": what,
        "field": list(fields),
    }


def _inline(records: str, name: str, kind: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{name}",
        "name": name,
        "description": name,
        "dataType": kind,
    }


def _column(records: str, split: str, name: str, feature: Any) -> dict[str, Any]:  # noqa: ANN401
    """Describe a column; `feature` is one of `datasets`."""
    kind = type(feature).__name__
    extract: dict[str, Any] = {"extract": {"column": name}}
    told: dict[str, Any] = {}
    if kind == "Image":
        data_type = "sc:ImageObject"
        extract["transform"] = {"jsonPath": "bytes"}
    elif kind == "ClassLabel":
        data_type = "sc:Integer"
    elif kind == "List":
        data_type, told = _TYPES[feature.feature.dtype], {"repeated": True}
    else:
        data_type = _TYPES[feature.dtype]
    if name == "label":
        told["references"] = {"field": {"@id": "labels/integer"}}
    meaning = MEANINGS[name]
    if name == "category":
        meaning += f": {', '.join(f'{number} {one}' for number, one in enumerate(CATEGORIES))}"
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{name}",
        "name": name,
        "description": meaning,
        "dataType": data_type,
        "source": {"fileSet": {"@id": f"default-{split}"}, **extract},
        **told,
    }
