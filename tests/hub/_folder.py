"""A tiny curated folder, made by hand with pyarrow: what assembly writes, without assembly."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cytoimagenet_hf import schema
from cytoimagenet_hf.hub.cards import (
    CardFacts,
    LabelFacts,
    SizeFacts,
    SourceFacts,
    content_fingerprint,
    render_card,
)

LABELS = ("nucleus", "a|b", "<b>bold</b>")
# (name, split, terms, label): two splits, two terms classes
ROWS = (
    ("f1", "train", "open", 0),
    ("f2", "train", "open", 1),
    ("f3", "train", "local", 2),
    ("f4", "train", "local", 0),
    ("f5", "validation", "open", 0),
    ("f6", "validation", "local", 1),
)
SIDES = {"default": 80, "small": 40, "commercial": 80}


def png(side: int, value: int) -> bytes:
    """A gray square."""
    stream = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def row(name: str, terms: str, label: int, side: int) -> dict:
    """One published row, with the image; its gray value is the number in its name times ten."""
    value = 10 * int(name[1:])
    return {
        "image": {"bytes": png(side, value), "path": f"{name}.png"},
        "label": label,
        "category": schema.CATEGORIES.index("cell_visible"),
        "database": "made up",
        "name": "Made-up cells",
        "dir_name": "fake",
        "idx": f"fake/{name}",
        "image_id": f"fake/{name}#whole",
        "group": f"fake/{name}",
        **dict.fromkeys(("plate", "well", "site"), ""),
        **{category: [] for category in schema.CATEGORIES},
        "cell_visible": [LABELS[label]],
        "microscopy": "fluorescence",
        "channels": ["nucleus"],
        "crop": False,
        "scaling": 1.0,
        **dict.fromkeys(("x_min", "y_min"), 0),
        **dict.fromkeys(("x_max", "y_max"), 80),
        **dict.fromkeys(("height", "width"), side),
        "source_sha256": hashlib.sha256(name.encode()).hexdigest(),
        "pixel_sha256": hashlib.sha256(bytes([value])).hexdigest(),
        "license": {"open": "CC0 1.0", "local": "unknown"}[terms],
        "terms": terms,
    }


def write_shard(folder: Path, config: str, split: str, terms: str, rows=ROWS) -> list[str]:
    """Write the rows of one config, split and terms class; [] where there are none."""
    chosen = [(name, label) for name, s, t, label in rows if (s, t) == (split, terms)]
    if not chosen:
        return []
    bare = config == "metadata"
    side = SIDES.get(config, 80)
    table = [row(name, terms, label, side) for name, label in chosen]
    if bare:
        for at, one in enumerate(table):
            del one["image"]
            shard = f"data/default/{split}-{terms}-0badc0de-00000.parquet"
            one |= {"shard": shard, "row_group": 0, "row": at}
    features = schema.features(LABELS, image=not bare, pointers=bare)
    relative = f"data/{config}/{split}-{terms}-0badc0de-00000.parquet"
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table, schema=features.arrow_schema), path)
    return [relative]


def sums_of(folder: Path) -> dict[str, str]:
    """The sha256 of each shard, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def facts_for(folder: Path, data_files: dict, rows=ROWS, **changes) -> CardFacts:
    """Facts of the folder as assembly would give them."""
    sizes = [
        SizeFacts(
            config=config,
            split=split,
            terms=Path(path).name.split("-")[1],
            rows=pq.read_metadata(folder / path).num_rows,
            bytes=(folder / path).stat().st_size,
        )
        for config, splits in data_files.items()
        for split, paths in splits.items()
        for path in paths
    ]
    counts = [sum(label == number for *_, label in rows) for number in range(len(LABELS))]
    given = {
        "labels": [
            LabelFacts(label=label, category="cell_visible", fields=count, crops=count)
            for label, count in zip(LABELS, counts, strict=True)
        ],
        "sources": [
            SourceFacts(
                name="fake",
                title=f"Made-up cells ({terms})",
                database="made up",
                page="https://example.org/cells",
                license={"open": "CC0 1.0", "local": "unknown"}[terms],
                terms=terms,
                citation="Nobody et al. | 2020 <i>J Fake</i>",
                fields=sum(t == terms for _, _, t, _ in rows),
                crops=sum(t == terms for _, _, t, _ in rows),
            )
            for terms in ("open", "local")
        ],
        "sizes": sizes,
        "data_files": data_files,
        "fingerprint": content_fingerprint(sums_of(folder)),
        "parameters": {"min-fields": 10, "allocation": "equal"},
        "paper": {"min-fields": 287, "allocation": "equal"},
        "versions": {"pyarrow": "26.0.1"},
        "exclusions": {("rendering", "dim"): 12, ("assembly", "duplicate"): 3},
    }
    return CardFacts(**(given | changes))


def make_folder(folder: Path, rows=ROWS, **changes) -> Path:
    """Write shards, README.md and SHA256SUMS; configs default, small, metadata, commercial."""
    data_files = {}
    for config in ("default", "small", "metadata"):
        data_files[config] = {
            split: [
                path
                for terms in ("open", "local")
                for path in write_shard(folder, config, split, terms, rows)
            ]
            for split in schema.SPLITS
        }
    data_files["commercial"] = {
        split: [path for path in paths if "-open-" in path]
        for split, paths in data_files["default"].items()
    }
    card = render_card(facts_for(folder, data_files, rows, **changes))
    (folder / "README.md").write_text(card, encoding="utf-8", newline="\n")
    sums = "".join(f"{digest}  {path}\n" for path, digest in sums_of(folder).items())
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8", newline="\n")
    return folder
