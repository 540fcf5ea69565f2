"""What a score's files hold on disk: bounded, typed JSON, and predictions as Parquet."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from cytoimagenet_hf import files
from cytoimagenet_hf.evaluation.scoring import Outcome

MOST_JSON = 16 << 20  # bytes; hundreds of thousands of classes
MOST_ROWS = 20_000_000
_KEY = b"cytoimagenet_predictions"
_COLUMNS = ("id", "truth", "predicted", "cluster", "reason")


def _is_whole(value: Any) -> bool:  # noqa: ANN401 - anything of JSON
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_bound(value: Any) -> bool:  # noqa: ANN401 - anything of JSON
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_text(value: Any) -> bool:  # noqa: ANN401 - anything of JSON
    return isinstance(value, str)


def _is_counts(value: Any) -> bool:  # noqa: ANN401 - anything of JSON
    return isinstance(value, dict) and all(map(_is_whole, value.values()))


def _is_classes(value: Any) -> bool:  # noqa: ANN401 - anything of JSON
    return isinstance(value, dict) and all(
        isinstance(one, list) and len(one) == 3 and all(map(_is_whole, one))
        for one in value.values()
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("task_version", "dim", "n", "correct", "clusters", "bank_size"), _is_whole),
    **dict.fromkeys(("identity", "task", "preset", "encoder", "mode", "interval", "ids"), _is_text),
    **dict.fromkeys(("low", "high", "seconds"), _is_bound),
    **dict.fromkeys(("unscorable", "left_out", "dropped"), _is_counts),
    "seed": lambda value: value is None or _is_whole(value),
    "simulated": lambda value: isinstance(value, bool),
    "classes": _is_classes,
    "protocol": lambda value: isinstance(value, dict),
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "parts": lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
}


def score_fields(path: Path, version: int) -> dict[str, Any]:
    """Read the JSON of a score; every field is there and of its type.

    Raises:
        ValueError: it isn't; names file and field.
    """
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON >> 20} MiB")
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(data, dict):
            raise ValueError("it holds no table of names and values")
        if data.pop("format", None) != version:
            raise ValueError(f"it isn't of format {version}, which this version reads")
        share = data.pop("accuracy", None)
        if odd := sorted(data.keys() ^ _FIELDS.keys()):
            raise ValueError(f"the field {odd[0]!r} is missing or unknown")
        for name, is_right in _FIELDS.items():
            if not is_right(data[name]):
                raise ValueError(f"{name!r} can't be {str(data[name])[:60]!r}")
        if data["n"] == 0 or share != data["correct"] / data["n"]:
            raise ValueError(f"accuracy {share} isn't {data['correct']} of {data['n']}")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} can't be read as a score: {error}. Remove it, and score again."
        ) from error
    data["classes"] = {label: tuple(counts) for label, counts in data["classes"].items()}
    data["parts"] = tuple(data["parts"])
    return data


def write_outcome(path: Path, outcome: Outcome, identity: str) -> None:
    """Write predictions: scored queries, then those that can't be scored with their reason."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lost = sorted(outcome.unscorable)
    empty: list[str | None] = [None] * len(lost)
    columns: dict[str, list[str | None]] = {
        "id": [*outcome.ids, *lost],
        "truth": [*outcome.truth, *empty],
        "predicted": [*outcome.predicted, *empty],
        "cluster": [*outcome.clusters, *empty],
        "reason": [*([None] * len(outcome.ids)), *(outcome.unscorable[one] for one in lost)],
    }
    about = {
        "identity": identity,
        "bank_size": outcome.bank_size,
        "left_out": dict(outcome.left_out),
    }
    schema = pa.schema(
        [pa.field(name, pa.string(), nullable=name != "id") for name in _COLUMNS],
        metadata={_KEY: json.dumps(about, sort_keys=True).encode()},
    )
    with files.replacing(path) as aside:
        pq.write_table(pa.table(columns, schema=schema), aside, write_page_checksum=True)


def read_outcome(path: Path, identity: str) -> Outcome:
    """Read predictions that belong to a score.

    Raises:
        ValueError: absent, damaged, too large, or of another score; names the file.
    """
    import pyarrow as pa

    try:
        table, about = _read(path)
        if about.get("identity") != identity:
            raise ValueError("it belongs to another score")
        return _outcome(table, about)
    except (OSError, pa.ArrowException, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} can't be read as predictions: {error}. Remove it, and score again."
        ) from error


def _read(path: Path) -> tuple[Any, dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        rows, schema = file.metadata.num_rows, file.schema_arrow
        if rows > MOST_ROWS:
            raise ValueError(f"it has {rows} rows")
        if tuple(schema.names) != _COLUMNS or {str(one.type) for one in schema} != {"string"}:
            raise ValueError(f"its columns are {schema.names}")
        about = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
        if not isinstance(about, dict):
            raise ValueError("its metadata are no table of names and values")
        return file.read(use_threads=False), about


def _outcome(table: Any, about: dict[str, Any]) -> Outcome:  # noqa: ANN401 - no types there
    columns = {name: table[name].to_pylist() for name in _COLUMNS}
    rows = list(zip(*columns.values(), strict=True))
    scored = [row[:4] for row in rows if row[4] is None]
    lost = {row[0]: row[4] for row in rows if row[4] is not None}
    if any(None in row for row in scored):
        raise ValueError("a scored query lacks its label or its prediction")
    if len({row[0] for row in rows}) != len(rows):
        raise ValueError("an id occurs twice")
    ids, truth, predicted, clusters = zip(*scored, strict=True) if scored else ((),) * 4
    bank_size, left_out = about.get("bank_size"), about.get("left_out")
    if not _is_whole(bank_size) or not isinstance(left_out, dict):
        raise ValueError("its metadata lack the size of the bank or what was left out")
    return Outcome(ids, truth, predicted, clusters, int(bank_size or 0), lost, left_out)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of a score")
