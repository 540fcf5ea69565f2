"""What every source promises, tried on its simulation, whose names never came from the source."""

import ast
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from cytoimagenet_hf import schema, simulation, sources
from cytoimagenet_hf.errors import SourceNotFoundError
from cytoimagenet_hf.simulation import Truth
from cytoimagenet_hf.sources import FieldOfView, SourceFolder

FIELDS = 16
MOST_LINES = 150  # of a source's file: 120 is the aim, longer ones hold tables or long notes
PIXEL_PACKAGES = {"numpy", "PIL", "tifffile", "imagecodecs", "cv2", "scipy", "torch"}
MASK_WORDS = ("mask", "label", "ground_truth", "foreground")  # in folders of masks
PICTURES = {".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp"}


@dataclass(frozen=True)
class Simulated:
    """One source's simulated folder, and what was painted into which file of it."""

    name: str
    root: Path
    truth: Truth

    def open(self) -> SourceFolder:
        """A folder whose report is still empty."""
        return SourceFolder(self.root, self.name)

    def records(self) -> list[FieldOfView]:
        """All that the source finds."""
        return list(sources.get(self.name).fields(self.open()))


@pytest.fixture(scope="session", params=sources.names())
def simulated(request, tmp_path_factory) -> Simulated:
    """The simulation of each source in turn, written once."""
    to = tmp_path_factory.mktemp("raw")
    truth = simulation.simulate(request.param, to, fields=FIELDS)
    return Simulated(request.param, to / request.param, truth)


def copy_names(given: Simulated, to: Path, *, without: str = "", backwards: bool = False):
    """Copy a folder with empty pictures; tables keep their content."""
    paths = sorted(path for path in given.root.rglob("*") if path.is_file())
    for path in reversed(paths) if backwards else paths:
        relative = path.relative_to(given.root).as_posix()
        if relative == without:
            continue
        copy = to / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        if is_picture(relative):
            copy.touch()
        else:
            shutil.copy(path, copy)
    return Simulated(given.name, to, given.truth)


def test_every_source_has_a_simulation():
    """A simulation stands beside each source, under the same name."""
    assert set(sources.names()) <= set(simulation.names())


def test_each_simulated_field_is_found_once(simulated):
    """16 fields were written, and 16 come back, whatever the number of their modalities."""
    records = simulated.records()
    assert len({one.field_id for one in records}) == FIELDS
    assert len({one.id for one in records}) == len(records)


def test_records_are_sorted_by_key(simulated):
    """The order of records is that of their keys, so that catalogs repeat."""
    keys = [one.key for one in simulated.records()]
    assert keys == sorted(keys)


def test_planes_are_exactly_the_images(simulated):
    """Each image is used in one record; masks, blurred copies and thumbnails in none."""
    used = Counter(plane.path for one in simulated.records() for plane in one.planes)
    assert set(used) == set(simulated.truth)
    assert set(used.values()) == {1}


def test_plane_paths_are_relative_and_exist(simulated):
    """A path is relative, has `/` between its parts and leads to a file under the root."""
    for one in simulated.records():
        for plane in one.planes:
            assert not Path(plane.path).is_absolute()
            assert "\\" not in plane.path
            assert ".." not in plane.path.split("/")
            assert (simulated.root / plane.path).is_file()


def test_records_are_well_formed(simulated):
    """Modality, categories, values and the names of the place are what the schema allows."""
    for one in simulated.records():
        assert one.source == simulated.name
        assert one.modality in schema.MODALITIES or (one.modality == "" and not one.annotations)
        assert set(one.annotations) <= set(schema.CATEGORIES)
        for values in one.annotations.values():
            assert isinstance(values, tuple)
            assert all(isinstance(value, str) and value.strip() for value in values)
            assert not any(schema.JOINT in value for value in values)
            assert len(set(values)) == len(values)
        place = (one.key, one.field_key, one.group, one.plate, one.well, one.site, one.license)
        assert all(isinstance(text, str) for text in place)
        assert one.key
        assert one.refusal is None
        assert one.planes


def test_stains_are_named_and_distinct(simulated):
    """Each plane of a record whose modality is known says what it shows."""
    for one in simulated.records():
        stains = [plane.stain for plane in one.planes]
        assert all(stains) or not one.modality
        assert len(set(stains)) == len(stains)


def test_annotations_hold_what_was_painted(simulated):
    """The compound and phenotype that the simulation painted are those that the source reads."""
    for one in simulated.records():
        told = {
            value.lower()  # the catalog lowers all values
            for category in ("compound", "sirna", "gene", "phenotype")
            for value in one.annotations.get(category, ())
        }
        for plane in one.planes:
            assert told == set(simulated.truth[plane.path])


def test_two_runs_give_equal_records(simulated):
    """Reading a folder twice changes nothing."""
    assert simulated.records() == simulated.records()


def test_order_of_files_on_disk_does_not_matter(simulated, tmp_path):
    """A folder whose files were made in reverse order gives the same records."""
    assert copy_names(simulated, tmp_path, backwards=True).records() == simulated.records()


def test_decoys_are_reported(simulated):
    """Masks are counted as unused; near-copies of fields may have a note instead."""
    folder = simulated.open()
    list(sources.get(simulated.name).fields(folder))
    report = folder.report()
    unused = {kind: told["count"] for kind, told in report["unused"].items()}
    decoys = [path for path in folder.paths if is_picture(path) and path not in simulated.truth]
    masks = [path for path in decoys if any(word in path.lower() for word in MASK_WORDS)]
    for kind, count in Counter(map(kind_of, masks)).items():
        assert unused[kind] == count
    if len(masks) < len(decoys):
        assert any("not used" in note for note in report["notes"])
    assert "./*.txt" not in unused  # SIMULATED.txt is a mark, not raw data
    assert report["used"] + sum(unused.values()) == len(folder.paths)


def test_another_layout_is_refused(simulated, tmp_path):
    """Where nothing is named as the source names its files, the error shows how they look."""
    simulation.simulate_negative(simulated.name, tmp_path)
    folder = SourceFolder(tmp_path / simulated.name, simulated.name)
    assert len(folder.paths) > 1
    with pytest.raises(SourceNotFoundError, match="named like"):
        list(sources.get(simulated.name).fields(folder))


def test_an_absent_folder_is_refused(simulated, tmp_path):
    """A root that isn't there is an error that says how to name another."""
    folder = SourceFolder(tmp_path / "nowhere", simulated.name)
    with pytest.raises(SourceNotFoundError, match="--data-root"):
        list(sources.get(simulated.name).fields(folder))


def test_a_field_without_one_channel_is_refused(simulated, tmp_path):
    """One file less of a record with several channels: this record alone says so."""
    whole = simulated.records()
    several = [one for one in whole if len(one.planes) > 1]
    if not several:
        pytest.skip(f"{simulated.name} has one channel a record")
    victim = several[0]
    lost = victim.planes[-1].path
    left = copy_names(simulated, tmp_path, without=lost).records()
    refused = [one for one in left if one.refusal]
    assert [one.id for one in refused] == [victim.id]
    assert refused[0].refusal[0] == "missing channel"
    assert [one.id for one in left] == [one.id for one in whole]


def test_rows_agree_with_fields(simulated):
    """A plan made from tables alone sees the same annotations, and no planes."""
    source = sources.get(simulated.name)
    if source.rows is None:
        pytest.skip(f"{simulated.name} has no tables")
    rows = list(source.rows(simulated.open()))
    assert not any(row.planes for row in rows)
    told = {row.id: row for row in rows}
    records = simulated.records()
    assert any(one.id in told for one in records)
    for one in records:
        if row := told.get(one.id):
            assert dict(row.annotations) == dict(one.annotations)
            assert (row.group_id, row.field_id) == (one.group_id, one.field_id)
        else:
            assert not one.annotations


def test_facts_of_the_source_are_filled(simulated):
    """License, citation, page and downloads stand in SOURCE, under the module's name."""
    source = sources.get(simulated.name)
    assert source.name == simulated.name
    for text in (source.title, source.database, source.accession, source.license, source.citation):
        assert text == text.strip() != ""
    for address in (source.page, *(one.url for one in source.downloads)):
        assert address.startswith("https://")
    assert source.modality
    assert set(source.modality) <= set(schema.MODALITIES)
    assert source.expected_fields is None or source.expected_fields > FIELDS


def test_the_layout_shown_to_users_is_one_that_matches(simulated, tmp_path):
    """A file named like `layout`, alone in an empty folder, is a field."""
    source = sources.get(simulated.name)
    file = tmp_path / source.layout
    file.parent.mkdir(parents=True)
    file.touch()
    records = list(source.fields(SourceFolder(tmp_path, simulated.name)))
    assert [plane.path for one in records for plane in one.planes] == [source.layout]


@pytest.mark.parametrize("name", sources.names())
def test_a_source_reads_names_and_tables_only(name):
    """No source imports anything that decodes pixels, nor another room than its own."""
    for module in imported_modules(source_file(name)):
        parts = module.split(".")
        assert parts[0] not in PIXEL_PACKAGES
        if parts[0] == "cytoimagenet_hf":
            assert parts[1] in {"sources", "schema", "errors", "files", "hashing"}


@pytest.mark.parametrize("name", sources.names())
def test_a_source_is_short(name):
    """A source fits on two screens; what is longer belongs to the shared helpers."""
    assert len(source_file(name).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_imports_are_seen_wherever_they_stand(tmp_path):
    """The walk over a module finds imports inside of functions and of single names."""
    module = tmp_path / "m.py"
    module.write_text("import a.b\ndef f():\n    from PIL import Image\nfrom c.d import e\n")
    assert imported_modules(module) == {"a.b", "PIL", "PIL.Image", "c.d", "c.d.e"}


def is_picture(path: str) -> bool:
    """Whether a file's ending is that of a picture."""
    return Path(path).suffix.lower() in PICTURES


def kind_of(path: str) -> str:
    """The line of the report that counts a file: top folder and ending."""
    return f"{path.split('/')[0]}/*{Path(path).suffix}"


def source_file(name: str) -> Path:
    """The file of a source."""
    return Path(sources.__file__).with_name(f"{name}.py")


def imported_modules(path: Path) -> set[str]:
    """All modules, and names taken from modules, that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found
