"""The plan of weak labels: against the paper's procedure, and alone on millions of records."""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import _records
import numpy as np
import pandas as pd
import pyarrow as pa
from _timing import Figure, Options, compare, run

from cytoimagenet_hf.curation import catalog as catalogs
from cytoimagenet_hf.curation import labels, planning
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.schema import CATEGORIES, JOINT

LIMITS = {  # records -> (seconds: must, aim; bytes of the process: must, aim)
    300_000: (2, 1, 0.6e9, 0.5e9),
    900_000: (5, 2.5, 0.9e9, 0.7e9),
    2_700_000: (8, 5, 1.2e9, 1.1e9),
    8_000_000: (30, 18, 3.5e9, 3e9),
}
GROWTH = (4.5, 3.5)  # time of 2.7 against 0.9 million records: must, aim


def paper(table: pd.DataFrame, parameters: Parameters) -> dict[str, int]:
    """Plan as the paper does: a mask over the whole table for each label, and a grouped sample."""
    cells = {category: table[category].str.split(JOINT).map(frozenset) for category in CATEGORIES}
    counts = Counter(
        (category, value)
        for category in CATEGORIES
        for cell in cells[category]
        for value in cell
        if value
    )
    used = np.zeros(len(table), bool)
    assigned = {}
    order = sorted(counts, key=lambda one: (counts[one], CATEGORIES.index(one[0]), one[1]))
    for category, value in order:
        if counts[category, value] < parameters.min_fields:
            continue
        free = table[cells[category].map(lambda cell, value=value: value in cell) & ~used]
        if len(free) < parameters.min_fields:
            continue
        if len(free) > parameters.max_fields:
            others = ["source", *(one for one in CATEGORIES if one != category)]
            groups = free.groupby(others)
            share = parameters.max_fields / len(free)
            free = groups.sample(frac=share, random_state=0)
        used[free.index] = True
        assigned[value] = len(free)
    return assigned


def check(fields: labels.Fields, parameters: Parameters) -> None:
    """Assert that the order of rows leaves no trace in the plan."""
    order = np.random.default_rng(1).permutation(len(fields))
    cells = {
        category: replace(one, codes=one.codes[order]) for category, one in fields.cells.items()
    }
    turned = replace(
        fields, hashes=fields.hashes[order], sources=fields.sources[order], cells=cells
    )
    plan, again = labels.plan_labels(fields, parameters), labels.plan_labels(turned, parameters)
    assert plan.labels == again.labels, "another report for another order of rows"
    assert np.array_equal(plan.assigned[order], again.assigned), (
        "another plan for another order of rows"
    )


def measure(options: Options) -> Iterator[Figure]:
    """Time against the baseline at 100,000 records, then by size in fresh processes."""
    rows = 5_000 if options.quick else 100_000
    parameters = Parameters(min_fields=30, max_fields=100) if options.quick else Parameters()
    table = _records.simulated(rows)
    check(catalogs.planned_fields(table)[0], parameters)
    columns = {name: table[name].cast("string") for name in ("source", *CATEGORIES)}
    frame = pa.table(columns).to_pandas().fillna("")
    yield compare(
        f"plan of {rows:,} records",
        lambda: paper(frame, parameters),
        lambda: labels.plan_labels(catalogs.planned_fields(table)[0], parameters),
        Options(min(options.rounds, 3), options.quick, options.big),
        must=20,
        aim=50,
        images=rows,
        stages={
            "strata": [(labels._Strata, name) for name in ("__init__", "fine", "coarse")],
            "index": [(labels._Index, name) for name in ("__init__", "rows", "potential")],
            "choice": [(labels, "allocate")],
            "table": [(labels, "Fields")],
        },
        note="simulated records",
    )
    sizes = [size for size in LIMITS if size <= 2_700_000 or options.big]
    spent = {}
    for size in [5_000] if options.quick else sizes:
        seconds, peak, where = alone(size)
        spent[size] = seconds
        must, aim, most, least = LIMITS.get(size, LIMITS[300_000])
        name = f"{size / 1e6:g} million records"
        note = "simulated records, catalog in memory; a process of its own"
        yield Figure(
            f"{name}: plan", seconds, "s", must, aim, False, None, seconds, size, where, note
        )
        yield Figure(f"{name}: peak", peak / 1e9, "GB", most / 1e9, least / 1e9, False)
    if 900_000 in spent:
        yield Figure(
            "time of 2.7 against 0.9 million",
            spent[2_700_000] / spent[900_000],
            "x",
            *GROWTH,
            False,
        )


def alone(rows: int) -> tuple[float, float, dict[str, float]]:
    """Read and plan in a fresh process; give seconds of the plan, peak memory, shares."""
    with tempfile.TemporaryDirectory() as temporary:
        _records.write(rows, Path(temporary))
        command = [sys.executable, __file__, "--alone", temporary]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(json.loads(done.stdout))


def plan_folder(folder: Path) -> None:
    """Plan the catalogs of a folder; print seconds, peak memory and shares as JSON."""
    start = time.perf_counter()
    table = catalogs.read_catalog(folder, _records.SOURCES)
    read = time.perf_counter()
    planning.make_plan(table, [], Parameters(), folder)
    done = time.perf_counter()
    shares = {"reading the catalog, not counted": round((read - start) / (done - read), 2)}
    print(json.dumps([done - read, _peak(), shares]))


def _peak() -> float:
    """Bytes that this process held at most."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it forked
        held = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        return 1024.0 * int(held[1])
    import resource

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        plan_folder(Path(sys.argv[2]))
    else:
        run(measure, __doc__)
