"""Verification of a curated folder: damage is named with its place, forgeries are seen through."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf.curation.findings import MOST, Findings, shown
from cytoimagenet_hf.curation.rewriting import group_bounds
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.files import walk
from cytoimagenet_hf.hashing import sha256_file
from cytoimagenet_hf.hub._folders import read_sums
from cytoimagenet_hf.imaging import png
from tests.curation.forging import (
    bit_flips,
    edit_rows,
    forge_sums,
    rows_of,
    shard_paths,
    truncations,
)


def whats(folder, **more) -> set[str]:
    """What is wrong, without places."""
    return {finding.what for finding in verify(folder, workers=0, **more).findings}


def other_label(folder) -> tuple[str, int, int]:
    """A record with one crop or more, a label that it doesn't carry, and that label's category."""
    rows = pq.read_table(folder / "labels.parquet").to_pylist()
    classes = [(row["category"], row["value"]) for row in rows if row["crops"]]
    for row in rows_of(folder, "default"):
        for number, (category, value) in enumerate(classes):
            if value not in row[category] and row["dir_name"] == "bbbc006":
                return row["idx"], number, row["label"]
    raise AssertionError("every record carries every label")


def test_whole_folder_has_no_findings(built_once):
    """All images are decoded, and the hash of SHA256SUMS is the one that the build printed."""
    report = verify(built_once.folder, manifest_sha256=built_once.manifest_sha256, workers=0)
    assert report.findings == ()
    assert report.is_whole
    assert report.manifest_sha256 == built_once.manifest_sha256
    assert report.files == len(list(walk(built_once.folder)))
    rows = [len(rows_of(built_once.folder, config)) for config in ("default", "small", "tiny")]
    assert report.images == sum(rows) > 50


@pytest.mark.slow
def test_processes_find_the_same(built):
    """Two worker processes give the report of none."""
    path = shard_paths(built.folder)[0]
    (built.folder / path).write_bytes(b"PAR1 PAR1")
    assert verify(built.folder, workers=2) == verify(built.folder, workers=0)


def in_prose(folder, path: str, byte: int) -> bool:
    """Say whether a byte of the card lies behind the front matter and between generated parts."""
    if path != "README.md":
        return False
    before = (folder / path).read_bytes()[:byte]
    opened, closed = before.count(b"<!-- generated:"), before.count(b"<!-- /generated:")
    return opened == closed > 0


def check_flip(folder, path: str, byte: int, bit: int) -> None:
    """A flipped bit is named with its file, and with its row group where it lies in one."""
    whole = (folder / path).read_bytes()
    bounds = group_bounds(folder / path) if path.startswith("data/") else []
    group = next((at for at, (low, high) in enumerate(bounds) if low <= byte < high), None)
    damaged = bytearray(whole)
    damaged[byte] ^= 1 << bit
    (folder / path).write_bytes(damaged)
    own = [one for one in verify(folder, workers=0).findings if one.path == path]
    (folder / path).write_bytes(whole)
    assert own, f"{path}, byte {byte}"
    if group is not None:
        named = {one.row_group for one in own} - {None}
        assert named == {group}, f"{path}, byte {byte} of row group {group}: {own}"


def check_cut(folder, path: str, left: int) -> None:
    """A file that ends too early is named."""
    whole = (folder / path).read_bytes()
    (folder / path).write_bytes(whole[:left])
    own = [one for one in verify(folder, workers=0).findings if one.path == path]
    (folder / path).write_bytes(whole)
    assert own, f"{path}, cut to {left} bytes"


def test_bit_flips_are_named_with_file_and_row_group(built):
    """Sixteen bits anywhere but in prose, which people may change."""
    flips = [one for one in bit_flips(built.folder, 20) if not in_prose(built.folder, *one[:2])]
    assert len(flips) >= 16
    for path, byte, bit in flips[:16]:
        check_flip(built.folder, path, byte, bit)


@pytest.mark.slow
def test_two_hundred_bit_flips_are_named(built):
    """200 bits, chosen by hash over the bytes of all files but the card's prose."""
    flips = [one for one in bit_flips(built.folder, 220) if one[0] != "README.md"][:200]
    assert len(flips) == 200
    for path, byte, bit in flips:
        check_flip(built.folder, path, byte, bit)


def test_truncations_are_named(built):
    """Each file once, cut anywhere but in prose."""
    for path, left in truncations(built.folder, len(list(walk(built.folder)))):
        if not in_prose(built.folder, path, left):
            check_cut(built.folder, path, left)


@pytest.mark.slow
def test_sixty_four_truncations_are_named(built):
    """All files in turn, cut anywhere but in prose, which people may shorten."""
    cuts = [one for one in truncations(built.folder, 68) if not in_prose(built.folder, *one)][:64]
    assert len(cuts) == 64
    for path, left in cuts:
        check_cut(built.folder, path, left)


def test_damage_to_page_headers_and_footers_is_located(built):
    """The last byte before the footer's length is outside of all row groups."""
    path = shard_paths(built.folder)[0]
    whole = (built.folder / path).read_bytes()
    data = bytearray(whole)
    end = group_bounds(built.folder / path)[-1][1]
    data[end + 3] ^= 1  # page index: pages are found without it
    (built.folder / path).write_bytes(data)
    found = verify(built.folder, workers=0).findings
    assert {one.what for one in found} == {"sha256 of the file", "footer or page index"}
    assert {one.path for one in found} == {path}


def test_edited_label_is_caught_though_pages_and_sums_are_right(built):
    """One row of `default` gets another label; page checksums and all sums are made anew."""
    idx, label, _ = other_label(built.folder)

    def edit(path, rows):
        for row in rows:
            if row["idx"] == idx:
                row["label"] = label
                break
        return rows

    edit_rows(built.folder, edit, configs="default")
    forge_sums(built.folder)
    found = verify(built.folder, workers=0).findings
    edited = [one for one in found if one.image_id.startswith(f"{idx}#")]
    assert edited
    assert "columns other than in `default`" in {one.what for one in edited}


def test_label_edited_everywhere_is_caught_by_the_record_and_by_the_counts(built):
    """All rows of a record in all configs get a label that the record doesn't carry."""
    idx, label, former = other_label(built.folder)
    reports = pq.read_table(built.folder / "labels.parquet").to_pylist()
    category = [row["category"] for row in reports if row["crops"]][label]
    number = ["compound", "sirna", "gene", "phenotype", "cell_visible", "cell_type",
              "organism"].index(category)  # fmt: skip

    def edit(path, rows):
        for row in rows:
            if row["idx"] == idx:
                row["label"], row["category"] = label, number
        return rows

    edit_rows(built.folder, edit)
    forge_sums(built.folder)
    found = verify(built.folder, workers=0).findings
    assert any(one.what == "label that the record doesn't carry" for one in found)
    assert sum(one.what.startswith("crops of ") for one in found) == 2
    assert former != label


def test_consistent_forgery_is_found_by_the_manifest_hash_alone(built):
    """The wells of one record are edited everywhere, and every sum in the folder is made anew."""
    idx = rows_of(built.folder, "default")[0]["idx"]

    def edit(path, rows):
        return [row | {"well": "z99"} if row["idx"] == idx else row for row in rows]

    edit_rows(built.folder, edit)
    forge_sums(built.folder)
    assert whats(built.folder) == set()
    assert whats(built.folder, manifest_sha256=built.manifest_sha256) == {"manifest"}


def test_group_on_both_sides_is_found(built):
    """A held-out record gets the group of a record to train on, everywhere."""
    rows = {path.split("/")[-1].split("-")[0]: path for path in shard_paths(built.folder)
            if path.startswith("data/default/")}  # fmt: skip
    trained = pq.read_table(built.folder / rows["train"]).to_pylist()[0]["group"]
    held = pq.read_table(built.folder / rows["validation"]).to_pylist()[0]["group"]

    def edit(path, rows):
        return [row | {"group": trained} if row["group"] == held else row for row in rows]

    edit_rows(built.folder, edit)
    forge_sums(built.folder)
    assert "group in both splits" in whats(built.folder)


def test_duplicates_are_found(built):
    """Two records with equal raw bytes are one too many."""
    first, *_, last = sorted(rows_of(built.folder, "default"), key=lambda row: row["idx"])

    def edit(path, rows):
        same = {"source_sha256": first["source_sha256"]}
        return [row | same if row["idx"] == last["idx"] else row for row in rows]

    edit_rows(built.folder, edit)
    forge_sums(built.folder)
    assert whats(built.folder) == {"source_sha256 of two records"}


def test_swapped_image_is_found(built):
    """Another picture under the same hash, and one of `small` that isn't made from `default`."""

    def swap(path, rows):
        rows[0]["image"]["bytes"] = rows[1]["image"]["bytes"]
        return rows

    edit_rows(built.folder, swap, configs="default")
    forge_sums(built.folder)
    assert "pixel_sha256" in whats(built.folder)


def test_forged_small_image_is_found(built):
    """An image of `small` with its right hash, but not that of the crop averaged down."""

    def swap(path, rows):
        taken = {name: rows[1][name] for name in ("height", "width", "pixel_sha256")}
        rows[0] |= taken | {"image": {**rows[0]["image"], "bytes": rows[1]["image"]["bytes"]}}
        return rows

    edit_rows(built.folder, swap, configs="small")
    forge_sums(built.folder)
    assert whats(built.folder) == {"pixels other than those of `default`, averaged down"}


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("terms", "open", "terms of the license"),
        ("license", "CC0", "terms of the license"),
        ("idx", "bbbc006/x", "idx"),
        ("dir_name", "bbbc001", "dir_name"),
        ("x_max", 1 << 20, "size of the box"),
        ("x_min", -1, "box"),
        ("scaling", 0.125, "scaling"),
        ("crop", None, "missing value"),
        ("height", 7, "size of the image"),
        ("label", 1000, "label"),
        ("category", 0, "category"),
    ],
)
def test_rows_that_contradict_themselves_are_found(built, column, value, what):
    """One cell of the first row of `default` is changed."""

    def edit(path, rows):
        rows[0][column] = value
        return rows

    edit_rows(built.folder, edit, configs="default")
    report = verify(built.folder, workers=0)
    assert any(one.what == what and one.row == 0 for one in report.findings), report.findings


def test_missing_and_further_files_are_found(built):
    """A shard is gone, a script lies in the folder, and each is named."""
    gone = shard_paths(built.folder)[-1]
    (built.folder / gone).unlink()
    (built.folder / "cytoimagenet.py").write_text("boom")
    found = {(one.path, one.what) for one in verify(built.folder, workers=0).findings}
    assert (gone, "missing file") in found
    assert ("cytoimagenet.py", "file that SHA256SUMS doesn't list") in found


def test_description_for_machines_of_other_shards_is_found(built):
    """A hash in croissant.json that is no shard's is told, though all sums are right."""
    about = built.folder / "croissant.json"
    sums = read_sums(built.folder / "SHA256SUMS")
    path, sha256 = next((path, one) for path, one in sums.items() if path.startswith("data/"))
    about.write_text(about.read_text(encoding="utf-8").replace(sha256, "0" * 64), encoding="utf-8")
    listed = (built.folder / "SHA256SUMS").read_text(encoding="utf-8")
    listed = listed.replace(sums["croissant.json"], sha256_file(about))
    (built.folder / "SHA256SUMS").write_text(listed, encoding="utf-8")
    (found,) = verify(built.folder, workers=0).findings
    assert (found.path, found.what) == ("croissant.json", "hashes of the shards")
    assert path in found.expected


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"distribution": [3]}', "\x00", "[" * 9999])
def test_broken_description_for_machines_is_one_finding(built, content):
    """Nothing that stands in croissant.json stops the verification."""
    (built.folder / "croissant.json").write_text(content)
    found = {(one.path, one.what) for one in verify(built.folder, workers=0).findings}
    assert found == {("croissant.json", "unreadable"), ("croissant.json", "sha256 of the file")}


@pytest.mark.parametrize("name", ["README.md", "build.json", "SHA256SUMS", "labels.parquet"])
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[" * 100_000, b"{}", b"---\n- a: &a [*a]\n---\n", b"PAR1PAR1"]
)
def test_hostile_small_files_are_findings(built, name, content):
    """No content of a small file raises."""
    (built.folder / name).write_bytes(content)
    assert any(one.path == name for one in verify(built.folder, workers=0).findings)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"image": [1]}),
        pa.table({"image_id": [None], "label": ["x"]}),
        pa.table({}),
    ],
)
def test_other_tables_are_findings(built, table):
    """A Parquet file of other columns is named and not read on."""
    path = shard_paths(built.folder)[0]
    pq.write_table(table, built.folder / path)
    found = verify(built.folder, workers=0).findings
    assert ("columns", path) in {(one.what, one.path) for one in found}


def test_sums_that_leave_the_folder_are_not_followed(built):
    """A path with .. in SHA256SUMS is a broken line."""
    with (built.folder / "SHA256SUMS").open("a") as stream:
        stream.write(f"{'0' * 64}  ../../etc/passwd\n")
    found = verify(built.folder, workers=0).findings
    assert [one.what for one in found if "passwd" in one.found] == ["broken line"]


def test_prose_of_the_card_may_be_edited(built):
    """Hand-written words outside of the generated parts are no finding; inside they are."""
    card = (built.folder / "README.md").read_text(encoding="utf-8")
    (built.folder / "README.md").write_text(card + "\nOur own words.\n", encoding="utf-8")
    assert whats(built.folder) == set()
    edited = card.replace("<!-- /generated:labels -->", "more\n<!-- /generated:labels -->")
    (built.folder / "README.md").write_text(edited, encoding="utf-8")
    assert whats(built.folder) == {"generated parts"}


def test_nothing_to_verify_is_an_error(tmp_path):
    """A folder without sums and shards, and one that isn't there, are refused."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DatasetNotAvailableError):
            verify(folder)


def test_floods_of_findings_are_cut_off():
    """Of 250 findings on one file the first 100 are told and 150 are counted."""
    findings = Findings("a")
    for number in range(250):
        findings.add("x", found=number)
    told = findings.all()
    assert len(told) == MOST + 1
    assert (told[-1].what, told[-1].found) == ("further findings", "150")


def test_values_from_outside_cannot_move_the_cursor():
    """Control characters are written out, and long values are cut."""
    assert shown("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"
    assert len(shown("x" * 10_000)) == 203


def test_report_names_the_place_in_one_line(built):
    """Path, row group, row and id stand before what is wrong."""

    def edit(path, rows):
        rows[6]["terms"] = "open" if rows[6]["terms"] != "open" else "local"
        return rows

    edit_rows(built.folder, edit, configs="metadata")
    lines = [str(one) for one in verify(built.folder, workers=0).findings]
    assert any(", row group 0, row 6, bbbc" in line for line in lines), lines
    assert not any(os.linesep in line for line in lines)


def test_png_reader_refuses_what_the_writer_never_writes():
    """Text chunks, other depths, bytes behind the end and large headers are refused."""
    import io

    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    whole = png.encode(pixels)
    assert (png.decode(whole) == pixels).all()

    def saved(image, **more):
        sink = io.BytesIO()
        image.save(sink, "PNG", **more)
        return sink.getvalue()

    note = PngInfo()
    note.add_text("patient", "name")
    for bad in (
        saved(Image.fromarray(pixels), pnginfo=note),
        saved(Image.fromarray(pixels.astype(np.uint16))),
        saved(Image.fromarray(pixels).convert("RGB")),
        whole + b"x",
        whole[:-4],
        whole[:20] + b"\xff" + whole[21:],
        b"",
    ):
        with pytest.raises(ValueError, match=r"."):
            png.decode(bad)
    with pytest.raises(ValueError, match="at most 11"):
        png.decode(whole, max_pixels=11)


def test_findings_of_build_json_are_about_what_differs(built):
    """Only the count that is wrong is told, not all of them."""
    build = json.loads((built.folder / "build.json").read_bytes())
    name = sorted(build["counts"])[0]
    build["counts"][name]["rows"] += 1
    (built.folder / "build.json").write_text(json.dumps(build))
    (found,) = [one for one in verify(built.folder, workers=0).findings if one.what == "counts"]
    assert list(json.loads(found.found.replace("'", '"'))) == [name]
