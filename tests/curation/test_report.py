"""The page of a build: it shows every fact, escapes all text, and needs nothing from outside."""

import base64
import html.parser
import io

import numpy as np
import pytest
from PIL import Image

from cytoimagenet_hf.curation.report import (
    GALLERY_CLASSES,
    PICTURES,
    THUMBNAIL,
    LabelFacts,
    RefusalFacts,
    ReportFacts,
    SourceFacts,
    SplitFacts,
    render,
    write_report,
)
from cytoimagenet_hf.sources import SourceFolder

EVIL = "<script>alert('&')</script>"


class Page(html.parser.HTMLParser):
    """Collects tags, attributes and visible text, and checks that tags nest."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.links, self.texts, self.ids = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Keep the tag open until its end."""
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        """Close the tag that was opened last."""
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        """Keep what a reader sees."""
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All visible text, blanks squeezed."""
        return " ".join(" ".join(self.texts).split())


def tile(level: int = 100, height: int = 40, width: int = 40) -> np.ndarray:
    """A gray crop."""
    return np.full((height, width), level, dtype=np.uint8)


def facts(**changes) -> ReportFacts:
    """A small build with one kept and one dropped label."""
    full = {
        "title": "CytoImageNet build",
        "build": "0a1b2c3d",
        "sources": [
            SourceFacts(
                name="bbbc006",
                title="Human U2OS cells",
                license="unknown",
                terms="local",
                fields=1234,
                records=1240,
                crops=4000,
                files={"used": 2468, "notes": ["plane z_00 is used"], "unused": {}, "absent": {}},
            )
        ],
        "labels": [
            label("u2os", candidates=1200, assigned=1000, crops=990, strata=4, strata_covered=3),
            label("actin", candidates=14, dropped_reason="14 free fields are fewer than 287"),
        ],
        "splits": [SplitFacts(name="train", crops=891, groups=350, labels=1)],
        "refusals": [
            RefusalFacts(stage="rendering", reason="dim", count=3, example="bbbc006/a#whole"),
            RefusalFacts(stage="assembly", reason="duplicate", count=7),
        ],
        "gallery": {"u2os": [tile()]},
        "refused": {"dim": [tile(0)]},
        "parameters": {"seed": 0, "min_fields": 287},
        "versions": {"numpy": "2.4.6"},
        "next_steps": [("python -c 'load()'", "Load it.")],
    }
    return ReportFacts(**(full | changes))


def label(name: str, **more) -> LabelFacts:
    """A row of the label table."""
    row = {"category": "cell_type", "candidates": 0, "assigned": 0, "crops": 0, "sources": ["s"]}
    return LabelFacts(label=name, **(row | more))


def test_every_fact_is_on_the_page():
    """Numbers, reasons, notes, terms, parameters and commands are all there, as text."""
    page = Page(render(facts()))
    for shown in (
        "CytoImageNet build", "0a1b2c3d", "bbbc006", "Human U2OS cells", "unknown", "local",
        "1,234", "1,240", "2,468", "plane z_00 is used", "u2os", "1,200", "3 of 4", "actin",
        "14 free fields are fewer than 287", "dim", "bbbc006/a#whole", "duplicate", "train", "891",
        "350", "min_fields", "287", "2.4.6", "python -c 'load()'", "Load it.",
    ):  # fmt: skip
        assert shown in page.text, shown


def test_headline_counts_crops_classes_and_drops():
    """891 crops of the splits, one kept class, one source, and 3 + 7 dropped."""
    page = Page(render(facts()))
    assert "crops 891 classes 1 fields of view 1,234 sources 1 dropped or refused 10" in page.text


def test_tags_nest_and_nothing_comes_from_outside():
    """The page is whole HTML without scripts; links stay on it and pictures are inside."""
    page = Page(render(facts()))
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    for link in page.links:
        assert link.startswith("data:image/jpeg;base64,") or link[1:] in page.ids, link


def test_no_style_reaches_out():
    """The styles import and fetch nothing."""
    text = render(facts())
    assert "url(" not in text
    assert "@import" not in text


def test_text_from_outside_is_escaped():
    """Names from files and tables can't become tags, wherever they stand."""
    source = SourceFacts(
        name=EVIL,
        title=EVIL,
        license=EVIL,
        terms=EVIL,
        fields=1,
        records=1,
        files={
            "used": 1,
            "notes": [EVIL],
            "unused": {EVIL: {"count": 1, "examples": [EVIL]}},
            "absent": {EVIL: {"count": 9, "examples": [EVIL]}},
        },
    )
    page = render(
        facts(
            title=EVIL,
            notes=[EVIL],
            sources=[source],
            labels=[label(EVIL), label(EVIL, dropped_reason=EVIL)],
            refusals=[RefusalFacts(stage=EVIL, reason=EVIL, count=1, example=EVIL)],
            gallery={EVIL: [tile()]},
            refused={EVIL: [tile()]},
            parameters={EVIL: EVIL},
            next_steps=[(EVIL, EVIL)],
        )
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 20
    assert Page(page).open == []


def test_pictures_are_small_jpegs_of_the_crops():
    """A 512 x 256 crop becomes 128 x 64, and its gray level survives."""
    page = Page(render(facts(gallery={"a": [tile(77, 256, 512)]}, refused={})))
    (link,) = [link for link in page.links if link.startswith("data:")]
    picture = Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2])))
    assert picture.size == (THUMBNAIL, THUMBNAIL // 2)
    assert abs(int(np.asarray(picture).mean()) - 77) <= 1


def test_galleries_are_bounded_and_say_so():
    """Only the first crops of the first classes are shown, and the page says how many there are."""
    many = {f"class {at}": [tile()] * (PICTURES + 5) for at in range(GALLERY_CLASSES + 1)}
    page = Page(render(facts(gallery=many, refused={})))
    assert page.tags.count("img") == PICTURES * GALLERY_CLASSES
    assert f"{GALLERY_CLASSES} of {GALLERY_CLASSES + 1} classes are shown" in page.text


def test_banner_stands_only_over_simulated_data():
    """Simulated pictures are called so; real ones aren't."""
    assert "Simulated data." in render(facts(simulated=True))
    assert "Simulated data." not in render(facts())


def test_empty_build_is_still_a_page():
    """A build that kept nothing says so in each part instead of failing."""
    page = Page(render(ReportFacts(title="empty")))
    for shown in ("No label was kept.", "There are no crops", "Nothing was dropped.", "No rows"):
        assert shown in page.text
    assert "What to do next" not in page.text


def test_report_of_a_source_folder_fits_as_it_stands(tmp_path):
    """`SourceFolder.report()` needs no translation; unused and absent files come with examples."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "odd.txt").write_text("x")
    folder = SourceFolder(tmp_path, "bbbc006")
    folder.miss("named in the table", "gone.tif")
    source = SourceFacts(
        name="a", title="b", license="c", terms="d", fields=0, records=0, files=folder.report()
    )
    page = Page(render(facts(sources=[source])))
    assert "notes/*.txt: 1, namely notes/odd.txt" in page.text
    assert "named in the table: 1, namely gone.tif" in page.text


@pytest.mark.parametrize(("entropy", "shown"), [(None, "-"), (1.5, "1.50")])
def test_entropy_is_shown_where_it_is_known(entropy, shown):
    """A label without strata has a dash, not a zero."""
    assert f"0 of 0 {shown} s" in Page(render(facts(labels=[label("x", entropy=entropy)]))).text


def test_write_report_replaces_the_file_whole(tmp_path):
    """The page is written below new folders, in UTF-8, twice the same bytes."""
    to = tmp_path / "new" / "report.html"
    write_report(facts(title="größe"), to)
    first = to.read_bytes()
    write_report(facts(title="größe"), to)
    assert first == to.read_bytes()
    assert "größe" in first.decode()
    assert [path.name for path in to.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(("notes", "is_open"), [(5, True), (6, False)])
def test_many_notes_are_folded_away(notes, is_open):
    """Up to five notes stand open above the tables; more wait behind their number."""
    text = render(facts(notes=[f"note {at}" for at in range(notes)]))
    assert f"{notes} notes on this build" in Page(text).text
    assert ("<details open>" in text) is is_open
