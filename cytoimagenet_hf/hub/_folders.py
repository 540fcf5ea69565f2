"""Curated folders on this machine: what makes one whole, and which were built or pulled here."""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.files import read_json, write_json
from cytoimagenet_hf.hashing import fingerprint

Configs = dict[str, dict[str, list[str]]]  # config -> split -> relative paths

logger = logging.getLogger("cytoimagenet_hf")

_README_BYTES = 16 << 20  # a card of 10,000 labels and 10,000 shards has 2 MB
_SUM = re.compile(r"(?P<sum>[0-9a-f]{64}) [ *](?P<path>.+)")
_MADE_BY_BUILD = ("SHA256SUMS", "build.json")
_SHOWN = 3  # names of missing files in a message


def content_fingerprint(sums: Mapping[str, str]) -> str:
    """Return 32 hex digits over the shards of a folder, for `CardFacts.fingerprint`.

    Args:
        sums: relative path -> sha256; only the Parquet files under `data/` count.
    """
    shards = sorted(path for path in sums if _is_shard(path))
    return fingerprint(part for path in shards for part in (path, sums[path]))


def check_folder(folder: Path) -> Configs:
    """Return the configs of a curated folder after looking whether `datasets` will read it right.

    Nothing but names and the two small files is looked at; `cytoimagenet verify` reads the rest.

    Raises:
        DatasetNotAvailableError: README.md is absent or declares no configs, a script lies in the
            folder, shards are missing, or README.md is of another build than SHA256SUMS.
    """
    for script in sorted({f"{folder.resolve().name}.py", "cytoimagenet.py"}):
        if (folder / script).exists():
            raise DatasetNotAvailableError(
                f"{folder} holds {script}: `datasets` takes a folder with such a file for a "
                f"loading script and refuses it. Move the file away."
            )
    configs = read_configs(folder)
    sums = read_sums(folder / "SHA256SUMS")
    declared = {path for splits in configs.values() for paths in splits.values() for path in paths}
    shards = declared | {path for path in sums if _is_shard(path)}
    if missing := missing_files(folder, shards):
        raise DatasetNotAvailableError(
            f"{folder} is not whole: {len(missing)} of its {len(shards)} shards are missing "
            f"({_some(missing)}). Copy, build or pull it again."
        )
    if sums and content_fingerprint(sums) != build_of(folder):
        raise DatasetNotAvailableError(
            f"README.md and SHA256SUMS of {folder} are of different builds; `datasets` might "
            f"serve the rows of the old one from its cache. Copy, build or pull it again."
        )
    return configs


def read_configs(folder: Path) -> Configs:
    """Read which files each config and split consists of, from the YAML block of README.md.

    Raises:
        DatasetNotAvailableError: there is no README.md, it declares no configs in the form that
            our card has, or a path leaves the folder.
    """
    configs: Configs = {}
    try:
        for config in _config_blocks(folder):
            configs[config["config_name"]] = {
                one["split"]: list(one["path"]) for one in config["data_files"]
            }
    except (KeyError, TypeError) as error:
        raise DatasetNotAvailableError(
            f"{folder / 'README.md'}: its `configs` aren't of the form that a build writes "
            f"({type(error).__name__}: {error})."
        ) from None
    for path in (
        path for splits in configs.values() for paths in splits.values() for path in paths
    ):
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise DatasetNotAvailableError(
                f"{folder / 'README.md'}: the path {path!r} leaves the folder."
            )
    return configs


def is_of_others(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is a folder that no build of ours made, so that other rules hold for it.

    Folders of ours are checked for being whole and of one build first.
    """
    folder = Path(path).expanduser()
    return folder.is_dir() and not any((folder / name).exists() for name in _MADE_BY_BUILD)


def declared_features(folder: Path, config: str) -> Any:  # noqa: ANN401 - Features, or None
    """Return the features that README.md declares for a config; None where it leaves them to files.

    It declares them where shards of earlier releases name fewer classes than there are now.
    """
    import huggingface_hub
    from datasets.info import DatasetInfosDict

    info = _front_matter(folder).get("dataset_info")
    if not info:
        return None
    data = huggingface_hub.DatasetCardData(dataset_info=info)
    found = DatasetInfosDict.from_dataset_card_data(data).get(config)
    return found.features if found else None


def build_of(folder: Path) -> str:
    """Return the fingerprint of the build that README.md names; "" where it names none."""
    return str(_config_blocks(folder)[0].get("description", "")).removeprefix("build ")


def missing_files(folder: Path, paths: Iterable[str]) -> list[str]:
    """Return those of the relative paths that are no files, sorted."""
    return sorted(path for path in paths if not (folder / path).is_file())


def remember_folder(folder: Path) -> None:
    """Record a curated folder, so that `load_dataset` finds it by its name from anywhere.

    The last folder of a name wins. A home that can't be written to is said and not fatal: the
    folder itself is whole.
    """
    folder = folder.resolve()
    try:
        write_json(_record(), {**_recorded(), folder.name: str(folder)})
    except OSError as error:
        logger.warning("%s was not recorded for load_dataset: %s", folder, error)


def recorded_folder(name: str) -> Path | None:
    """Return the folder last recorded under `name`, whether or not it is still there."""
    return Path(found) if (found := _recorded().get(name)) else None


def _record() -> Path:
    home = os.environ.get("CYTOIMAGENET_HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home or Path(cache, "cytoimagenet")).expanduser() / "folders.json"


def _recorded() -> dict[str, str]:
    found = read_json(_record())
    if not isinstance(found, dict):
        return {}
    return {name: path for name, path in found.items() if isinstance(path, str)}


def _front_matter(folder: Path) -> dict[str, Any]:
    """Read the YAML block of README.md; {} where it isn't one of names and values."""
    readme = folder / "README.md"
    if not readme.is_file():
        raise DatasetNotAvailableError(
            f"{folder} has no README.md, which says which files belong to which config: `datasets` "
            f"would silently join them all. Name a folder that a build or pull made."
        )
    with readme.open(encoding="utf-8", errors="replace") as stream:
        text = stream.read(_README_BYTES)
    block = re.match(r"\ufeff?---\s*\n(?P<yaml>.*?\n)---\s*\n", text, re.DOTALL)
    try:
        found = yaml.safe_load(block["yaml"]) if block else None
    except yaml.YAMLError as error:
        raise DatasetNotAvailableError(f"{readme}: its YAML block is broken: {error}") from None
    return found if isinstance(found, dict) else {}


def _config_blocks(folder: Path) -> list[dict[str, Any]]:
    readme = folder / "README.md"
    configs = _front_matter(folder).get("configs")
    if not isinstance(configs, list) or not configs:
        raise DatasetNotAvailableError(
            f"{readme} declares no configs, so {folder} is not a curated data set (a checkout of "
            f"that name?). Name a folder that a build or pull made, or work from another folder."
        )
    return configs


def read_sums(path: Path) -> dict[str, str]:
    """Read `sha256sum` lines; {} where the file is absent (a cache of the Hub may lack it)."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {hit["path"]: hit["sum"] for line in lines if (hit := _SUM.fullmatch(line))}


def _is_shard(path: str) -> bool:
    return path.startswith("data/") and path.endswith(".parquet")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
