"""Errors that a caller may want to catch; each message says what, where and what to do next."""


class CytoImageNetError(Exception):
    """Base of all errors that this package raises on purpose."""


class SourceNotFoundError(CytoImageNetError):
    """A source's folder is absent, or nothing in it is named as the source names its files."""


class TableError(CytoImageNetError):
    """A metadata table can't be used; the message names file, line and value."""


class CatalogError(CytoImageNetError):
    """Records contradict each other (two with one id, a path outside of the data root)."""


class BuildError(CytoImageNetError):
    """A build can't go on (folder held by another run, disk too small, nothing to build)."""


class DiskError(BuildError):
    """A file or folder couldn't be written; the message names it, with the system's words."""


class DatasetNotAvailableError(CytoImageNetError):
    """No curated data set was found where it was looked for; the message lists the ways forward."""


class TaskNotFoundError(CytoImageNetError):
    """The images of a benchmark task aren't where they were looked for, or in another layout."""


class NotScorableError(CytoImageNetError):
    """No query of a protocol can be scored, or nothing of a run; the message says why."""


class FeaturesError(CytoImageNetError):
    """Features don't belong to these images or this encoder, or aren't numbers."""


class EncoderError(CytoImageNetError):
    """An encoder can't be had here; the message names what can."""


class PushError(CytoImageNetError):
    """The Hub can't be reached or refuses; what was to be pushed is whole on this machine."""


class ImageRefusedError(CytoImageNetError):
    """One image or window can't be used; the run goes on and counts it.

    Attributes:
        reason: short and fixed, so that refusals can be counted ("missing file", "too large" ...).
        detail: what was found, for the row in exclusions.parquet.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Keep reason and detail when the error crosses a process."""
        return type(self), (self.reason, self.detail)
