"""What of a folder may be published: the refusals, and the shards and documents of the rest."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from cytoimagenet_hf.curation import inputs
from cytoimagenet_hf.curation.edition_papers import Standing, write_papers
from cytoimagenet_hf.curation.editions import Withheld, choose_edition, crops_by, other_files
from cytoimagenet_hf.curation.parameters import preset
from cytoimagenet_hf.curation.pipeline import BuildConfig, build
from cytoimagenet_hf.curation.verify import verify
from cytoimagenet_hf.errors import DatasetNotAvailableError
from cytoimagenet_hf.hub import cards
from tests.curation.builds import raw_data
from tests.publishing import MIXED, OPEN, SMALL, build_data, edition_of, put, read_build


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Open and closed crops; never change this folder."""
    return build_data(tmp_path_factory.mktemp("mixed"))


@pytest.fixture(scope="module")
def open_only(tmp_path_factory):
    """Open crops alone; never change this folder."""
    return build_data(tmp_path_factory.mktemp("open"), OPEN)


def rows_of(folder, config="metadata") -> list[dict]:
    """All rows of a config without images."""
    paths = sorted((folder / "data" / config).iterdir())
    return [
        row
        for path in paths
        for row in pq.read_table(path).drop_columns(["image"] if config != "metadata" else [])
        .to_pylist()
    ]  # fmt: skip


def published(folder, to, *, standing=None, edition=None):
    """Write what would stand on the Hub into a folder."""
    edition = edition or edition_of(folder)
    (to / "aside").mkdir(parents=True)
    papers = write_papers(
        edition, to / "aside", hub_id="lab/cells", standing=standing or Standing()
    )
    found = {path: (folder / path).read_bytes() for path in edition.shards}
    found |= {path: at.read_bytes() for path, at in papers.items()}
    return put(to / "there", found)


def test_closed_crops_are_refused_by_source_and_license(mixed):
    """The message names source, license, number and both ways out; so it is for any repository."""
    closed = sum(row["dir_name"] == "bbbc048" for row in rows_of(mixed))
    with pytest.raises(ValueError, match=rf"bbbc048 \(unknown: {closed} crops\)") as told:
        choose_edition(mixed)
    assert "--only-publishable" in str(told.value)
    assert "--sources" in str(told.value)
    assert "not even a private one" in str(told.value)
    assert "bbbc038" not in str(told.value)


def test_rest_holds_no_file_with_closed_crops(mixed):
    """The shards of other terms, each with its sum; what stays is counted by source."""
    edition = edition_of(mixed)
    assert edition.withheld_terms == {"local"}
    assert set(edition.shards) == {
        path.relative_to(mixed).as_posix()
        for path in mixed.rglob("*.parquet")
        if "-open-" in path.name
    }
    closed = sum(row["dir_name"] == "bbbc048" for row in rows_of(mixed))
    assert edition.withheld == [Withheld(source="bbbc048", license="unknown", crops=closed)]
    assert crops_by(edition, "dir_name") == {("bbbc038",): len(rows_of(mixed)) - closed}
    assert other_files(edition) == []


def test_folder_of_nothing_else_is_refused_whatever_is_asked(tmp_path):
    """There is no data set without a crop."""
    folder = build_data(tmp_path, ("bbbc048",))
    with pytest.raises(ValueError, match="Nothing may be published"):
        edition_of(folder)


def test_published_rest_verifies_as_a_whole_data_set(mixed, tmp_path):
    """A stranger who runs `verify` on it finds nothing wrong."""
    there = published(mixed, tmp_path)
    report = verify(there, workers=0)
    assert report.findings == ()
    assert report.images == sum(len(rows_of(there, one)) for one in ("default", "small", "tiny"))


def test_documents_tell_of_the_rest(mixed, tmp_path):
    """Classes keep their integers; crops, sources, counts and card are of what is there."""
    there = published(mixed, tmp_path)
    rows = rows_of(there)
    labels = pq.read_table(there / "labels.parquet").to_pylist()
    before = pq.read_table(mixed / "labels.parquet").to_pylist()
    assert [row["label"] for row in labels] == [row["label"] for row in before]
    classes = [row for row in labels if not row["dropped_reason"]]
    for number, row in enumerate(classes):
        own = [one for one in rows if one["label"] == number]
        assert row["crops"] == len(own)
        assert row["sources"] == sorted({one["dir_name"] for one in own})
    assert 0 in [row["crops"] for row in classes]  # a class of closed crops alone
    record = read_build(there)
    assert [one["name"] for one in record["sources"]] == ["bbbc038"]
    assert not [key for key in record["counts"] if key.endswith("/local")]
    card = (there / "README.md").read_text(encoding="utf-8")
    with_crops = sum(row["crops"] > 0 for row in classes)
    assert f"{len(rows)} crops in {with_crops} class" in card
    assert "from 1 source" in card
    assert "lab/cells" in card
    assert "local" not in cards.generated_parts(card)["sizes"]
    assert record["card_sha256"] == cards.generated_sha256(card)


def test_withheld_crops_are_listed_with_their_reason(mixed, tmp_path):
    """Whoever misses a crop finds it among the exclusions, with its license."""
    there = published(mixed, tmp_path)
    listed = [
        row
        for row in pq.read_table(there / "exclusions.parquet").to_pylist()
        if row["stage"] == "publishing"
    ]
    closed = [row for row in rows_of(mixed) if row["terms"] == "local"]
    assert sorted(f"{row['id']}#{row['window']}" for row in listed) == sorted(
        row["image_id"] for row in closed
    )
    assert {row["detail"] for row in listed} == {"unknown"}
    (counts,) = read_build(there)["withheld"].values()
    assert counts == {"local": len(closed)}


def test_documents_of_a_whole_folder_are_its_own_but_the_card(open_only, tmp_path):
    """Reports are the same bytes; the card's facts come back from the folder without a loss."""
    edition = choose_edition(open_only)
    assert edition.is_whole
    there = published(open_only, tmp_path, edition=edition)
    for name in ("labels.parquet", "exclusions.parquet"):
        assert (there / name).read_bytes() == (open_only / name).read_bytes()
    own = cards.generated_parts((open_only / "README.md").read_text(encoding="utf-8"))
    new = cards.generated_parts((there / "README.md").read_text(encoding="utf-8"))
    differing = {name for name in own if own[name] != new[name]}
    assert differing <= {"status", "code", "front-matter"}
    assert {"status", "code"} <= differing
    assert verify(there, workers=0).findings == ()


def test_pictures_are_drawn_anew_of_the_rest_and_kept_of_a_whole(mixed, open_only, tmp_path):
    """Where crops are withheld the chart counts others; a whole folder's pictures go out as is."""
    rest = published(mixed, tmp_path / "a")
    for name in ("classes.png", "labels.png"):
        assert (rest / "pictures" / name).is_file()
    assert "(pictures/classes.png)" in (rest / "README.md").read_text(encoding="utf-8")
    chart = "pictures/labels.png"
    assert (rest / chart).read_bytes() != (mixed / chart).read_bytes()
    whole = published(open_only, tmp_path / "b")
    for path in (chart, "pictures/classes.png"):
        assert (whole / path).read_bytes() == (open_only / path).read_bytes()
        assert f"({path})" in (whole / "README.md").read_text(encoding="utf-8")


def test_writing_twice_gives_the_same_bytes(mixed, tmp_path):
    """Else the second publication of a folder would be a commit."""
    first, second = published(mixed, tmp_path / "a"), published(mixed, tmp_path / "b")
    for path in first.iterdir():
        if path.is_file():
            assert path.read_bytes() == (second / path.name).read_bytes()


# --- the card that stands there


def prose_of(there) -> str:
    """The prose hash that the published build.json keeps."""
    return read_build(there)["prose_sha256"]


def test_prose_edited_on_the_hub_is_kept(mixed, tmp_path):
    """What a person wrote there stays, and the generated parts are made anew."""
    first = published(mixed, tmp_path / "a")
    card = (first / "README.md").read_text(encoding="utf-8").replace("crops in", "CROPS IN", 1)
    edited = card + "\n## By hand\n\nHello.\n"
    standing = Standing(card=edited, prose_sha256=prose_of(first))
    second = published(mixed, tmp_path / "b", standing=standing)
    text = (second / "README.md").read_text(encoding="utf-8")
    assert text.endswith("\n## By hand\n\nHello.\n")
    assert "CROPS IN" not in text


def test_prose_edited_here_replaces_what_nobody_edited_there(mixed, tmp_path):
    """The prose that was published last is no hand's work, so that of the folder counts."""
    first = published(mixed, tmp_path / "a")
    here = tmp_path / "here"
    shutil.copytree(mixed, here)
    with (here / "README.md").open("a", encoding="utf-8") as stream:
        stream.write("\n## Mine\n")
    standing = Standing(
        card=(first / "README.md").read_text(encoding="utf-8"), prose_sha256=prose_of(first)
    )
    second = published(here, tmp_path / "b", standing=standing)
    assert (second / "README.md").read_text(encoding="utf-8").endswith("\n## Mine\n")


@pytest.mark.parametrize("card", ["# Mine\n", "---\nlicense: mit\n---\n# Mine\n"])
def test_card_without_marks_is_never_overwritten_silently(mixed, tmp_path, card):
    """It may be somebody's work; the message names it and the two ways out."""
    with pytest.raises(ValueError, match=r"README.md of lab/cells on the Hub.*--replace"):
        published(mixed, tmp_path, standing=Standing(card=card))


def test_bare_yaml_block_of_a_new_repository_is_no_work_of_anyone(mixed, tmp_path):
    """The Hub's page for new data sets leaves such a card."""
    there = published(mixed, tmp_path, standing=Standing(card="---\nlicense: mit\n---\n"))
    assert "license: cc0-1.0" in (there / "README.md").read_text(encoding="utf-8")


# --- in-house data


def pictures_of(raw) -> list:
    """Images of bbbc038 as they lie in its folder, sorted."""
    return sorted(path for path in (raw / "bbbc038").rglob("*.png") if "images" in path.parts)


def build_beside(raw, own, *, name: str, label: str, column: str):
    """Build bbbc038 beside the in-house images of a folder, all of one label."""
    lines = [f"{path.name},in-house,{label}\n" for path in sorted(own.glob("*.png"))]
    (own / "table.csv").write_text("".join([f"path,license,{column}\n", *lines]))
    table = inputs.from_table(own / "table.csv", own, [], name=name)
    config = BuildConfig(
        inputs=[*inputs.from_roots([str(raw)], list(OPEN)), table],
        output=own.parent / "cytoimagenet",
        parameters=preset("standard", **SMALL),
        workers=0,
    )
    build(config)
    return config.output


def build_with_own(to, *, label: str, column: str = "phenotype"):
    """bbbc038 beside four records of an in-house table."""
    raw = raw_data(to / "raw", OPEN, fields=12)
    own = to / "secret"
    own.mkdir()
    from PIL import Image

    for number, path in enumerate(pictures_of(raw)[:4]):
        with Image.open(path) as image:
            image.convert("L").rotate(90).resize((300, 280)).save(own / f"hush{number}.png")
    return build_beside(raw, own, name="hushlab", label=label, column=column)


def test_class_of_in_house_data_alone_is_refused(tmp_path):
    """Every shard names all classes, so its name would go out with open crops."""
    folder = build_with_own(tmp_path, label="hushed phenotype")
    with pytest.raises(ValueError, match=r"1 classes .*hushed phenotype.*Build without hushlab"):
        edition_of(folder)


def assert_untold(there, word: bytes) -> None:
    """No byte of any file, no string, column or image of any table holds the word."""
    for path in there.rglob("*"):
        assert word.decode() not in path.name
        if path.is_file():
            assert word not in path.read_bytes(), path.name
    for path in there.rglob("*.parquet"):
        table = pq.read_table(path)
        told = json.dumps(table.to_pylist(), default=str) + str(table.schema.metadata)
        assert word.decode() not in told, path.name


def test_nothing_tells_of_in_house_data(tmp_path):
    """Neither name, ids, numbers nor values that became no class stand in what is published."""
    folder = build_with_own(tmp_path, label="nucleus", column="cell_visible")
    assert "hushlab" in {row["dir_name"] for row in rows_of(folder)}
    there = published(folder, tmp_path / "out")
    assert verify(there, workers=0).findings == ()
    assert_untold(there, b"hush")
    crops = len(rows_of(there))
    record = read_build(there)
    assert [one["crops"] for one in record["lineage"]] == [crops]
    assert list(record["withheld"].values()) == [{}]
    for row in pq.read_table(there / "labels.parquet").to_pylist():
        assert row["assigned"] == record["label_fields"]["open"].get(row["label"], 0)
        assert {row[name] for name in ("candidates", "free", "strata", "entropy")} == {None}


def build_with_copies(to, *, label: str):
    """bbbc038 beside four of its images under in-house names, which sort before its own."""
    raw = raw_data(to / "raw", OPEN, fields=12)
    own = to / "secret"
    own.mkdir()
    for number, path in enumerate(pictures_of(raw)[-4:]):  # the first have no annotation
        shutil.copyfile(path, own / f"hush{number}.png")
    return build_beside(raw, own, name="acme", label=label, column="cell_visible")


def reasons_of(folder) -> dict[str, set[str]]:
    """Why assembly left out crops, by source."""
    found: dict[str, set[str]] = {}
    for row in pq.read_table(folder / "exclusions.parquet").to_pylist():
        if row["stage"] == "assembly":
            found.setdefault(row["source"], set()).add(row["reason"])
    return found


def test_open_twin_of_an_in_house_image_stays(tmp_path):
    """Whatever its id, the image that others may have isn't lost, and nobody reads of the other."""
    folder = build_with_copies(tmp_path, label="nucleus")
    assert reasons_of(folder) == {"acme": {"duplicate"}}
    assert {row["dir_name"] for row in rows_of(folder)} == {"bbbc038"}
    there = published(folder, tmp_path / "out", edition=choose_edition(folder))
    assert verify(there, workers=0).findings == ()
    assert len(rows_of(there)) == len(rows_of(folder))
    for word in (b"acme", b"hush"):
        assert_untold(there, word)


def test_open_crop_that_in_house_data_contradict_names_no_id(tmp_path):
    """Nothing is withheld where all in-house crops fell out, and still no document is as it was."""
    folder = build_with_copies(tmp_path, label="hushed mitosis")
    assert reasons_of(folder) == {"acme": {"conflict"}, "bbbc038": {"conflict"}}
    edition = choose_edition(folder)
    assert (edition.withheld, edition.is_whole) == ([], False)
    there = published(folder, tmp_path / "out", edition=edition)
    assert verify(there, workers=0).findings == ()
    assert reasons_of(there) == {"bbbc038": {"conflict"}}
    for word in (b"acme", b"hush"):
        assert_untold(there, word)


# --- folders that no build of today wrote


def test_folder_without_its_sources_is_told_to_be_built_again(open_only, tmp_path):
    """An older build.json doesn't say what a card needs."""
    shutil.copytree(open_only, tmp_path / "old")
    record = read_build(open_only)
    del record["sources"]
    (tmp_path / "old" / "build.json").write_text(json.dumps(record))
    with pytest.raises(DatasetNotAvailableError, match="older version"):
        choose_edition(tmp_path / "old")


def test_folder_that_is_not_whole_is_refused(mixed, tmp_path):
    """A missing report or shard is told before anything is asked of the Hub."""
    shutil.copytree(mixed, tmp_path / "a")
    (tmp_path / "a" / "labels.parquet").unlink()
    with pytest.raises(DatasetNotAvailableError, match=r"labels\.parquet"):
        choose_edition(tmp_path / "a")
    shutil.copytree(mixed, tmp_path / "b")
    next((tmp_path / "b" / "data" / "small").iterdir()).unlink()
    with pytest.raises(DatasetNotAvailableError, match="not whole"):
        choose_edition(tmp_path / "b")


def test_names_are_of_the_sources_that_were_built(mixed):
    """The fixture holds what it says."""
    assert {row["dir_name"] for row in rows_of(mixed)} == set(MIXED)
