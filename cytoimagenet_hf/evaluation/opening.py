"""Which tasks are scored, and where their images are found."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cytoimagenet_hf.errors import TaskNotFoundError
from cytoimagenet_hf.evaluation import tasks as known
from cytoimagenet_hf.evaluation.records import Images, Planes, Task
from cytoimagenet_hf.sources._tables import error_at, read_table

_SEVERAL = "|"  # between the values of a cell that has several


@dataclass(frozen=True, slots=True)
class Opened:
    """A task whose images were found."""

    task: Task
    images: Images


def open_tasks(roots: Sequence[str], names: Sequence[str] = ()) -> tuple[list[Opened], list[str]]:
    """Open tasks in the folders where they lie.

    Args:
        roots: folders that hold a folder for each task, or NAME=FOLDER.
        names: of tasks; none: all.

    Returns:
        Those that were found, and what is said of each that wasn't.

    Raises:
        ValueError: no task has such a name, or a root is no folder.
        TableError: a table of a task is damaged.
    """
    places = [_place(root) for root in roots]
    for name in [own for own, _ in places if own] + list(names):
        known.get(name)  # a name that nobody has would be passed over silently
    opened, missing = [], []
    for name in dict.fromkeys(names or known.names()):
        task = known.get(name)
        try:
            images = task.open(_find(name, places))
        except TaskNotFoundError as error:
            missing.append(str(error))
        else:
            opened.append(Opened(task, images))
    return opened, missing


def read_labels(path: Path) -> Images:
    """Read labels of images of which only features are at hand.

    Args:
        path: a table (CSV, TSV; plain, .gz or .xz) with columns `id` and `label`, `split` where a
            protocol has parts, and the keys that it excludes, averages or resamples by (compound,
            batch, treatment, well ...). Several values of a cell stand between `|`.

    Raises:
        TableError: a column is missing, an id is empty or occurs twice.
    """
    table = read_table(path, columns=("id", "label"))
    rows: dict[str, dict[str, str]] = {}
    for row in table.rows:
        name = row.cells["id"].strip()
        if not name or name in rows:
            raise error_at(path, row.line, f"the id {name!r} is empty or occurs twice.")
        rows[name] = {column: value.strip() for column, value in row.cells.items()}
    ids = tuple(sorted(rows))
    keys = [column for column in table.columns if column not in ("id", "label", "split")]
    return Images(
        ids=ids,
        labels=tuple(rows[name]["label"] for name in ids),
        splits=tuple(rows[name].get("split", "") for name in ids),
        keys={key: tuple(_value(rows[name][key]) for name in ids) for key in keys},
        read=_no_pixels,
    )


def _value(cell: str) -> str | frozenset[str]:
    return frozenset(cell.split(_SEVERAL)) if _SEVERAL in cell else cell


def _no_pixels(row: int) -> Planes:
    raise TaskNotFoundError(f"Image {row} stands in a table of labels; its pixels aren't here.")


def _place(root: str) -> tuple[str, Path]:
    """Split NAME=FOLDER, where NAME is that of a task; an existing folder is never split."""
    own, equals, rest = root.partition("=")
    name, folder = (own, Path(rest)) if equals and not Path(root).is_dir() else ("", Path(root))
    if not folder.is_dir():
        raise ValueError(f"--data-root {root}: {folder} is no folder.")
    return name, folder


def _find(name: str, places: Sequence[tuple[str, Path]]) -> Path:
    """Return the folder of a task: its own, else the first root that has it, else the first's."""
    own = [folder for task, folder in places if task == name]
    shared = [folder / name for task, folder in places if not task]
    there = [folder for folder in shared if folder.is_dir()]
    return next(iter([*own, *there, *shared]), Path(name))
