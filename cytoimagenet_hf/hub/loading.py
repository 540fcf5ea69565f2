"""Loading the data set by its name, from the place where it stands, and saying which that is."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub import fetching, selecting
from cytoimagenet_hf.hub._folders import declared_features, missing_files, read_configs
from cytoimagenet_hf.hub.places import NAME, CacheOpener, Place, locate

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

__all__ = ["load_dataset"]

logger = logging.getLogger("cytoimagenet_hf")


def load_dataset(  # noqa: PLR0913 - one call for users, all by name
    path: str | os.PathLike[str] = NAME,
    name: str | None = None,
    *,
    split: str | Sequence[str] | None = None,
    streaming: bool = False,
    revision: str | None = None,
    verify: bool = False,
    use: str = "",
    sources: str | Sequence[str] = (),
    **kwargs: Any,  # noqa: ANN401 - passed on to datasets
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """Load CytoImageNet from a folder, from where it was built or pulled, or from the Hub.

    The logger `cytoimagenet_hf` says which place was taken, as a warning where the caller didn't
    name it. See `locate` for the order.

    Args:
        path: a folder, a name ("cytoimagenet"), or an id on the Hub ("owner/name").
        name: config: default, small, tiny, metadata, commercial, commercial_small.
        split: "train" or "validation", a list of them, or None for both by name; without `use` and
            `sources` also what else `datasets` takes, as "train[:10]".
        streaming: read while iterating, without a copy in the cache of `datasets`.
        revision: branch, tag or commit on the Hub.
        verify: hash the files of the config first and compare them with SHA256SUMS; from the Hub
            they are fetched whole for it.
        use: only crops whose terms allow it: "commercial", or "sharing" of the crops.
        sources: only crops of these, or of this one, by short names; of the shards only the row
            groups that hold some of them are read.
        **kwargs: passed on to `datasets.load_dataset`.

    Returns:
        What `datasets.load_dataset` returns: a list, too, where `split` is one.

    Raises:
        DatasetNotAvailableError: it is nowhere, or the place found is not whole.
        ValueError: unknown config or split (as `datasets` says it), or a revision of a folder.
    """
    place = locate(path, revision=revision)
    level = logging.INFO if place.named else logging.WARNING
    logger.log(level, "Loading %s: %s", place.where, place.detail)
    if verify:
        also = ("metadata",) if sources else ()
        place = fetching.checked(place, name or "default", streaming=streaming, also=also)
    if use or sources:
        if kwargs:
            raise ValueError(f"{next(iter(kwargs))} can't be given along with use or sources.")
        choice = selecting.Choice(
            name=name or "default",
            sources=(sources,) if isinstance(sources, str) else tuple(sources),
            use=use,
            split=split,
            streaming=streaming,
        )
        return selecting.load_selected(*_opened(place), choice)
    import datasets

    given = {"split": split, "streaming": streaming, **kwargs}
    if place.kind == "hub":
        # The prefix keeps datasets from taking a folder of that name in the working folder.
        given |= {"path": f"hf://datasets/{place.where}", "revision": revision}
    elif place.kind == "cache":
        card = Path(place.where)
        given = {"data_files": _cached_files(card, name), **given, "path": place.where}
        given.setdefault("features", declared_features(card, name or "default"))
    else:
        given["path"] = place.where
    return datasets.load_dataset(name=name, **given)


def _opened(place: Place) -> tuple[selecting.Opener, Path]:
    """Say how files of a place are opened, and where its card is."""
    if place.kind == "hub":
        return selecting.HubOpener(place.where, place.commit), fetching.fetch_card(place)
    folder = Path(place.where)
    opener = CacheOpener(folder) if place.kind == "cache" else selecting.FolderOpener(folder)
    return opener, folder


def _cached_files(snapshot: Path, name: str | None) -> dict[str, list[str]]:
    """Return the files of one config in a snapshot, which holds whole only what was loaded once."""
    configs = read_configs(snapshot)
    config = name or "default"
    if config not in configs:
        raise ValueError(f"BuilderConfig {config!r} not found. Available: {list(configs)}")
    files = {
        one: [path for paths in splits.values() for path in paths]
        for one, splits in configs.items()
    }
    if missing := missing_files(snapshot, files[config]):
        whole = [one for one, paths in files.items() if not missing_files(snapshot, paths)]
        raise DatasetNotAvailableError(
            f"Config {config} is not whole in the local cache of the Hub ({snapshot}): "
            f"{len(missing)} of {len(files[config])} files are missing. Whole there: "
            f"{', '.join(whole) or 'none'}. Connect to the Hub to fetch the rest."
        )
    return {
        split: [(snapshot / path).as_posix() for path in paths]
        for split, paths in configs[config].items()
    }
