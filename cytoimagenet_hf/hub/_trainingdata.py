"""What a model was trained on: which data set and build, under which licenses, simulated or not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub._folders import build_of, is_of_others, read_configs
from cytoimagenet_hf.hub._generated import FRONT_MATTER, generated_parts
from cytoimagenet_hf.hub.places import Place, locate

_SHARD_TERMS = re.compile(r"/[a-z]+-(?P<terms>[a-z]+)-[0-9a-f]{8}-\d{5}\.parquet$")
_COLUMNS = ("name", "database", "license", "terms")

Fetch = Callable[[str], Path | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPart:
    """The training rows that one source gave under one license."""

    name: str  # of the source data set; "" where nobody knows
    database: str
    license: str  # as the data set words it
    crops: int  # 0 where nobody counted


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """The data set of a training run."""

    id: str  # on the Hub, or the folder's name
    on_hub: bool
    config: str = ""  # "" is the default
    revision: str = ""  # commit on the Hub
    build: str = ""  # fingerprint of all shards, as its card names it
    train_split: str = "train"
    validation_split: str = ""
    parts: Sequence[DataPart] = ()  # () where nothing is known of its terms
    simulated: bool = False
    note: str = ""  # why something isn't known


def read_run_data(settings: Mapping[str, object]) -> DataFacts:
    """Find out what can be known of the data set that the settings of a run name."""
    return read_data_facts(
        str(settings["dataset"]),
        config=str(settings.get("name", "")),
        revision=str(settings.get("revision", "")),
        train=str(settings.get("train_split", "train")),
        validation=str(settings.get("validation_split", "")),
    )


def read_data_facts(
    dataset: str, *, config: str = "", revision: str = "", train: str = "train", validation: str
) -> DataFacts:
    """Find out what can be known of a data set without reading an image.

    Of a curated data set the rows of the training split are counted by source and license; of any
    other only the license that its card names is known. A trained model must not be lost over its
    card, so nothing is raised: what went wrong is the `note`.

    Args:
        dataset: folder, name or Hub id, as `load_dataset` takes it.
        config: of the data set.
        revision: on the Hub.
        train: split trained on.
        validation: split validated on, or "".
    """
    shown = Path(dataset).name if re.search(r"[\\~]|^[./]", dataset) else dataset
    found: dict[str, Any] = {"id": shown, "on_hub": False}
    try:
        if is_of_others(dataset):
            fetch = _inside(folder := Path(dataset).expanduser())
            found["id"] = shown = folder.resolve().name
        else:
            fetch, found = _open_place(locate(dataset, revision=revision or None))
        found |= _read_card(fetch, config, train)
    except Exception as error:  # of the file system, Arrow, YAML or the transport
        first = str(error).splitlines()[0] if str(error) else ""
        found["note"] = f"{type(error).__name__}: {first}".replace(dataset, shown)
    return DataFacts(config=config, train_split=train, validation_split=validation, **found)


def _read_card(fetch: Fetch, config: str, split: str) -> dict[str, Any]:
    """What README.md tells, and the counts of a curated data set."""
    if (readme := fetch("README.md")) is None:
        return {"note": "the data set has no README.md"}
    card = front_matter(readme)
    simulated = "simulated" in (card.get("tags") or [])
    if build := _build(readme.parent):
        parts = _count(fetch, readme.parent, config, split)
        return {"simulated": simulated, "build": build, "parts": parts}
    license = str(card.get("license", ""))
    if license in ("", "other", "unknown"):
        return {"simulated": simulated, "note": "its card names no license"}
    part = DataPart(name="", database="", license=license, crops=0)
    return {"simulated": simulated, "parts": (part,)}


def _open_place(place: Place) -> tuple[Fetch, dict[str, Any]]:
    """How to get a file of the data set, and what its place tells."""
    folder = Path(place.where)
    if place.kind != "hub":
        if place.kind != "cache":
            return _inside(folder), {"id": folder.name, "on_hub": False}
        owner, name = folder.parent.parent.name.removeprefix("datasets--").split("--", 1)
        told = {"id": f"{owner}/{name}", "on_hub": True, "revision": folder.name}
        return _inside(folder), told
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    sha = place.detail.rpartition(" ")[2]

    def from_hub(path: str) -> Path | None:
        try:
            return Path(hf_hub_download(place.where, path, repo_type="dataset", revision=sha))
        except EntryNotFoundError:
            return None

    return from_hub, {"id": place.where, "on_hub": True, "revision": sha}


def _inside(folder: Path) -> Fetch:
    def fetch(path: str) -> Path | None:
        return folder / path if (folder / path).is_file() else None

    return fetch


def front_matter(readme: Path) -> dict[str, Any]:
    """Read the YAML block of a card."""
    found = yaml.safe_load(generated_parts(readme.read_text(encoding="utf-8"))[FRONT_MATTER])
    return found if isinstance(found, dict) else {}


def _build(folder: Path) -> str:
    """Name the build of a curated folder; "" of any other data set."""
    try:
        build = build_of(folder)
    except DatasetNotAvailableError:
        return ""
    return build if re.fullmatch(r"[0-9a-f]{32}", build) else ""


def _count(fetch: Fetch, folder: Path, config: str, split: str) -> tuple[DataPart, ...]:
    """Count the rows of a split by source and license."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    configs = read_configs(folder)
    wanted = configs.get(config or "default", {}).get(split, [])
    # The metadata of a config's shards is in config metadata, but for the chosen ones of tiny.
    terms = {hit["terms"] for path in wanted if (hit := _SHARD_TERMS.search(path))}
    paths = wanted if config == "tiny" else configs.get("metadata", {}).get(split, [])
    tables = [pq.read_table(at, columns=list(_COLUMNS)) for path in paths if (at := fetch(path))]
    if not tables:
        return ()
    rows = pa.concat_tables(tables).group_by(list(_COLUMNS))
    counts = rows.aggregate([([], "count_all")]).to_pylist()
    found: Counter[tuple[str, str, str]] = Counter()
    for row in counts:
        if row["terms"] in terms:
            found[row["name"], row["database"], row["license"]] += row["count_all"]
    return tuple(
        DataPart(name=name, database=database, license=license, crops=count)
        for (name, database, license), count in sorted(found.items())
    )
