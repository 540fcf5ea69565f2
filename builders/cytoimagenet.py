"""A `datasets` builder over a curated folder, for those who want a builder object.

`load_dataset` needs none of this: a curated folder is plain Parquet and a card, and `datasets` runs
no scripts. Never copy this file into a data folder; `datasets` refuses folders that hold it.

    from builders.cytoimagenet import CytoImageNet

    builder = CytoImageNet(data_dir="cytoimagenet", config_name="small")
    builder.download_and_prepare()
    train = builder.as_dataset("train")
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from datasets.packaged_modules.parquet.parquet import Parquet

from cytoimagenet_hf.hub._folders import build_of, check_folder, declared_features


class CytoImageNet(Parquet):  # type: ignore[misc] # datasets ships no types
    """The `ArrowBasedBuilder` for Parquet, over one config of a curated folder.

    Shards are read row group by row group; features come from their metadata.

    Args:
        data_dir: the folder that `cytoimagenet build` wrote.
        config_name: one of the configs in its README.md.
        **kwargs: passed on (`cache_dir`, `columns`, `filters` ...).

    Raises:
        DatasetNotAvailableError: `data_dir` is not a whole curated folder.
        ValueError: the folder has no such config; those it has are named.
    """

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str],
        config_name: str = "default",
        **kwargs: Any,  # noqa: ANN401 - whatever the builder takes
    ) -> None:
        folder = Path(data_dir).expanduser().absolute()
        configs = check_folder(folder)
        if config_name not in configs:
            raise ValueError(
                f"BuilderConfig {config_name!r} not found in {folder}. Available: {list(configs)}"
            )
        files = {
            split: [(folder / path).as_posix() for path in paths]
            for split, paths in configs[config_name].items()
        }
        kwargs.setdefault("features", declared_features(folder, config_name))
        # The hash names the cache, so that a rebuild in place is read again.
        super().__init__(config_name=config_name, data_files=files, hash=build_of(folder), **kwargs)
