"""The same input gives the same bytes, whoever builds, how, and where (design 4)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cytoimagenet_hf import hashing
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import BuildConfig, build
from tests.curation.builds import NAMES, config, raw_data, tree

ROOT = Path(__file__).parents[2]


def made(raw: Path, output: Path, *, names: tuple[str, ...] = NAMES, workers: int = 0):
    """A build of 12 chunks, of whole fields, of small ones and of single cells."""
    parameters = preset("standard", min_fields=4, chunk_fields=4)
    return config(raw, output, names=names, parameters=parameters, workers=workers)


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Simulated raw data, shared."""
    return raw_data(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def reference(raw, tmp_path_factory) -> BuildConfig:
    """A build in this process."""
    plain = made(raw, tmp_path_factory.mktemp("plain") / "cytoimagenet")
    build(plain)
    return plain


def test_chunks_are_many_and_of_unequal_cost(reference):
    """There are 12 chunks, the largest more than ten times as large as the smallest."""
    sizes = [path.stat().st_size for path in (reference.work_folder / "rendered").iterdir()]
    assert len(sizes) == 12
    assert max(sizes) > 10 * min(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers(reference, raw, tmp_path, workers):
    """One, two and four processes give the bytes that this one gave, chunks included."""
    other = made(raw, tmp_path / "cytoimagenet", workers=workers)
    build(other)
    assert tree(other.output) == tree(reference.output)
    assert tree(other.work_folder / "rendered") == tree(reference.work_folder / "rendered")


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_sources_and_files(reference, raw, tmp_path, seed):
    """The order in which sources are named and files and folders were made changes no byte."""

    def shuffled(items: list) -> list:
        return sorted(items, key=lambda one: hashing.rank(seed, "order", str(one)))

    other = tmp_path / "raw"
    for path in shuffled([path for path in raw.rglob("*") if path.is_file()]):
        target = other / path.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)  # with another time of change
    again = made(other, tmp_path / "cytoimagenet", names=tuple(shuffled(list(NAMES))))
    build(again)
    assert tree(again.output) == tree(reference.output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "locale", "zone", "workers"),
    [("1", "tr_TR.UTF-8", "Pacific/Apia", 0), ("54321", "C", "America/St_Johns", 2)],
)
def test_any_process(reference, raw, tmp_path, seed, locale, zone, workers):
    """Hash seed, locale, time zone and current folder (a relative output) change no byte."""
    code = (
        "import sys; from pathlib import Path; "
        "from tests.curation.test_same_bytes import made; "
        "from cytoimagenet_hf.curation.pipeline import build; "
        "build(made(Path(sys.argv[1]), Path('cytoimagenet'), workers=int(sys.argv[2])))"
    )
    environment = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "LC_ALL": locale,
        "TZ": zone,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }
    subprocess.run(
        [sys.executable, "-c", code, str(raw), str(workers)],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    assert tree(tmp_path / "cytoimagenet") == tree(reference.output)


@pytest.mark.slow
def test_a_relative_raw_folder(reference, raw, tmp_path, monkeypatch):
    """Raw data named from the current folder give the same bytes, with workers too."""
    monkeypatch.chdir(raw.parent)
    again = made(Path(raw.name), tmp_path / "cytoimagenet", workers=2)
    build(again)
    assert tree(again.output) == tree(reference.output)


def test_another_seed_gives_other_bytes(reference, raw, tmp_path):
    """The comparison bites: another seed changes the folder, and the windows in it."""
    parameters = preset("standard", min_fields=4, chunk_fields=4, seed=1)
    other = config(raw, tmp_path / "cytoimagenet", parameters=parameters)
    build(other)
    assert tree(other.output) != tree(reference.output)
