"""The card: what `datasets` and the Hub read, and what a user sees."""

import dataclasses
import re

import pytest
import yaml
from huggingface_hub import DatasetCard

from cytoimagenet_hf import schema
from cytoimagenet_hf.hub._generated import KEYS
from cytoimagenet_hf.hub.cards import (
    CardFacts,
    LabelFacts,
    SizeFacts,
    SourceFacts,
    generated_parts,
    generated_sha256,
    prose_sha256,
    refresh_card,
    render_card,
)
from tests.loopback.cards import card_errors

FILE = "data/default/train-open-0badc0de-00000.parquet"


def source(**changes) -> SourceFacts:
    given = {
        "name": "fake",
        "title": "Made-up cells",
        "database": "made up",
        "page": "https://example.org/cells",
        "license": "CC0 1.0",
        "terms": "open",
        "citation": "Nobody 2020",
        "fields": 2,
        "crops": 4,
    }
    return SourceFacts(**(given | changes))


def facts(**changes) -> CardFacts:
    given = {
        "labels": [LabelFacts(label="nucleus", category="cell_visible", fields=2, crops=4)],
        "sources": [source()],
        "sizes": [
            SizeFacts(config="default", split="train", terms="open", rows=4, bytes=2_500_000)
        ],
        "data_files": {"default": {"train": [FILE]}},
        "fingerprint": "00ff",
        "parameters": {"min-fields": 10, "seed": 0},
        "paper": {"min-fields": 287, "seed": 0},
        "versions": {"numpy": "2.4.6"},
        "exclusions": {("rendering", "dim"): 1_234},
    }
    return CardFacts(**(given | changes))


def front(card: str) -> dict:
    return yaml.safe_load(generated_parts(card)["front-matter"])


def test_yaml_declares_exactly_the_files_given():
    """Configs, splits and paths stand as passed; the config default is the default."""
    block = front(render_card(facts()))
    assert block["configs"] == [
        {
            "config_name": "default",
            "default": True,
            "description": "build 00ff",
            "data_files": [{"split": "train", "path": [FILE]}],
        }
    ]
    assert "dataset_info" not in block  # features come from the Parquet files


def test_the_hub_reads_the_card():
    """huggingface_hub parses the block and finds the same values as a YAML reader."""
    text = render_card(facts())
    card = DatasetCard(text)
    assert card.data.to_dict() == front(text)
    assert card.data.license == "cc0-1.0"


def test_empty_splits_and_configs_are_not_declared():
    """`datasets` would raise on a split or config without files."""
    files = {"default": {"train": [FILE], "validation": []}, "tiny": {"train": []}}
    text = render_card(facts(data_files=files))
    assert [one["config_name"] for one in front(text)["configs"]] == ["default"]
    assert [one["split"] for one in front(text)["configs"][0]["data_files"]] == ["train"]
    assert "tiny" not in generated_parts(text)["configs"]


def test_several_licenses_are_other():
    """No single id is claimed for crops of different licenses, nor for an unknown one."""
    mixed = front(render_card(facts(sources=[source(), source(name="b", license="CC BY 4.0")])))
    unknown = front(render_card(facts(sources=[source(license="unknown", terms="local")])))
    assert (mixed["license"], mixed["license_name"]) == ("other", "per-crop")
    assert unknown["license"] == "other"


def test_equal_facts_give_equal_bytes_whatever_their_order():
    """Order of sources, parameters, sizes and exclusions doesn't show in the card."""
    two = [source(), source(name="another")]
    drops = {("rendering", "dim"): 1, ("assembly", "duplicate"): 2}
    one = facts(sources=two, exclusions=drops, versions={"a": "1", "b": "2"})
    other = facts(
        sources=two[::-1],
        exclusions=dict(reversed(drops.items())),
        versions={"b": "2", "a": "1"},
    )
    assert render_card(one) == render_card(other)


def test_where_it_stands_comes_first():
    """A folder's card says that it isn't on the Hub; one for the Hub names the place."""
    here = render_card(facts())
    there = render_card(facts(hub_id="lab/cells"))
    assert "This copy is **not on the Hub**" in generated_parts(here)["status"]
    assert 'load_dataset("cytoimagenet", split="train")' in here
    assert "on the Hub as" not in here
    assert "It stands on the Hub as [lab/cells]" in generated_parts(there)["status"]
    assert 'load_dataset("lab/cells", split="train")' in there
    assert front(there)["license"] == "cc0-1.0"


def test_a_card_for_the_hub_with_local_crops_is_refused():
    """What may not be published can't slip into the card of a published data set."""
    sizes = [SizeFacts(config="default", split="train", terms="local", rows=4, bytes=1)]
    assert render_card(facts(sizes=sizes))
    with pytest.raises(ValueError, match=r"may not be published.*default"):
        render_card(facts(sizes=sizes, hub_id="lab/cells"))


def test_simulated_pixels_are_declared_loudly():
    """Simulated data is named in the first lines and among the tags, real data isn't."""
    simulated, real = render_card(facts(simulated=True)), render_card(facts())
    assert generated_parts(simulated)["status"].startswith("> **SIMULATED PIXELS.**")
    assert "simulated" in front(simulated)["tags"]
    assert "SIMULATED" not in real
    assert "simulated" not in front(real)["tags"]


def test_tables_hold_the_facts():
    """Counts, sizes, drops and changed parameters stand in their tables."""
    parts = generated_parts(render_card(facts()))
    assert "| `default` | train | open | 4 | 2.5 MB |" in parts["sizes"]
    assert "| 0 | nucleus | cell_visible | 2 | 4 |" in parts["labels"]
    assert "| cell_visible | 1 | 2 | 4 |" in parts["labels"]
    assert "| rendering | dim | 1,234 |" in parts["exclusions"]
    assert "| min-fields | **10** | 287 | set for this build |" in parts["build"]
    assert "| seed | 0 |" in parts["build"]
    assert "[CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/)" in parts["sources"]


def test_first_lines_tell_what_it_is_its_size_and_its_terms():
    """Before the code stand crops, classes, MB of each config that people load, and terms."""
    sizes = [
        SizeFacts(config="default", split="train", terms="open", rows=4, bytes=2_500_000),
        SizeFacts(config="default", split="train", terms="local", rows=3, bytes=1_000_000),
        SizeFacts(config="tiny", split="train", terms="open", rows=4, bytes=42_400),
    ]
    files = {"default": {"train": [FILE]}, "tiny": {"train": [FILE]}}
    card = render_card(facts(sizes=sizes, data_files=files))
    status = generated_parts(card)["status"]
    assert "7 crops in 1 class from 1 source" in status
    assert "Sizes: `default` 3.5 MB, `tiny` 42 kB. Crops by terms: 4 open, 3 local" in status
    assert card.index("Sizes: ") < card.index("load_dataset(") < card.index("## Configs")


def test_configs_tell_what_a_load_transfers():
    """Sides and numbers are those of the build; one source alone is told for both ends."""
    files = {"default": {"train": [FILE]}, "tiny": {"train": [FILE]}}
    (size,) = facts().sizes
    given = {
        "data_files": files,
        "sizes": [size, dataclasses.replace(size, config="tiny", bytes=300_000)],
        "parameters": {"tiny_side": 32, "tiny_labels": 5, "tiny_crops": 7},
        "transfers": {("few", "CC0 1.0"): 200_000, ("many", "a"): 1_000_000, ("many", "b"): 1},
    }
    part = generated_parts(render_card(facts(**given)))["configs"]
    assert "| `default` | 2.5 MB | 4 | the crops as they were cut |" in part
    assert "| `tiny` | 0.3 MB | 4 | up to 5 labels with up to 7 crops each" in part
    assert "longest side at most 32 pixels" in part
    assert "from 0.2 MB (`few`) to 1.0 MB (`many`)" in part
    assert "{" not in part


def test_sources_are_folded_under_a_sum_by_license():
    """What is long is folded; each row tells what loading it alone transfers."""
    sources = [source(), source(name="b", license="CC BY 4.0", crops=6)]
    moved = {("b", "CC BY 4.0"): 1_500_000}
    part = generated_parts(render_card(facts(sources=sources, transfers=moved)))["sources"]
    assert (
        "| [CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/) | open | 1 | 4 |" in part
    )
    before, _, folded = part.partition("<details><summary>2 sources")
    assert "Nobody 2020" not in before
    assert "| 2 | 6 | 1.5 MB | Nobody 2020 |" in folded
    assert folded.endswith("</details>\n")


def test_pictures_stand_in_the_card_only_where_they_are():
    """Each has a text for those who don't see it, which tells of simulated data too."""
    both = ("pictures/classes.png", "pictures/labels.png")
    part = generated_parts(render_card(facts(pictures=both, simulated=True)))["labels"]
    for path in both:
        assert re.search(rf"!\[Simulated data: [a-z ,]+\]\({path}\)", part)
    assert "pictures" not in render_card(facts())


def test_reasons_stand_beside_what_departs_from_the_paper():
    """A preset's reason is told, and a preset equal to the paper has no such table."""
    other = {"allocation": "equal", "seed": 0}
    paper = {"allocation": "proportional", "seed": 0}
    part = generated_parts(render_card(facts(parameters=other, paper=paper)))["build"]
    assert "| allocation | **equal** | proportional | proportional shares leave rare" in part
    same = generated_parts(render_card(facts(parameters=paper, paper=paper)))["build"]
    assert "No parameter is other than in the paper." in same


def test_parameters_of_ours_are_not_called_the_papers():
    """What the paper doesn't have stands by itself and differs from nothing."""
    given = {"allocation": "equal", "small_side": 64}
    part = generated_parts(render_card(facts(parameters=given, paper={"allocation": "equal"})))
    papers, _, ours = part["build"].partition("Parameters of ours")
    assert "| allocation | equal |" in papers
    assert "small" not in papers
    assert r"| small\_side | 64 |" in ours


@pytest.mark.parametrize("field", ["name", "title", "database", "license", "citation"])
@pytest.mark.parametrize("hub_id", ["", "lab/cells"])
def test_hostile_facts_of_a_source_break_nothing(field, hub_id):
    """HTML, Markdown, YAML and marks in a source's words leave the block and the parts whole."""
    raw = 'x`|<script>*[a](b)\n---\nlicense: mit\n<!-- /generated:sources -->\n"{{ 1 }}'
    card = render_card(facts(sources=[source(**{field: raw})], hub_id=hub_id))
    assert generated_parts(card).keys() == generated_parts(render_card(facts())).keys()
    assert "<script>" not in card
    assert card_errors(card, "dataset") == []
    assert front(card)["license"] == ("other" if field == "license" else "cc0-1.0")


def test_the_hub_accepts_every_card():
    """Its validation finds nothing in a mixed, simulated and published card."""
    mixed = [source(), source(name="b", license="CC BY-NC 4.0", terms="noncommercial")]
    for given in ({}, {"simulated": True, "sources": mixed}, {"hub_id": "lab/cells"}):
        assert card_errors(render_card(facts(**given)), "dataset") == []


def test_every_column_is_explained():
    """The table of columns names the schema's columns, all of them and in their order."""
    named = re.findall(r"^\| `(\w+)` \|", generated_parts(render_card(facts()))["columns"], re.M)
    order = [name for name in named if name not in schema.CATEGORIES]
    published = [name for name in schema.PUBLISHED_COLUMNS if name not in schema.CATEGORIES]
    assert order == [*published, *schema.POINTER_COLUMNS]
    assert [name for name in named if name in schema.CATEGORIES] == list(schema.CATEGORIES)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a|b", r"a\|b"),
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ("two\n| rows |", r"two \| rows \|"),
        ("<!-- /generated:labels -->", "&lt;!-- /generated:labels --&gt;"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("il_1*", r"il\_1\*"),
        ("right\u202eleft", "rightleft"),  # an override of the reading direction
        ("{{ 7 * 7 }}", r"{{ 7 \* 7 }}"),
    ],
)
def test_names_from_outside_cannot_break_the_page(raw, shown):
    """Pipes, tags, marks, links, line ends and template code in a label come out as text."""
    label = LabelFacts(label=raw, category="cell_visible", fields=2, crops=4)
    part = generated_parts(render_card(facts(labels=[label])))["labels"]
    assert f"| 0 | {shown} | cell_visible | 2 | 4 |" in part


def test_only_web_addresses_become_links():
    """A page that isn't a plain http address is not linked."""
    part = generated_parts(render_card(facts(sources=[source(page="javascript:x")])))["sources"]
    assert "javascript" not in part
    assert "| Made-up cells |" in part


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no config `default`"),
        ({"default": {"train": []}}, "no config `default`"),
        ({"default": {"train": ["data/*.parquet"]}}, "not a plain relative path"),
        ({"default": {"train": ["/data/a.parquet"]}}, "not a plain relative path"),
        ({"default": {"train": ["../a.parquet"]}}, "not a plain relative path"),
        ({"default": {"train": [FILE], "validation": [FILE]}}, r"\('default', 'validation'\)"),
    ],
)
def test_files_that_datasets_would_misread_are_refused(files, message):
    """Patterns, paths that leave the folder, and splits without a size are errors."""
    with pytest.raises(ValueError, match=message):
        render_card(facts(data_files=files))


@pytest.mark.parametrize(
    ("rows", "category"),
    [(999, "n<1K"), (1_000, "1K<n<10K"), (890_737, "100K<n<1M"), (1_000_000, "1M<n<10M")],
)
def test_size_category(rows, category):
    """Ranges are those of the Hub, lower bound included."""
    sizes = [SizeFacts(config="default", split="train", terms="open", rows=rows, bytes=1)]
    assert front(render_card(facts(sizes=sizes)))["size_categories"] == [category]


def test_hash_ignores_prose_and_line_ends_but_not_facts():
    """Editing prose keeps the hash; one changed count or path in the YAML changes it."""
    card = render_card(facts())
    whole = generated_sha256(card)
    assert generated_sha256(card.replace("**Weak labels.**", "**Labels are weak.**")) == whole
    assert generated_sha256(card.replace("\n", "\r\n")) == whole
    assert generated_sha256(card.replace("1,234", "1,235")) != whole
    assert generated_sha256(card.replace(FILE, FILE.replace("train", "test"))) != whole


def test_refresh_keeps_prose_and_renews_facts():
    """A later release rewrites the generated parts of the card and nothing else."""
    old = render_card(facts()).replace("## Known limits", "## What to beware of")
    newer = facts(exclusions={("rendering", "dim"): 99})
    fresh = refresh_card(old, newer)
    assert "## What to beware of" in fresh
    assert generated_parts(fresh) == generated_parts(render_card(newer))


ADDED = """\
extra_gated_prompt: |-
  Tell who you are:

  configs: and why
language:
- en
- de
"""


@pytest.mark.parametrize("at", ["---\n", "configs:\n"])
def test_refresh_keeps_what_an_owner_added_to_the_yaml(at):
    """Keys that no build writes are prose: kept, part of its hash alone, wherever they stand."""
    plain = render_card(facts(appended=True))
    card = plain.replace(at, f"{at}{ADDED}" if at == "---\n" else f"{ADDED}{at}", 1)
    assert generated_sha256(card) == generated_sha256(plain)
    assert prose_sha256(card) != prose_sha256(plain)
    newer = facts(fingerprint="11ff")
    fresh = refresh_card(card, newer)
    front_matter = yaml.safe_load(fresh.split("---\n")[1])
    assert front_matter["extra_gated_prompt"] == "Tell who you are:\n\nconfigs: and why"
    assert front_matter["language"] == ["en", "de"]
    assert "dataset_info" not in front_matter  # ours, and not written any more
    assert generated_parts(fresh) == generated_parts(render_card(newer))
    assert prose_sha256(fresh) == prose_sha256(card)
    assert refresh_card(fresh, newer) == fresh


def test_yaml_of_a_card_is_under_names_that_are_known_as_ours():
    """Else a refresh would take what a build wrote for an owner's."""
    mixed = [source(), source(name="b", license="CC BY 4.0")]
    written = [facts(), facts(sources=mixed, hub_id="lab/cells", appended=True)]
    assert {key for one in written for key in front(render_card(one))} == KEYS


@pytest.mark.parametrize(
    "added",
    ['"configs": []\n', "configs : []\n", "<<: {configs: []}\n", "? configs\n: []\n", "x: [\n",
     "x: 1\u2028configs: []\n"],
)  # fmt: skip
def test_added_yaml_can_t_stand_for_ours(added):
    """What would declare other files in a form that is hard to see is refused, or in the hash."""
    card = render_card(facts())
    forged = card.replace("\n---\n", f"\ndoi: x\n{added}---\n", 1)
    with pytest.raises(ValueError, match="can't be told apart"):
        generated_parts(forged)
    twice = card.replace("\n---\n", "\ndoi: x\nconfigs: []\n---\n", 1)
    assert generated_sha256(twice) != generated_sha256(card)


def test_refresh_of_a_card_without_a_part_is_refused():
    """A card whose marks were deleted can't silently keep old numbers."""
    card = render_card(facts())
    broken = re.sub(r"<!-- /?generated:sizes -->\n", "", card)
    with pytest.raises(ValueError, match="lacks the generated part sizes"):
        refresh_card(broken, facts())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<!-- /generated:code -->\n", ""),
        ("<!-- generated:code -->\n", "<!-- generated:code -->\n<!-- generated:code -->\n"),
        ("<!-- /generated:code -->\n", "<!-- /generated:sizes -->\n"),
        ("## Configs\n", "<!-- generated:status -->\n<!-- /generated:status -->\n"),
        ("<!-- /generated:exclusions -->\n", ""),
    ],
)
def test_broken_marks_are_errors(old, new):
    """Marks that are missing, doubled or crossed are named instead of being guessed at."""
    with pytest.raises(ValueError, match=r"README\.md.*(out of place|never closed)"):
        generated_parts(render_card(facts()).replace(old, new, 1))


def test_a_page_without_yaml_is_not_a_card():
    """Text without the block at its top is refused."""
    with pytest.raises(ValueError, match="YAML block"):
        generated_parts("# CytoImageNet\n")


def test_the_paper_is_cited():
    """The BibTeX of the paper comes out with its braces whole."""
    card = render_card(facts())
    assert "title     = {{CytoImageNet}: A large-scale" in card
    assert "2111.11646" in card


def test_facts_are_frozen():
    """A card's facts can't change under the hash that was taken of them."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts().seed = 1
