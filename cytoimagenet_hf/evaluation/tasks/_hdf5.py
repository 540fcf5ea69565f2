"""HDF5 files from outside: opened without following links, held against limits before any read.

Keys are expected at the top of a file. What else a file may hold (attributes, which some libraries
fill with pickles, references, user-defined types) is never touched.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import ImageRefusedError, TaskNotFoundError
from cytoimagenet_hf.evaluation.records import Planes
from cytoimagenet_hf.evaluation.tasks._layout import two_copies
from cytoimagenet_hf.schema import Limits
from cytoimagenet_hf.sources import SourceFolder

if TYPE_CHECKING:
    import h5py

ENDINGS = ("hdf5", "h5")
MAX_ROWS = 1_000_000  # rows are numbered with six digits
_COLUMN = 64 << 20  # bytes, most of what is read whole
_CACHE = 64 << 20  # bytes of decompressed chunks that are kept
_SHOWN = 20  # keys in a message


class File:
    """An open HDF5 file and its name in messages."""

    def __init__(self, path: Path, keys: Iterable[str] = ()) -> None:
        """Open a file for reading.

        Args:
            path: the file.
            keys: that a task looks for, for messages.

        Raises:
            TaskNotFoundError: it isn't HDF5 or is damaged, or h5py isn't installed.
        """
        try:
            import h5py
        except ImportError as error:
            raise TaskNotFoundError(
                f"{path}: h5py, which reads HDF5, isn't installed: pip install h5py."
            ) from error
        self.path, self._wanted = path, tuple(keys)
        try:
            self._file = h5py.File(path, "r", rdcc_nbytes=_CACHE)
            self._names = sorted(self._file)
        except (OSError, RuntimeError, ValueError) as error:
            what = " ".join(str(error).split())
            raise TaskNotFoundError(
                f"{path}: can't be read as HDF5 ({what}). Fetch it again."
            ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._names  # h5py itself would resolve links and paths

    def keys_met(self) -> str:
        """List the keys at the top of the file, with shape and type of what is an array."""
        import h5py

        told = []
        for name in self._names[:_SHOWN]:
            link = self._file.get(name, getlink=True)
            kind = "a link" if not isinstance(link, h5py.HardLink) else "a group"
            if kind != "a link" and isinstance(one := self._file[name], h5py.Dataset):
                kind = f"{one.dtype} {one.shape}"
            told.append(f"{name[:80]!r} ({kind})")
        return ", ".join(told) + (", ..." if len(self._names) > _SHOWN else "") or "none"

    def array(self, key: str) -> "h5py.Dataset":
        """Return an array of the file, without reading it.

        Raises:
            TaskNotFoundError: there is none of that key, or it is one that isn't read: a link, an
                array kept in other files, one of objects, or one beyond the limits.
        """
        import h5py

        if key not in self:
            raise self.other(f"no key {key!r}")
        if not isinstance(self._file.get(key, getlink=True), h5py.HardLink):
            raise self.other(f"{key!r} is a link, which isn't followed")
        found = self._file[key]
        if not isinstance(found, h5py.Dataset):
            raise self.other(f"{key!r} is no array")
        if found.external or found.is_virtual:
            raise self.other(f"{key!r} is kept in other files")
        if found.dtype.kind not in "buifS" and not h5py.check_string_dtype(found.dtype):
            raise self.other(f"{key!r} holds {found.dtype}, which isn't read")
        rows, *sides = found.shape or (0,)
        most = Limits().decoded_bytes // found.dtype.itemsize
        if not 0 < rows < MAX_ROWS or not 0 < math.prod(sides) <= most:
            raise self.other(f"{key!r} has the shape {found.shape}, which is out of bounds")
        if math.prod(found.chunks or ()) > most:
            raise self.other(f"{key!r} is kept in pieces of {found.chunks}, which are too large")
        return found

    def column(self, key: str, *, dimensions: int = 1) -> npt.NDArray[Any]:
        """Read an array whole.

        Raises:
            TaskNotFoundError: see `array`; or it has other dimensions, or is too large.
        """
        found = self.array(key)
        if found.ndim != dimensions or found.size * found.dtype.itemsize > _COLUMN:
            raise self.other(f"{key!r} has the shape {found.shape} and is {found.dtype}")
        try:
            return np.asarray(found[()])
        except (OSError, RuntimeError, ValueError) as error:
            raise self.other(f"{key!r} can't be read ({' '.join(str(error).split())})") from error

    def names(self, key: str) -> list[str]:
        """Read an array of texts or whole numbers as texts; an undecodable one is an error.

        Raises:
            TaskNotFoundError: see `column`; or it holds neither.
        """
        values = self.column(key).tolist()
        try:
            return [_name(value) for value in values]
        except (UnicodeDecodeError, ValueError) as error:
            raise self.other(
                f"{key!r} holds neither UTF-8 texts nor whole numbers ({error})"
            ) from error

    def other(self, what: str) -> TaskNotFoundError:
        """Build the error for a file that isn't as expected; it lists the keys that are there."""
        return TaskNotFoundError(
            f"{self.path}: {what}. Keys there: {self.keys_met()}. Export arrays under the keys "
            f"{', '.join(map(repr, self._wanted))}, or use the TIFF copy."
        )


def open_parts(folder: SourceFolder, pattern: str, keys: Iterable[str] = ()) -> dict[str, File]:
    """Open the files whose names match `pattern`, by what its group `part` matched; see `File`.

    Raises:
        TaskNotFoundError: two files stand for one part, or one can't be opened.
    """
    paths: dict[str, str] = {}
    for hit in folder.match(pattern):
        if paths.setdefault(hit["part"], hit.string) != hit.string:
            raise two_copies(folder, paths[hit["part"]], hit.string)
    return {part: File(folder.root / path, keys) for part, path in paths.items()}


def _name(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8").strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int):
        return str(value).strip()
    raise ValueError(repr(value)[:40])


def read_row(array: "h5py.Dataset", row: int) -> Planes:
    """Read one row of an array.

    Raises:
        ImageRefusedError: it can't be read.
    """
    try:
        return np.asarray(array[row])
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ImageRefusedError(
            "unreadable", f"row {row}: {' '.join(str(error).split())}"[:200]
        ) from error
