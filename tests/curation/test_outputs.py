"""Tests of whose an output folder is: a build replaces nothing that no build wrote."""

import json

import pytest

from cytoimagenet_hf.curation.outputs import check_apart, check_output
from cytoimagenet_hf.errors import BuildError


def put(folder, *paths: str) -> None:
    """Write small files."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("mine")


@pytest.mark.parametrize(
    "build", ['{"builder": "gulp"}', "[]", "not json", '{"build": 7, "versions": {}}']
)
def test_a_build_json_of_another_program_makes_no_folder_ours(tmp_path, build):
    """Many programs write a build.json; sums of other files don't help either."""
    (tmp_path / "build.json").write_text(build)
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  thesis.tex\n{'0' * 64}  build.json\n")
    put(tmp_path, "thesis.tex")
    with pytest.raises(BuildError, match=r"no build wrote \(SHA256SUMS, build.json, thesis.tex\)"):
        check_output(tmp_path)


def test_foreign_files_in_a_built_folder_are_named_and_counted(built):
    """At any depth, links and empty folders too; some are named."""
    put(built.folder, "notes.txt", "raw/a.tif", "data/default/mine.parquet")
    (built.folder / "inbox").mkdir()
    (built.folder / "zlink").symlink_to(built.folder.parent)
    with pytest.raises(
        BuildError,
        match=r"\(data/default/mine.parquet, inbox/, notes.txt and 2 more\).*--output, or move",
    ):
        check_output(built.folder)


def test_what_our_tools_leave_in_a_folder_is_ours(built):
    """Half-written files, what a pull needs, shards of another release, an edited card."""
    shard = next(path for path in built.folder.rglob("data/small/train-*.parquet"))
    put(
        built.folder, "README.md", "labels.parquet.77.part", ".cytoimagenet-pull.json",
        ".cache/huggingface/download/README.md.metadata", ".DS_Store",
        f"data/small/{shard.name.replace(shard.name.split('-')[2], '01234567')}",
    )  # fmt: skip
    check_output(built.folder)


def test_a_link_is_no_output(built):
    """It would be put aside instead of the folder, which a build can't remove afterwards."""
    link = built.folder.with_name("link")
    link.symlink_to(built.folder)
    with pytest.raises(BuildError, match=f"is a link; give --output {built.folder} itself"):
        check_output(link)


@pytest.mark.parametrize("name", ["build.json", "SHA256SUMS", "labels.parquet", "data"])
def test_a_damaged_build_may_be_made_anew(built, name):
    """Nothing of ours has to be there, or whole."""
    path = built.folder / name
    if path.is_dir():
        path.rename(built.folder.parent / "away")
        path.mkdir()
    else:
        path.write_text("broken")
        check_output(built.folder)
        path.unlink()
    check_output(built.folder)


def test_files_that_the_sums_list_are_ours(built):
    """A build of another version may write other files."""
    put(built.folder, "statistics.json")
    with (built.folder / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  statistics.json\n")
    check_output(built.folder)
    (built.folder / "build.json").write_text(json.dumps({"builder": "gulp"}))
    with pytest.raises(BuildError, match="no build wrote"):
        check_output(built.folder)


@pytest.mark.parametrize("work", ["x", "x/work", "."])
def test_work_and_output_lie_apart(tmp_path, work):
    """A work folder inside of the output would be replaced with it."""
    with pytest.raises(BuildError, match="lie in each other"):
        check_apart(tmp_path / "x", tmp_path / work, [])


@pytest.mark.parametrize(
    ("read", "flag"), [("x", "--output"), ("x/raw", "--output"), ("x.work/raw", "--work")]
)
def test_raw_data_never_lie_where_a_build_writes(tmp_path, read, flag):
    """Also where the way there is a link."""
    (tmp_path / read).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / read)
    check_apart(tmp_path / "x", tmp_path / "x.work", [tmp_path / "xy", tmp_path])
    for path in (tmp_path / read, tmp_path / "link"):
        with pytest.raises(BuildError, match=rf"{path} is raw data and lies in {flag}"):
            check_apart(tmp_path / "x", tmp_path / "x.work", [path])
