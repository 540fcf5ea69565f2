"""Damaged shards get their old bytes again, and only their crops are rendered."""

from dataclasses import replace

import pytest

from cytoimagenet_hf.curation.repair import repair
from cytoimagenet_hf.curation.rewriting import group_bounds
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.errors import BuildError
from tests.curation.forging import edit_rows, forge_sums, shard_paths

WAYS = ("page", "footer", "cut", "gone")


def damage(path, way: str) -> None:
    """Flip a bit of a page or the footer, cut the file in half, or remove it."""
    whole = path.read_bytes()
    if way == "gone":
        path.unlink()
    elif way == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        low, high = group_bounds(path)[0]
        data = bytearray(whole)
        data[(low + high) // 2 if way == "page" else len(whole) - 20] ^= 4
        path.write_bytes(data)


def repaired(built, inputs=None):
    """Verify and repair."""
    report = verify(built.folder, workers=0)
    return repair(built.folder, report, built.inputs if inputs is None else inputs)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("config", ["default", "small", "tiny", "metadata"])
def test_shard_gets_its_bytes_again(built, config, way):
    """Whatever happened to it, and whichever config it is of."""
    path = next(one for one in shard_paths(built.folder) if one.startswith(f"data/{config}/"))
    whole = (built.folder / path).read_bytes()
    damage(built.folder / path, way)
    done = repaired(built)
    assert (built.folder / path).read_bytes() == whole
    assert done.rewritten == (path,)
    assert done.failed == {}
    assert verify(built.folder, manifest_sha256=built.manifest_sha256, workers=0).is_whole
    assert not built.folder.with_name("cytoimagenet.repair").exists()


def test_only_damaged_crops_are_rendered(built):
    """Five rows stand in a row group, so five crops are rendered; for `metadata` none is."""
    path = next(one for one in shard_paths(built.folder) if one.startswith("data/default/train"))
    damage(built.folder / path, "page")
    assert repaired(built).rendered == 5
    path = next(one for one in shard_paths(built.folder) if one.startswith("data/metadata/train"))
    damage(built.folder / path, "page")
    assert repaired(built, inputs=[]).rendered == 0


def test_two_configs_are_repaired_at_once(built):
    """All shards of `default` and of `metadata` are gone: `small` still knows the rows."""
    before = {}
    for path in shard_paths(built.folder):
        before[path] = (built.folder / path).read_bytes()
        if path.startswith(("data/default/", "data/metadata/")):
            damage(built.folder / path, "gone")
    assert repaired(built).failed == {}
    assert before == {path: (built.folder / path).read_bytes() for path in before}


def test_damaged_sums_are_refused(built):
    """Nothing says what the shards must look like."""
    damage(built.folder / shard_paths(built.folder)[0], "page")
    sums = built.folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("a", "b"))
    with pytest.raises(BuildError, match="SHA256SUMS is damaged"):
        repaired(built)


@pytest.mark.parametrize("name", ["build.json", "labels.parquet"])
def test_damaged_reports_are_refused(built, name):
    """Parameters and classes must be known."""
    (built.folder / name).write_bytes(b"x")
    with pytest.raises(BuildError, match=name):
        repaired(built)


def test_changed_raw_files_never_enter(built, tmp_path):
    """Crops of other raw bytes are refused, and the damaged shard stays as it is."""
    path = next(one for one in shard_paths(built.folder) if one.startswith("data/default/train"))
    damage(built.folder / path, "page")
    damaged = (built.folder / path).read_bytes()
    wrong = []
    for entry in built.inputs:
        root = tmp_path / "raw" / entry.source.name
        for file in entry.root.rglob("*"):
            if file.is_file():
                to = root / file.relative_to(entry.root)
                to.parent.mkdir(parents=True, exist_ok=True)
                is_image = file.suffix in (".tif", ".jpg")
                to.write_bytes(file.read_bytes() + (b"\0" if is_image else b""))
        wrong.append(replace(entry, root=root))
    done = repaired(built, inputs=wrong)
    assert list(done.failed) == [path]
    assert "not those that were published" in done.failed[path]
    assert (built.folder / path).read_bytes() == damaged


def test_files_that_no_build_wrote_are_left_to_the_user(built):
    """A further file is named, and stays."""
    (built.folder / "notes.txt").write_text("mine")
    done = repaired(built)
    assert done.failed == {"notes.txt": "it is not of this build; remove it"}
    assert (built.folder / "notes.txt").exists()


def test_forged_shard_is_not_called_repaired(built):
    """Sums that were forged with the shards are what repair goes by: it finds nothing to do."""
    edit_rows(built.folder, lambda path, rows: [row | {"well": "z"} for row in rows])
    forge_sums(built.folder)
    assert repaired(built).rewritten == ()
