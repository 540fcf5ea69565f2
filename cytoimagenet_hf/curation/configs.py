"""The configs of the data set: which rows and columns each holds (design 4)."""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from cytoimagenet_hf.curation import shards
from cytoimagenet_hf.curation.catalog import split_cell
from cytoimagenet_hf.curation.material import Material
from cytoimagenet_hf.curation.rendering import RenderedChunks
from cytoimagenet_hf.curation.selection import Crop
from cytoimagenet_hf.curation.shards import Part, Row, Shard
from cytoimagenet_hf.errors import BuildError
from cytoimagenet_hf.hub.licenses import commercial_terms, terms_of
from cytoimagenet_hf.schema import CATEGORIES, EMBEDDINGS, PUBLISHED_COLUMNS, SPLITS, features

_ORDER = ("default", "small", "tiny", "metadata", "commercial", "commercial_small")
_COMMERCIAL = {"default": "commercial", "small": "commercial_small"}  # same files, by their terms


class ConfigWriter:
    """Writes the Parquet files of all configs."""

    def __init__(
        self,
        material: Material,
        names: Mapping[int, str],
        split_of: Mapping[str, str],
        crops: Sequence[Crop],
        folder: Path,
    ) -> None:
        self._material, self._names, self._folder = material, names, folder
        self._base = material.base
        self._crops = [crop for crop in crops if not crop.is_published]
        self._split_of = split_of
        self._rendered = RenderedChunks(material.rendered)
        self._number = {label: number for number, label in enumerate(names)}
        self._catalog = _CatalogRows(material)
        self.build = shards.build_name(self._crops)

    def write_all(self) -> list[Shard]:
        """Write every config; `metadata` is gathered while `default` is written.

        Shards of the release that the build goes on from stay as they are. So does `tiny`: a later
        release adds nothing to it.
        """
        written = self._write_new()
        before = {shard.path for shard in self._base.shards} if self._base else set()
        if again := sorted(before & {shard.path for shard in written}):
            raise BuildError(f"{again[0]} would be written again; --base has this very build.")
        return [*(self._base.shards if self._base else ()), *written]

    def _write_new(self) -> list[Shard]:
        written: list[Shard] = []
        about: dict[Part, list[Row]] = defaultdict(list)
        parts = self._parts(self._crops)
        for shard, placed in shards.write_config(
            "default", parts, lambda crop: self._row(crop, ""), self._target("png")
        ):
            written.append(shard)
            about[shard.split, shard.terms] += [
                row | {"shard": shard.path, "row_group": group, "row": place}
                for _, row, group, place in placed
            ]
        schema = features(list(self._names.values()), image=False, pointers=True).arrow_schema
        for part, rows in sorted(about.items()):
            written.append(shards.write_metadata(part, rows, self._folder, schema, self.build))
        small = shards.write_config(
            "small", parts, lambda crop: self._row(crop, "small_"), self._target("small_png")
        )
        written += [shard for shard, _ in small]
        if self._base:
            return written
        tiny = shards.tiny_crops(self._crops, self._names, self._material.parameters)
        for shard, _ in shards.write_config(
            "tiny", self._parts(tiny), self._tiny_row, self._target("small_png")
        ):
            written.append(shard)
        return written

    def _parts(self, crops: Sequence[Crop]) -> dict[Part, list[Crop]]:
        parts: dict[Part, list[Crop]] = defaultdict(list)
        for crop in crops:
            parts[self._split_of[crop.group], crop.terms].append(crop)
        return parts

    def _target(self, column: str) -> shards.Target:
        return shards.Target(
            folder=self._folder,
            schema=features(list(self._names.values())).arrow_schema,
            build=self.build,
            parameters=self._material.parameters,
            bytes_of=lambda crop: int(self._rendered.sizes(crop.chunk, column)[crop.row]),
        )

    def _row(self, crop: Crop, config: str) -> Row:
        label = self._material.labels[crop.label]
        value = functools.partial(self._rendered.value, crop.chunk, crop.row)
        row = {
            "image": {
                "bytes": value(f"{config}png"),
                "path": shards.image_path(crop.image_id),
            },
            "label": self._number[crop.label],
            "category": CATEGORIES.index(label.category),
            "idx": crop.idx,
            "image_id": crop.image_id,
            "source_sha256": crop.source_sha256,
            "terms": crop.terms,
            **{
                name: value(name)
                for name in ("crop", "scaling", "x_min", "x_max", "y_min", "y_max")
            },
            **{name: value(f"{config}{name}") for name in ("height", "width", "pixel_sha256")},
            **self._catalog.row(crop.idx),
        }
        return {name: row[name] for name in PUBLISHED_COLUMNS}

    def _tiny_row(self, crop: Crop) -> Row:
        row = self._row(crop, "")
        encoded, height, width, sha256 = shards.tiny_image(
            row["image"]["bytes"], self._material.parameters.tiny_side
        )
        row["image"]["bytes"] = encoded
        return row | {"height": height, "width": width, "pixel_sha256": sha256}


class _CatalogRows:
    """Published columns that come from the catalog and the source."""

    _COLUMNS = ("group", "plate", "well", "site", "license", "modality", *CATEGORIES, "planes")

    def __init__(self, material: Material) -> None:
        table = material.catalog
        self._at = {idx: row for row, idx in enumerate(table["id"].to_pylist())}
        self._columns = {name: table[name].combine_chunks() for name in self._COLUMNS}
        self._sources = material.sources

    def row(self, idx: str) -> Row:
        """Columns of one record."""
        at = self._at[idx]
        cell = {name: column[at].as_py() for name, column in self._columns.items()}
        source = self._sources[idx.partition("/")[0]]
        return {
            "database": source.database,
            "name": source.title,
            "dir_name": source.name,
            "microscopy": cell["modality"],
            "channels": [plane["stain"] for plane in cell["planes"]],
            "license": terms_of(cell["license"]).license,
            **{name: cell[name] for name in ("group", "plate", "well", "site")},
            **{category: list(split_cell(cell[category])) for category in CATEGORIES},
        }


def data_files(written: Sequence[Shard]) -> dict[str, dict[str, list[str]]]:
    """Paths of each config and split; the commercial ones are made of shards of the others.

    In the order of their names, so that verification and publishing find the order of the build
    also where it went on from a release.
    """
    found: dict[str, dict[str, list[str]]] = {}
    embedded = sorted({one.config for one in written if one.config.startswith(EMBEDDINGS)})
    for config in (*_ORDER, *embedded):
        for split in SPLITS:
            paths = sorted(
                shard.path
                for shard in written
                if shard.split == split
                and (
                    shard.config == config
                    or (
                        _COMMERCIAL.get(shard.config) == config
                        and shard.terms in commercial_terms()
                    )
                )
            )
            if paths:
                found.setdefault(config, {})[split] = paths
    return found
