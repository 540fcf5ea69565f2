"""What verification has to say: findings, each with its place, and the report of a folder."""

from dataclasses import dataclass, field

import pyarrow as pa

from cytoimagenet_hf.errors import CytoImageNetError

MOST = 100  # findings told of one file and kind of check; more are counted
_SHOWN = 200  # characters of a value

# What reading a damaged or hostile file may raise; each of these becomes a finding.
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    OSError,
    RecursionError,
    MemoryError,
    NotImplementedError,
    CytoImageNetError,
    pa.ArrowException,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong, and where."""

    path: str  # relative to the folder
    what: str  # short and fixed, so that findings can be counted
    expected: str = ""
    found: str = ""
    row_group: int | None = None
    row: int | None = None  # in the row group
    image_id: str = ""

    def __str__(self) -> str:
        """Tell it in one line."""
        place = [self.path]
        place += [f"row group {self.row_group}"] if self.row_group is not None else []
        place += [f"row {self.row}"] if self.row is not None else []
        place += [self.image_id] if self.image_id else []
        told = [f"expected {self.expected}"] if self.expected else []
        told += [f"found {self.found}"] if self.found else []
        return f"{', '.join(place)}: {self.what}{': ' if told else ''}{', '.join(told)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was read of a folder, and all that is wrong with it."""

    folder: str
    manifest_sha256: str  # of SHA256SUMS as found; empty: there is none
    files: int
    images: int  # rows with an image
    bytes: int
    findings: tuple[Finding, ...]  # in order of path, row group and row

    @property
    def is_whole(self) -> bool:
        """Say whether nothing is wrong."""
        return not self.findings


@dataclass(slots=True)
class Findings:
    """Gathers findings; of a flood on one file only the first are kept, and the rest counted."""

    path: str  # default place of what is added
    kept: list[Finding] = field(default_factory=list)
    _more: dict[str, int] = field(default_factory=dict)
    _told: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        what: str,
        expected: object = "",
        found: object = "",
        *,
        path: str = "",
        at: tuple[int | None, int | None, str] = (None, None, ""),
    ) -> None:
        """Add one; `at` is (row group, row, image_id)."""
        path = path or self.path
        self._told[path] = self._told.get(path, 0) + 1
        if self._told[path] > MOST:
            self._more[path] = self._more.get(path, 0) + 1
            return
        self.kept.append(
            Finding(
                path=shown(path),
                what=what,
                expected=shown(expected),
                found=shown(found),
                row_group=at[0],
                row=at[1],
                image_id=shown(at[2]),
            )
        )

    def all(self) -> list[Finding]:
        """All that was kept, and a line for each file on how many were not."""
        return self.kept + [
            Finding(path=shown(path), what="further findings", found=str(count))
            for path, count in self._more.items()
        ]


def in_order(findings: list[Finding]) -> tuple[Finding, ...]:
    """Sort findings by place."""
    return tuple(
        sorted(
            findings,
            key=lambda one: (
                one.path,
                -1 if one.row_group is None else one.row_group,
                -1 if one.row is None else one.row,
                one.what,
                one.image_id,
                one.found,
            ),
        )
    )


def shown(value: object) -> str:
    """Write a value from outside so that it can stand in one line of a terminal."""
    text = value if isinstance(value, str) else repr(value)
    text = text[: _SHOWN + 1]
    plain = "".join(
        one if one.isprintable() else one.encode("unicode_escape", "replace").decode()
        for one in text
    )
    return plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}..."


def told(error: BaseException) -> str:
    """Name an error and its first line."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def inside(path: str) -> bool:
    """Say whether a relative path of a hostile list stays in the folder."""
    parts = path.split("/")
    return not (path.startswith("/") or "\\" in path or ":" in path or ".." in parts)
