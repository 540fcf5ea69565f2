"""Render image files one by one within limits of memory and processor time; run as a program.

`python -m tests.imaging.hostile FOLDER TO` prints a line of JSON for each file of FOLDER: its name,
what became of it, the processor seconds that it took and the peak memory so far in MiB. The kernel
ends the program when a file takes too long; memory beyond the limit is a MemoryError.
"""

import json
import math
import resource
import sys
import time
from pathlib import Path

import pyarrow as pa

from cytoimagenet_hf.curation.jobs import ChunkJob, PlaneJob, RecordJob
from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.curation.rendering import render_chunk

SECONDS = 5.0  # of processor time a file
MEMORY = 3 << 29  # bytes above what the program takes at its start


def main() -> None:
    """Render all files of a folder."""
    folder, to = Path(sys.argv[1]), Path(sys.argv[2])
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else SECONDS
    limit = used() + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    for path in sorted(folder.iterdir()):
        start = time.process_time()
        soft = math.ceil(start + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
        told = {"name": path.name, "outcomes": outcomes(path, to)}
        told["seconds"] = round(time.process_time() - start, 2)
        told["peak"] = peak()
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def peak() -> int:
    """Peak memory of this program in MiB; getrusage would count what its parent had at the fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


def used() -> int:
    """Bytes of address space that this process takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def outcomes(path: Path, to: Path) -> list[str]:
    """Render a file as one record, through the whole chunk; return what its rows tell."""
    plane = PlaneJob(path=path.name, stain="nucleus", page=0, series=0, box=None)
    record = RecordJob(f"hostile/{path.name}", (plane,), 4)
    job = ChunkJob("hostile", path.parent, (record,), Parameters(), to)
    render_chunk(job, rehash=True)
    with pa.memory_map(str(to / "hostile.arrow")) as source:
        rows = pa.ipc.open_file(source).read_all().to_pylist()
    return [f"{row['reason'] or 'kept'}: {row['detail']}" for row in rows]


if __name__ == "__main__":
    main()
