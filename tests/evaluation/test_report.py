"""A report shows every score, hides nothing, runs nothing, and says what is simulated."""

import html.parser
import re
import warnings
from unittest import mock

import numpy as np
import pytest

from cytoimagenet_hf.evaluation import _plots, comparing
from cytoimagenet_hf.evaluation.report import SIMULATED, Facts, Points, text_table, write_report
from tests.evaluation.scores import a_score, a_table, a_task, an_outcome, some_features, summarize

EVIL = "<script>alert('$x_1$|')</script>"
LARGE = a_table(200, wells=200)


def facts(scored, **options):
    """Facts of scores and their predictions, compared in pairs."""
    pairs, notes = comparing.compare(scored)
    fields = {
        "scores": [score for score, _ in scored],
        "pairs": pairs,
        "outcomes": {score.identity: outcome for score, outcome in scored},
        "notes": notes,
    }
    return Facts(**fields | options)


def pages(folder, given):
    """The page and the Markdown of a report, without pictures, which take time."""
    with mock.patch.object(_plots, "_figure", return_value=None):
        files = write_report(folder, given)
    assert [path.name for path in files[:2]] == ["report.html", "report.md"]
    assert all(path.is_file() for path in files)
    return files[0].read_text(encoding="utf-8"), files[1].read_text(encoding="utf-8")


def lines_of(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_table_has_rows_of_tasks_and_columns_of_encoders():
    """Two tasks and three encoders, each accuracy in its cell, empty where there is none."""
    scored = [
        a_score("imagenet", (0, 1, 2)),
        a_score("intensity", range(6)),
        a_score("dino", (), task=a_task("other")),
    ]
    head, _, first, second = text_table([score for score, _ in scored]).splitlines()
    assert re.split(r"  +", head.strip()) == ["n", "largest class", "intensity", "imagenet", "dino"]
    assert re.split(r"  +", first) == ["made loo, concat-norm", "12", "50.0", "50.0", "75.0"]
    assert re.split(r"  +", second) == ["other loo, concat-norm", "12", "50.0", "100.0"]


def test_best_is_marked_alone_or_as_a_tie():
    """A clear best has a star; one that can't be told from another shares a sign with it."""
    clear = facts([a_score("random", range(90), images=LARGE), a_score(images=LARGE)])
    assert text_table(clear.scores, clear.pairs).endswith("55.0   100.0 *")
    tied = facts([a_score("random", (0, 1), images=LARGE), a_score(images=LARGE)])
    assert text_table(tied.scores, tied.pairs).endswith("99.0 =   100.0 =")
    assert "=" not in text_table(tied.scores) + text_table(clear.scores, clear.pairs)


def test_bold_in_the_pages_only_where_shown_to_be_better(tmp_path):
    """Markdown and HTML set the clear best in bold, and no tie."""
    clear = facts([a_score("random", range(90), images=LARGE), a_score(images=LARGE)])
    page, text = pages(tmp_path / "clear", clear)
    assert "**100.0 (98.1 to 100.0)**" in lines_of(text, "| made loo")[0]
    assert "<strong>100.0 (98.1 to 100.0)</strong>" in page
    tied = facts([a_score("random", (0, 1), images=LARGE), a_score(images=LARGE)])
    page, text = pages(tmp_path / "tied", tied)
    assert "**" not in lines_of(text, "| made loo")[0]
    assert "<strong>" not in page


def test_seeds_are_shown_by_mean_and_range(tmp_path):
    """Of 0, 6 and 12 right of 12 the mean is 50, from 0 to 100."""
    scored = [a_score("random", rows, seed=at) for at, rows in enumerate([range(12), range(6), ()])]
    _, text = pages(tmp_path, facts(scored))
    assert "50.0 (0.0 to 100.0; 3 seeds)" in text


def test_a_cell_of_fewer_queries_says_of_how_many(tmp_path):
    """The row has the most that an encoder scored; one that lost an image tells its own."""
    images = a_table()
    from tests.evaluation.test_results import setting

    outcome = an_outcome(images, unscorable={"i0003": "too few neighbors"})
    less = summarize(setting(encoder="dino"), images, [some_features(images)], outcome)
    given = facts([(less, outcome), a_score("random", (0, 1, 2))])
    row = text_table(given.scores).splitlines()[-1]
    assert re.split(r"  +", row)[1:] == ["12", "50.0", "75.0", "100.0 (of 11)"]
    _, text = pages(tmp_path, given)
    assert re.search(r"100\.0 \([\d.]+ to 100\.0; of 11\)", text)


def test_one_cluster_has_no_interval_in_the_table(tmp_path):
    """Where nothing is known of the spread, the cell says so."""
    scored = [a_score("imagenet", (0,), images=a_table(wells=1))]
    _, text = pages(tmp_path, facts(scored))
    assert "91.7 (no interval)" in text


def test_published_figures_stand_apart(tmp_path):
    """Ours 75.0 against 83.5 is -8.5; fusion is cytoimagenet+imagenet."""
    published = {"made": {"loo": {"imagenet": 83.5, "fusion": 86.41, "random": 27.18}}}
    scored = [a_score("imagenet", (0, 1, 2)), a_score("cytoimagenet+imagenet", (0, 1, 2))]
    _, text = pages(tmp_path, facts(scored, published=published))
    part = text.partition("## Beside the published figures")[2].partition("\n## ")[0]
    rows = lines_of(part, "| made")
    assert rows[0].endswith("| imagenet | 75.0 | 83.50 | -8.5 |")
    assert rows[1].endswith("| cytoimagenet+imagenet | 75.0 | 86.41 | -11.4 |")
    assert len(rows) == 2
    assert "83.5" not in text.partition("## Beside")[0]


def test_only_what_the_paper_published_has_a_published_figure(tmp_path):
    """The order of a fusion doesn't matter; modes, models and doubles that nobody published do."""
    published = {"made": {"loo": {"imagenet": 83.5, "cytoimagenet": 80.0, "fusion": 86.41}}}
    scored = [
        a_score("imagenet+cytoimagenet", (0, 1, 2)),
        a_score("imagenet", (0, 1, 2), mode="merge-norm"),
        a_score("imagenet+imagenet", (0, 1, 2)),
        a_score("cytoimagenet (run/model)", (0, 1, 2)),
    ]
    _, text = pages(tmp_path, facts(scored, published=published))
    part = text.partition("## Beside the published figures")[2].partition("\n## ")[0]
    (row,) = lines_of(part, "| made")
    assert row.endswith("| imagenet+cytoimagenet | 75.0 | 86.41 | -11.4 |")


def test_nothing_simulated_is_compared_with_published_figures(tmp_path):
    """The difference of simulated and real images isn't a number."""
    published = {"made": {"loo": {"imagenet": 83.5}}}
    scored = [a_score("imagenet", (0, 1, 2), images=a_table(simulated=True))]
    _, text = pages(tmp_path, facts(scored, published=published))
    assert "| imagenet | 75.0 | 83.50 | not comparable |" in text
    assert "-8.5" not in text


def test_simulated_is_said_everywhere(tmp_path):
    """Banner, rows of each table and the terminal's table; nothing of it on real images."""
    sim = facts([a_score(images=a_table(simulated=True)),
                 a_score("random", (1,), images=a_table(simulated=True))])  # fmt: skip
    page, text = pages(tmp_path / "simulated", sim)
    assert SIMULATED in page
    assert f"> **{SIMULATED}**" in text
    assert lines_of(text, "| made")
    assert all(r"\[simulated\]" in line for line in lines_of(text, "| made"))
    assert "[simulated]" in text_table(sim.scores)
    page, text = pages(tmp_path / "real", facts([a_score()]))
    assert "simulated" not in (page + text).replace("Simulated images are not", "").lower()


def test_pairs_are_listed_with_difference_and_p(tmp_path):
    """One pair: -45 points, p of 90 to 0, adjusted p in bold."""
    _, text = pages(
        tmp_path, facts([a_score("random", range(90), images=LARGE), a_score(images=LARGE)])
    )
    (line,) = [line for line in lines_of(text, "| made") if "random against imagenet" in line]
    assert "mcnemar exact | -45.0 (" in line
    assert line.endswith("| &lt; 0.0001 | **&lt; 0.0001** |")


def test_what_was_not_counted_is_listed_with_its_reason(tmp_path):
    """Unscorable queries, images without features and dropped ones appear with counts."""
    images = a_table()
    outcome = an_outcome(images, unscorable={"i0003": "too few neighbors"})
    from tests.evaluation.test_results import setting

    score = summarize(setting(), images, [some_features(images)], outcome)
    _, text = pages(tmp_path, facts([(score, outcome)], notes=["cyclops: no images at DIR"]))
    assert "too few neighbors: 1 query; no label: 2 not in the task" in text
    assert "cyclops: no images at DIR" in text.partition("## Not scored")[2]


class Tags(html.parser.HTMLParser):
    """Collects the names of tags and of attributes."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes = set(), set()

    def handle_starttag(self, tag, attrs):
        """Remember one tag."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def evil_points():
    return Points(task=EVIL, encoder=EVIL, mode=EVIL, points=np.zeros((2, 2)),
                  labels=(EVIL, "$"), shares=(0.5, 0.1), simulated=False)  # fmt: skip


def test_names_from_outside_run_nothing(tmp_path):
    """HTML, Markdown, math and terminal codes in names of tasks, encoders and labels stay text."""
    images = a_table(labels=(EVIL, "a|b\x1b[31m", "$\\frac{$"))
    scored = [a_score(EVIL, (0,), images=images, task=a_task(EVIL)),
              a_score("b\n\n# c", (0, 1), images=images, task=a_task(EVIL))]  # fmt: skip
    given = facts(scored, points=[evil_points()], notes=[EVIL])
    page, text = pages(tmp_path, given)
    write_report(tmp_path / "drawn", given)  # labels that are broken math are drawn as text
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.tags
    assert not any(name.startswith("on") for name in tags.attributes)
    assert "<script" not in text
    assert all(line.count("|") - line.count("\\|") in (0, 5, 6, 7, 8) for line in text.splitlines())
    assert not lines_of(text, "# c")
    assert "\x1b" not in text_table(given.scores)
    assert len(text_table(given.scores).splitlines()) == 3


def test_pictures_show_tasks_confusion_and_features(tmp_path):
    """Three PNGs a task, within the page as data, equal bytes for equal facts."""
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    random = np.random.default_rng(0)
    scored = [a_score(images=LARGE), a_score("random", range(90), images=LARGE)]
    points = [
        Points(task="made", encoder=name, mode="concat-norm", points=random.normal(size=(200, 2)),
               labels=LARGE.labels, shares=(0.5, 0.1), simulated=False)
        for name in ("imagenet", "random", "dino", "intensity")
    ]  # fmt: skip
    given = facts(scored, points=points)
    made = write_report(tmp_path / "a", given)
    assert [path.name for path in made[2:]] == [
        "accuracies-made.png", "confusion-made.png", "features-made.png",
    ]  # fmt: skip
    for path, other in zip(made, write_report(tmp_path / "b", given), strict=True):
        assert path.read_bytes() == other.read_bytes()
    for path in made[2:]:
        with image.open(path) as picture:
            assert min(picture.size) > 200
    assert made[0].read_text(encoding="utf-8").count("data:image/png;base64,") == 3


def test_tasks_with_like_names_keep_their_pictures(tmp_path):
    """`a/b` and `a:b` are two tasks with two pictures each."""
    pytest.importorskip("matplotlib")
    scored = [a_score(task=a_task("a/b")), a_score(task=a_task("a:b"))]
    made = write_report(tmp_path, facts(scored))
    assert len(set(made)) == len(made) == 6


def test_without_matplotlib_there_is_a_report_without_pictures(tmp_path, monkeypatch):
    """Pictures are left out, nothing else is."""
    import sys

    for name in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    made = write_report(tmp_path, facts([a_score()]))
    assert [path.name for path in made] == ["report.html", "report.md"]


@pytest.mark.parametrize("classes", [1, 60])
def test_any_number_of_classes_is_drawn(tmp_path, classes):
    """One class, as many as have colors, and more than have names."""
    pytest.importorskip("matplotlib")
    labels = tuple(f"class {at:03}" for at in range(classes))
    images = a_table(120, labels=labels)
    points = Points(task="made", encoder="imagenet", mode="joint-norm", shares=(1.0, 0.0),
                    points=np.zeros((120, 2)), labels=images.labels, simulated=True)  # fmt: skip
    made = write_report(tmp_path, facts([a_score(images=images)], points=[points]))
    assert len(made) == 5


def test_labels_that_the_font_lacks_raise_no_warnings(tmp_path):
    """Names in Chinese are drawn as boxes, and stand right in the tables."""
    pytest.importorskip("matplotlib")
    images = a_table(labels=("核", "细胞质"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, text, *pictures = write_report(tmp_path, facts([a_score(images=images)]))
    assert len(pictures) == 2
    assert "细胞质" in text.read_text(encoding="utf-8")


def test_no_scores_make_a_page_that_says_why(tmp_path):
    """Where nothing could be scored, the notes are the report."""
    _, text = pages(tmp_path, Facts(scores=[], notes=["bbbc021: no images"]))
    assert text == "# Scores\n\n## Not scored\n\nbbbc021: no images\n"
