"""Verification across files: the configs agree, ids are unique, splits hold, counts are right."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cytoimagenet_hf.curation.configs import data_files
from cytoimagenet_hf.curation.findings import Findings
from cytoimagenet_hf.curation.papers import BUILD, CARD, LABEL_REPORT, SUMS, Papers
from cytoimagenet_hf.curation.shardcheck import FACTS, NAME, ShardFacts
from cytoimagenet_hf.curation.shards import Shard
from cytoimagenet_hf.hashing import fingerprint
from cytoimagenet_hf.hub._embeddings import embeddings_of
from cytoimagenet_hf.hub.cards import content_fingerprint
from cytoimagenet_hf.hub.croissant import CROISSANT
from cytoimagenet_hf.schema import SPLITS

CONFIGS = ("default", "small", "metadata", "tiny")
Rows = dict[str, list[Any]]  # columns of FACTS, and `path`


def check_across(files: Sequence[ShardFacts], papers: Papers, findings: Findings) -> None:
    """Compare what the files hold with each other and with what the small files say.

    Args:
        files: all shards, in order of their paths.
        papers: the small files.
        findings: gets what is wrong.
    """
    named = [one for one in files if NAME.fullmatch(one.path)]
    _check_papers(named, papers, findings)
    by_config = {config: _rows(named, config) for config in CONFIGS}
    for config in CONFIGS:
        _check_unique(by_config[config], findings)
    broken = _incomplete(named, papers)
    whole = by_config["default"]
    first = dict(zip(whole["image_id"], range(len(whole["image_id"])), strict=True))
    for config in CONFIGS[1:]:
        _check_against(config, by_config[config], whole, first, findings)
        _check_lacking(config, by_config, broken, findings)
    _check_embeddings(named, papers, by_config, broken, findings)
    _check_splits(whole, findings)
    _check_labels(by_config, papers, findings)
    _check_duplicates(whole, findings)
    if "default" not in broken:
        _check_totals(whole, papers, findings)
        _check_build_names(named, papers, findings)


def check_sums(
    found: Mapping[str, str], papers: Papers, manifest_sha256: str, findings: Findings
) -> None:
    """Compare files with SHA256SUMS, and its own hash with the one that a build printed.

    Args:
        found: sha256 of each file of the folder but the shards, whose sums were compared already.
        papers: the small files.
        manifest_sha256: empty: not known.
        findings: gets what is wrong.
    """
    if manifest_sha256 and papers.manifest_sha256 != manifest_sha256.strip().lower():
        findings.add("manifest", manifest_sha256, papers.manifest_sha256, path=SUMS)
    for path, sha256 in sorted(papers.sums.items()):
        if path not in found:
            findings.add("missing file", sha256, path=path)
        elif found[path] and found[path] != sha256:
            findings.add("sha256 of the file", sha256, found[path], path=path)
    unlisted = found.keys() - papers.sums.keys() - {SUMS, CARD}
    for path in sorted(unlisted) if papers.sums else ():
        findings.add("file that SHA256SUMS doesn't list", path=path)


def _check_papers(files: Sequence[ShardFacts], papers: Papers, findings: Findings) -> None:
    """Card and build.json: the fingerprint, the generated parts, the files, the counts."""
    written = [_shard(one) for one in files]
    listed = {path: sha256 for path, sha256 in papers.sums.items() if NAME.fullmatch(path)}
    if papers.described and papers.described != listed:
        told = _difference(listed, papers.described)
        findings.add("hashes of the shards", *told, path=CROISSANT)
    claims = [
        (CARD, "fingerprint of the build", content_fingerprint(papers.sums), papers.card_build),
        (CARD, "generated parts", papers.build.get("card_sha256"), papers.card_sha256),
        (CARD, "files of the configs", data_files(written), papers.configs),
        (BUILD, "counts", _counts(written), papers.build.get("counts")),
    ]
    for path, what, expected, stated in claims:
        if expected != stated and (papers.build if path == BUILD else papers.configs):
            findings.add(what, *_difference(expected, stated), path=path)


def _shard(one: ShardFacts) -> Shard:
    name = NAME.fullmatch(one.path)
    config, split, terms = name.group("config", "split", "terms") if name else ("", "", "")
    return Shard(config, split, terms, one.path, one.rows, one.bytes)


def _counts(written: Sequence[Shard]) -> dict[str, dict[str, int]]:
    by_path = {shard.path: shard for shard in written}
    counts: dict[str, dict[str, int]] = {}
    for config, splits in data_files(written).items():
        for split, paths in splits.items():
            for shard in (by_path[path] for path in paths):
                one = counts.setdefault(f"{config}/{split}/{shard.terms}", {"rows": 0, "bytes": 0})
                one["rows"] += shard.rows
                one["bytes"] += shard.bytes
    return counts


def _difference(expected: object, stated: object) -> tuple[object, object]:
    """Of two mappings only the parts that differ; anything else as it is."""
    if not isinstance(expected, Mapping) or not isinstance(stated, Mapping):
        return expected, stated
    differing = sorted(
        str(key) for key in expected.keys() | stated.keys() if expected.get(key) != stated.get(key)
    )
    return tuple({key: one[key] for key in differing if key in one} for one in (expected, stated))  # type: ignore[return-value]


def _rows(files: Sequence[ShardFacts], config: str) -> Rows:
    own = [one for one in files if one.path.startswith(f"data/{config}/")]
    table = pa.concat_tables([FACTS.empty_table(), *(one.table for one in own)])
    columns: Rows = {name: table[name].to_pylist() for name in FACTS.names}
    columns["path"] = [one.path for one in own for _ in range(len(one.table))]
    return columns


def _at(rows: Rows, number: int) -> dict[str, Any]:
    """Where a row is, as arguments for `Findings.add`."""
    return {
        "path": rows["path"][number],
        "at": (rows["row_group"][number], rows["row"][number], rows["image_id"][number]),
    }


def _check_unique(rows: Rows, findings: Findings) -> None:
    seen: dict[str, int] = {}
    for number, image_id in enumerate(rows["image_id"]):
        if (first := seen.setdefault(image_id, number)) != number:
            findings.add("image_id comes twice", found=rows["place"][first], **_at(rows, number))


def _check_against(
    config: str, rows: Rows, whole: Rows, first: Mapping[str, int], findings: Findings
) -> None:
    """Compare a config with `default`: the same crops, columns, pixels and places."""
    smaller = {"small": "small_sha256", "tiny": "tiny_sha256"}.get(config)
    for number, image_id in enumerate(rows["image_id"]):
        of = first.get(image_id)
        if of is None:
            continue
        for what, ours, theirs in _claims(config, smaller):
            expected, found = whole[theirs][of], rows[ours][number]
            if expected and expected != found:
                findings.add(what, expected, found, **_at(rows, number))
        sides = [_part(one["path"][at]) for one, at in ((whole, of), (rows, number))]
        if sides[0] != sides[1]:
            findings.add("split and terms", *sides, **_at(rows, number))


def _check_lacking(
    config: str, by_config: Mapping[str, Rows], broken: Collection[str], findings: Findings
) -> None:
    """`small` and `metadata` hold the crops of `default`, and `tiny` some of them."""
    pairs = (
        [("default", config)] if config == "tiny" else [("default", config), (config, "default")]
    )
    for lacking, other in pairs:
        if lacking in broken:
            continue  # why was told already
        known = set(by_config[lacking]["image_id"])
        for number, image_id in enumerate(by_config[other]["image_id"]):
            if image_id not in known:
                findings.add(f"crop that `{lacking}` lacks", **_at(by_config[other], number))


def _incomplete(files: Sequence[ShardFacts], papers: Papers) -> set[str]:
    """Configs of which not all rows could be read; comparing numbers would only repeat it."""
    whole = {one.path for one in files if one.rows and len(one.table) == one.rows}
    named = {path for path in papers.sums if NAME.fullmatch(path)} | {one.path for one in files}
    return {path.split("/")[1] for path in named - whole}


def _claims(config: str, smaller: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield (what, column here, column of `default`) for what must be equal."""
    yield "columns other than in `default`", "shared_columns", "shared_columns"
    if smaller:
        yield "pixels other than those of `default`, averaged down", "pixel_sha256", smaller
    if config == "metadata":
        yield "columns other than in `default`", "all_columns", "all_columns"
        yield "pointer to the image", "place", "place"


def _part(path: str) -> tuple[str, str]:
    name = NAME.fullmatch(path)
    return (name["split"], name["terms"]) if name else ("", "")


def _check_embeddings(
    files: Sequence[ShardFacts],
    papers: Papers,
    by_config: Mapping[str, Rows],
    broken: Collection[str],
    findings: Findings,
) -> None:
    """Embeddings are of these pixels, and all crops of the builds that are listed have some."""
    for config, about in embeddings_of(papers.build).items():
        rows, whole = _rows(files, config), by_config[about.config]
        _check_unique(rows, findings)
        known = {
            image_id: (_home(path), label, sha256)
            for image_id, path, label, sha256 in _columns(
                whole, "image_id", "path", "label", "pixel_sha256"
            )
        }
        for number, image_id in enumerate(rows["image_id"]):
            found = _home(rows["path"][number]), rows["label"][number], rows["pixel_sha256"][number]
            expected = known.get(image_id)
            if expected is None and about.config not in broken:
                findings.add("embedding of no crop", **_at(rows, number))
            elif expected and expected != found:
                findings.add("embedding of another image", expected, found, **_at(rows, number))
        there = set(rows["image_id"])
        for number, image_id in enumerate(whole["image_id"] if config not in broken else ()):
            if image_id not in there and _home(whole["path"][number])[-1] in about.builds:
                findings.add(f"crop that `{config}` lacks", **_at(whole, number))


def _home(path: str) -> tuple[str, str, str]:
    name = NAME.fullmatch(path)
    return (name["split"], name["terms"], name["build"]) if name else ("", "", "")


def _check_splits(rows: Rows, findings: Findings) -> None:
    """No group stands on both sides."""
    sides: dict[str, str] = {}
    for number, (group, path) in enumerate(zip(rows["group"], rows["path"], strict=True)):
        split = _part(path)[0]
        if sides.setdefault(group, split) != split:
            findings.add("group in both splits", sides[group], group, **_at(rows, number))


def _check_labels(by_config: Mapping[str, Rows], papers: Papers, findings: Findings) -> None:
    """One label a record; its value is the record's own, or a sibling's of one field.

    Which records are siblings is not published. They share the group, and the sibling that
    carries the value may have been excluded under this label.
    """
    rows = by_config["default"]
    of_record: dict[str, int] = {}
    carried = {
        (group, label)
        for config in CONFIGS  # a sibling whose image is damaged can be read elsewhere
        for group, label, own in _columns(by_config[config], "group", "label", "carries")
        if own
    }
    for number, (idx, group, label, own) in enumerate(
        _columns(rows, "idx", "group", "label", "carries")
    ):
        if of_record.setdefault(idx, label) != label:
            findings.add("two labels of one record", of_record[idx], label, **_at(rows, number))
        if own or not 0 <= label < len(papers.classes) or (group, label) in carried:
            continue
        value = papers.classes[label].value
        if (idx.partition("/")[0], value) not in papers.excluded:
            findings.add("label that the record doesn't carry", found=value, **_at(rows, number))


def _check_totals(rows: Rows, papers: Papers, findings: Findings) -> None:
    """Crops of each label, some of them to train on."""
    counts = Counter(rows["label"])
    for label, one in enumerate(papers.classes):
        if counts[label] != one.crops:
            findings.add(f"crops of {one.text!r}", one.crops, counts[label], path=LABEL_REPORT)
    parts = (_part(path)[0] for path in rows["path"])
    trained = {
        label for label, split in zip(rows["label"], parts, strict=True) if split == SPLITS[0]
    }
    if papers.build.get("withheld"):
        return  # what there is to train on may not be published
    for label in sorted(counts.keys() - trained):
        findings.add("label without a crop in train", found=label, path=LABEL_REPORT)


def _columns(rows: Rows, *names: str) -> Iterable[tuple[Any, ...]]:
    return zip(*(rows[name] for name in names), strict=True)


def _check_duplicates(rows: Rows, findings: Findings) -> None:
    """No two records with the same raw bytes, and none with a crop of the same pixels."""
    for column in ("source_sha256", "pixel_sha256"):
        first: dict[str, str] = {}
        for number, (value, idx) in enumerate(_columns(rows, column, "idx")):
            if first.setdefault(value, idx) != idx:
                findings.add(f"{column} of two records", found=first[value], **_at(rows, number))


def _check_build_names(files: Sequence[ShardFacts], papers: Papers, findings: Findings) -> None:
    """A build is named by its crops and their pixels, those that were withheld included."""
    withheld = papers.build.get("withheld")
    withheld = withheld if isinstance(withheld, dict) else {}
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for one in files:
        name = NAME.fullmatch(one.path)
        if name and name["config"] == "default":
            ids, hashes = (one.table[key].to_pylist() for key in ("image_id", "pixel_sha256"))
            rows[name["build"]] += zip(ids, hashes, strict=True)
    for build, pairs in sorted(rows.items()):
        expected = fingerprint((text for pair in sorted(pairs) for text in pair), digits=8)
        if expected != build and build not in withheld:
            findings.add("name of the build", expected, build, path=BUILD)
    if papers.build and papers.build.get("build") not in rows:
        findings.add("name of the build", sorted(rows), papers.build.get("build"), path=BUILD)
