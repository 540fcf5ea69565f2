"""The plan: which record gets which label, how many windows, and in which chunk it is rendered.

`plan.parquet` and `plan_labels.parquet` in the work folder; `plan.json` keeps what they were made
from. Pixels aren't touched, and nothing here looks at the disk but the catalogs.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cytoimagenet_hf import __version__, files, hashing
from cytoimagenet_hf.curation.catalog import planned_fields, usable_records
from cytoimagenet_hf.curation.jobs import ChunkJob, PlaneJob, RecordJob
from cytoimagenet_hf.curation.labels import Fields, LabelRow, Plan, plan_labels
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.releases import Release, pins_of

PLANNED_LABELS = "plan_labels.parquet"
PLAN = pa.schema(
    [
        ("id", pa.string()),
        ("field", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("label", pa.int32()),  # index into the label report; -1: none
        ("wanted", pa.int8()),  # windows; 0 where the record is published already
        ("chunk", pa.dictionary(pa.int32(), pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """The plan of a build."""

    table: pa.Table  # schema PLAN, a row for each record that can be rendered
    labels: tuple[LabelRow, ...]
    signature: str
    is_new: bool  # False: the one on disk was still right


def make_plan(
    catalog: pa.Table,
    signatures: Sequence[str],
    parameters: Parameters,
    work: Path,
    base: Release | None = None,
) -> LabelPlan:
    """Plan labels and windows, or take the plan on disk if nothing has changed.

    Args:
        catalog: of all sources.
        signatures: of the catalogs, in order of their sources.
        parameters: thresholds and seed.
        work: folder of the plan.
        base: published release that the build goes on from.
    """
    before = [base.manifest_sha256] if base else []
    signature = hashing.fingerprint([__version__, *signatures, *_planning(parameters), *before])
    paths = work / "plan.parquet", work / PLANNED_LABELS
    known = files.read_json(work / "plan.json")
    if known and known["signature"] == signature and all(path.exists() for path in paths):
        return LabelPlan(pq.read_table(paths[0]), planned_labels(work), signature, is_new=False)
    fields, of_row = planned_fields(catalog)
    records = usable_records(catalog, ["id", "field", "source"])
    pins = pins_of(base, records["id"].to_pylist(), of_row.tolist()) if base else None
    plan = plan_labels(fields, parameters, pins)
    table = _plan_table(records, fields, of_row, plan, parameters)
    if base:
        table = _without_published(table, base)
    files.forget(work / "plan.json")
    for path, content in zip(paths, (table, _label_rows(plan.labels)), strict=True):
        with files.replacing(path) as aside:
            pq.write_table(content, aside, compression="zstd")
    files.write_json(work / "plan.json", {"signature": signature})
    return LabelPlan(table, plan.labels, signature, is_new=True)


def planned_labels(work: Path) -> tuple[LabelRow, ...]:
    """Read the labels of the plan in a work folder; their crops are not counted yet."""
    rows = pq.read_table(work / PLANNED_LABELS).to_pylist()
    return tuple(LabelRow(**{**row, "sources": tuple(row["sources"])}) for row in rows)


def chunk_jobs(
    catalog: pa.Table, plan: LabelPlan, roots: dict[str, Path], parameters: Parameters, to: Path
) -> list[ChunkJob]:
    """Turn a plan into pieces of work, in order of their names.

    Args:
        catalog: of all sources.
        plan: the plan.
        roots: raw folder of each source.
        parameters: thresholds and seed.
        to: folder of the rendered chunks.
    """
    planned = wanted_records(plan.table)
    planes = catalog.select(["id", "planes"]).filter(
        pc.is_in(catalog["id"], value_set=planned["id"].combine_chunks())
    )
    of_record = dict(zip(planes["id"].to_pylist(), planes["planes"].to_pylist(), strict=True))
    records: dict[tuple[str, str], list[RecordJob]] = {}
    columns = (planned[name].to_pylist() for name in ("id", "source", "wanted", "chunk"))
    for idx, source, wanted, chunk in zip(*columns, strict=True):
        job = RecordJob(idx, tuple(_plane(one) for one in of_record[idx]), wanted)
        records.setdefault((chunk, source), []).append(job)
    return [
        ChunkJob(chunk, roots[source], tuple(jobs), parameters, to)
        for (chunk, source), jobs in sorted(records.items())
    ]


def wanted_records(plan: pa.Table) -> pa.Table:
    """Rows of the plan that ask for pixels."""
    return plan.filter(pc.and_(pc.greater_equal(plan["label"], 0), pc.greater(plan["wanted"], 0)))


def _plane(cell: dict[str, object]) -> PlaneJob:
    box = cell["box"]
    return PlaneJob(
        path=str(cell["path"]),
        stain=str(cell["stain"]),
        page=int(str(cell["page"])),
        series=int(str(cell["series"])),
        box=tuple(box) if box else None,  # type: ignore[arg-type]
    )


def _plan_table(
    usable: pa.Table, fields: Fields, of_row: np.ndarray, plan: Plan, parameters: Parameters
) -> pa.Table:
    """Spread the labels of fields to their records, and put fields into chunks."""
    label = plan.assigned[of_row]
    wanted_of = [*(parameters.crops_wanted(one.assigned) for one in plan.labels), 0]
    chunk, names = _chunks(fields, parameters.chunk_fields)
    return pa.table(
        {
            **{name: usable[name] for name in usable.column_names},
            "label": label,
            "wanted": np.array(wanted_of, np.int8)[label],
            "chunk": pa.DictionaryArray.from_arrays(chunk[of_row], pa.array(names, pa.string())),
        }
    ).cast(PLAN)


def _without_published(table: pa.Table, base: Release) -> pa.Table:
    """Want no windows of published records: they keep those that they have."""
    published = pa.array(sorted({one.idx for one in base.crops}))
    wanted = pc.if_else(
        pc.is_in(table["id"], value_set=published), pa.scalar(0, pa.int8()), table["wanted"]
    )
    return table.set_column(table.column_names.index("wanted"), "wanted", wanted).cast(PLAN)


def _chunks(fields: Fields, chunk_fields: int) -> tuple[np.ndarray, list[str]]:
    """Number the chunk of each field, and name the chunks: `<source>-<number in the source>`."""
    chunk = np.empty(len(fields), np.int32)
    names: list[str] = []
    # Ids begin with the source, so a source's fields are consecutive.
    sources, first = np.unique(fields.sources, return_index=True)
    for source, start in sorted(zip(sources, first, strict=True), key=lambda one: one[1]):
        within = np.arange(np.count_nonzero(fields.sources == source)) // chunk_fields
        chunk[start : start + len(within)] = len(names) + within
        name = fields.source_names[source]
        names += [f"{name}-{number:05d}" for number in range(within[-1] + 1)]
    return chunk, names


def _label_rows(labels: Sequence[LabelRow]) -> pa.Table:
    kinds = {"sources": pa.list_(pa.string())}
    names = [one.name for one in dataclasses.fields(LabelRow)]
    return pa.table(
        {
            name: pa.array([getattr(label, name) for label in labels], kinds.get(name))
            for name in names
        }
    )


def _planning(parameters: Parameters) -> list[str]:
    """Parameters that the plan depends on."""
    names = (
        "seed", "min_fields", "max_fields", "presample", "allocation",
        "crops_by_fields", "chunk_fields",
    )  # fmt: skip
    return [f"{name}={getattr(parameters, name)}" for name in names]
