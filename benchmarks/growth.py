"""A long build: memory in its two halves, a re-run with nothing to do, a source added.

    python benchmarks/growth.py --fields 20000 --workers 2

The real images are multiplied to as many fields as asked for, each copy with some bytes added at
its end, so that no two are duplicates (`--links` makes links instead, which are). `--small` takes
cells of 64 x 64 pixels only, for very many fields. Prints seconds, fields a second, peak memory,
and what was reused; `--json` prints JSON. Linux only: memory is read from /proc, without mapped
files (the rendered chunks), which the system drops when it needs room.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("CYTOIMAGENET_SHARED", _CHECKOUT.parent / "shared"))
MIXED = ("bbbc038", "bbbc022", "bbbc006", "bbbc007", "cellprofiler_examplehuman", "bccd")
SMALL = ("yeast_paired",)
ENDINGS = {".tif", ".tiff", ".png", ".jpg"}
LABELS = 20
INTERVAL = 0.2  # seconds between two looks at the memory


def multiply(to: Path, count: int, *, small: bool, links: bool) -> Path:
    """Write `count` image files and the table that names them."""
    folder = SHARED / "data" / "images"
    found = [
        path
        for name in (SMALL if small else MIXED)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in ENDINGS
    ]
    if not found:
        raise SystemExit(f"no real images in {folder} (set CYTOIMAGENET_SHARED)")
    to.mkdir()
    table = to / "fields.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "path", "phenotype", "organism", "modality", "group"])
        for number in range(count):
            source = found[number % len(found)]
            path = Path("images") / f"{number // 1000:04d}" / f"{number:07d}{source.suffix}"
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            if links:
                (to / path).symlink_to(source)
            else:
                (to / path).write_bytes(source.read_bytes() + f"copy {number}".encode())
            label = f"phenotype {number % LABELS:02d}"
            writer.writerow([f"f{number:07d}", path.as_posix(), label, "", "", f"g{number // 9}"])
    return table


def build(to: Path, table: Path, fields: int, workers: int, *more: str) -> dict[str, object]:
    """Run one build and watch the memory of its processes."""
    command = [
        sys.executable, "-m", "cytoimagenet_hf", "build", "--table", str(table), "--images",
        str(table.parent), "--output", str(to / "cytoimagenet"), "--workers", str(workers),
        "--min-fields", "10", "--max-fields", str(fields), "--set", f"presample={fields}",
        "--set", f"max_crops={4 * fields}", *more,
    ]  # fmt: skip
    start, seen = time.monotonic(), []
    with (to / "log.txt").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=_CHECKOUT)
        while running.poll() is None:
            seen.append((time.monotonic() - start, _memory(running.pid)))
            time.sleep(INTERVAL)
    if running.returncode:
        raise SystemExit((to / "log.txt").read_text()[-2000:])
    run = json.loads((to / "cytoimagenet.work" / "run.json").read_text())
    half = seen[-1][0] / 2
    first = max((memory for at, memory in seen if at <= half), default=(0.0, 0.0))
    return {
        "seconds": round(seen[-1][0], 1),
        "stages": run["seconds"],
        "rendered": run["rendered"],
        "reused": run["reused"],
        "dropped": run["dropped"],
        "parent_mb": round(max(memory[0] for _, memory in seen)),
        "largest_worker_mb": round(max(memory[1] for _, memory in seen)),
        "halves": round(
            max(sum(memory) for at, memory in seen if at > half) / max(sum(first), 1e-9), 2
        ),
    }


def _memory(parent: int) -> tuple[float, float]:
    """Anonymous resident megabytes of a process and of its largest child; 0 for what is gone."""
    children = [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if _field(path / "status", "PPid:") == parent
    ]
    sizes = [_field(Path(f"/proc/{one}/status"), "RssAnon:") / 1024 for one in (parent, *children)]
    return sizes[0], max(sizes[1:], default=0.0)


def _field(path: Path, name: str) -> int:
    try:
        line = next(line for line in path.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1])
    except (OSError, StopIteration):
        return 0


def main() -> None:
    """Build, build again, build with a source more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--links", action="store_true")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        to = Path(name)
        table = multiply(to / "raw", flags.fields, small=flags.small, links=flags.links)
        more = ("--data-root", str(SHARED / "data" / "images"), "--sources", "bbbc048")
        runs = {
            "first": build(to, table, flags.fields, flags.workers),
            "nothing to do": build(to, table, flags.fields, flags.workers),
            "bbbc048 added": build(to, table, flags.fields, flags.workers, *more),
        }
    if flags.json:
        print(json.dumps({"fields": flags.fields, "workers": flags.workers, "runs": runs}))
        return
    for run, told in runs.items():
        print(f"{run}: " + ", ".join(f"{key} {value}" for key, value in told.items()))


if __name__ == "__main__":
    main()
