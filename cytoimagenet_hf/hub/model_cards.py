"""The model's card: README.md made of facts, with what follows from the data it was trained on.

A card depends on nothing but its facts: no date, no host, no folder of the machine. Text from
outside (class names, settings, names of data sets) is escaped.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from cytoimagenet_hf import files
from cytoimagenet_hf.hub._curves import draw_curves, sparkline, thinned, values
from cytoimagenet_hf.hub._markdown import table, text
from cytoimagenet_hf.hub._modelfacts import ClassScore, ModelFacts, describe_run
from cytoimagenet_hf.hub._trainingdata import DataFacts, DataPart, front_matter
from cytoimagenet_hf.hub.licenses import Terms, strictest, terms_of

__all__ = [
    "ClassScore",
    "DataFacts",
    "DataPart",
    "ModelFacts",
    "describe_run",
    "license_of_model",
    "render_eval_results",
    "render_model_card",
    "weights_terms",
    "write_model_card",
]

CURVES = "curves.png"
EVAL_RESULTS = ".eval_results/cytoimagenet.yaml"
_PLAIN = re.compile(r"[\w.:/@-]+", re.ASCII)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_NO_ONE_LICENSE = "terms-of-training-data"  # license_name where the Hub has no id for the terms
_STATED = re.compile(r"strictest terms of their training data: \*\*(?P<license>.+?)\*\*")
_METRICS = {  # of final.json -> (type on the Hub, name)
    "accuracy": ("accuracy", "top-1 accuracy"),
    "accuracy_top5": ("accuracy", "top-5 accuracy"),
    "accuracy_top7": ("accuracy", "top-7 accuracy"),
    "balanced_accuracy": ("accuracy", "balanced accuracy"),
    "macro_f1": ("f1", "macro F1"),
}
_ROWS = 12  # of the table of validations
_LIMITS_OF_CURATED = (
    "Labels are weak: a class is what was known of a whole field of view (a compound, a cell "
    "line, a stain), so many images show nothing of their class.",
    "Classes often go with one source, microscope or plate. The network may tell the background, "
    "the contrast or the magnification apart instead of cells; high accuracy on this data set is "
    "no proof of biology.",
)
_LIMITS = (
    "The numbers above are of the same data set's validation split. What the features are worth "
    "on other images must be measured there.",
    "It saw gray images. Of a color image only what becomes of it in gray was seen in training; "
    "of a stack of channels, embed each and join the features.",
    "Images normalized in another way, or of cells much larger or smaller in pixels, are outside "
    "of what it was trained on. Not for diagnosis.",
)
_SIMULATED = (
    "> **TRAINED ON SIMULATED PIXELS.** The images of its data set show no real cells. It is for "
    "trying the software; neither its numbers nor its features say anything of biology."
)


def write_model_card(
    output: Path, *, hub_id: str = "", say: Callable[[str], None] = lambda _: None
) -> Path:
    """Write README.md, curves.png and .eval_results beside the weights of a finished run.

    Args:
        output: folder of the run.
        hub_id: where the model will stand, or "".
        say: told what isn't known of the data set.

    Returns:
        The card's path.

    Raises:
        ValueError: a file of the run is absent or isn't what a run writes.
        DiskError: a file can't be written.
    """
    facts = describe_run(output, hub_id=hub_id)
    if facts.data.note:
        say(f"The model's card says nothing of the data set's terms: {facts.data.note}")
    folder = output / "model"
    facts = replace(facts, curves=draw_curves(facts.history, folder / CURVES))
    results = render_eval_results(facts)
    if results:
        files.write_text(folder / EVAL_RESULTS, results)
    else:
        files.forget(folder / EVAL_RESULTS)
    files.write_text(folder / "README.md", render_model_card(facts))
    return folder / "README.md"


def weights_terms(data: DataFacts) -> Terms:
    """Return the strictest terms of all training rows, which the weights state as theirs."""
    return strictest(*[part.license for part in data.parts] or ["unknown"])


def license_of_model(folder: Path) -> str:
    """Read the license that a model's folder states of its weights: in its card, else config.json.

    Returns:
        As it is worded there; where our card names several, joined as `strictest` joins them. "" if
        the folder states none.
    """
    card, front = "", dict[str, Any]()
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        card = (folder / "README.md").read_text(encoding="utf-8")
        front = front_matter(folder / "README.md")
    config = files.read_json(folder / "config.json")
    known = config.get("pretrained_cfg") if isinstance(config, dict) else None
    license = front.get("license") or (known.get("license") if isinstance(known, dict) else "")
    if license == "other":
        license = front.get("license_name") or "unknown"
    if license == _NO_ONE_LICENSE:
        stated = _STATED.search(card)
        license = stated["license"] if stated else "unknown"
    return str(license or "")


def render_model_card(facts: ModelFacts) -> str:
    """Return README.md for `facts`: YAML front matter, then the card in Markdown."""
    parts = [
        f"---\n{_front_matter(facts)}---",
        f"# {text(_title(facts))}",
        _SIMULATED if facts.data.simulated else "",
        _summary(facts),
        f"## Load\n\n{_loading(facts)}",
        f"## Numbers\n\n{_numbers(facts)}",
        f"## Training data and terms\n\n{_terms(facts)}",
        f"## Training\n\n{_training(facts)}",
        f"## Preprocessing\n\n{_preprocessing(facts)}",
        f"## Limits\n\n{_limits(facts)}",
        f"## Classes\n\n{_classes(facts)}",
        "## Citation\n\nMethod and first data set: Hua, Lu, Moses: CytoImageNet "
        "([arXiv:2111.11646](https://arxiv.org/abs/2111.11646)). Name also the makers of the "
        "images, which the data set's card lists.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def render_eval_results(facts: ModelFacts) -> str:
    """Return the file of results that the Hub reads; "" where there is nothing to refer to."""
    if not facts.data.on_hub or not facts.data.validation_split:
        return ""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = [
        EvalResultEntry(
            dataset_id=facts.data.id,
            task_id=facts.data.config or "default",
            value=value,
            dataset_revision=facts.data.revision or None,
            notes=f"{name}, split {facts.data.validation_split}",
        )
        for _, name, value in _results(facts)
    ]
    dumped: str = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return dumped if entries else ""


def _front_matter(facts: ModelFacts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    data = facts.data
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=data.id,
            dataset_name=data.id,
            dataset_config=data.config or None,
            dataset_split=data.validation_split,
            dataset_revision=data.revision or None,
            metric_type=kind,
            metric_name=name,
            metric_value=value,
        )
        for kind, name, value in _results(facts)
    ]
    tags = ["image-classification", "timm", "transformers", "biology", "microscopy"]
    license: dict[str, Any] = dict(_license(facts))
    card = ModelCardData(
        **license,
        library_name="timm",
        pipeline_tag="image-classification",
        tags=[*tags, *(["simulated"] if data.simulated else [])],
        datasets=[data.id] if data.on_hub else None,
        base_model=_base_model(facts),
        metrics=sorted({kind for kind, _, _ in _results(facts)}) or None,
        model_name=_title(facts),
        eval_results=results or None,
    )
    return card.to_yaml(line_break="\n") + "\n"


def _license(facts: ModelFacts) -> dict[str, str]:
    if hub_id := weights_terms(facts.data).hub_id:
        return {"license": hub_id}
    found = {"license": "other", "license_name": _NO_ONE_LICENSE}
    if facts.hub_id:
        page = f"https://huggingface.co/{facts.hub_id}"
        found["license_link"] = f"{page}#training-data-and-terms"
    return found


def _results(facts: ModelFacts) -> list[tuple[str, str, float]]:
    """Return (type, name, value) of each number that a run with validation has.

    Top 7 of three classes is always 1 and says nothing, so it is left out.
    """
    if not facts.data.validation_split:
        return []
    few = {f"accuracy_top{k}" for k in (5, 7) if k >= len(facts.classes)}
    return [
        (kind, name, round(float(facts.metrics[key]), 6))
        for key, (kind, name) in _METRICS.items()
        if key in facts.metrics and key not in few and math.isfinite(facts.metrics[key])
    ]


def _base_model(facts: ModelFacts) -> str | None:
    """Name the model on the Hub whose weights the run started from."""
    model = str(facts.settings.get("model", ""))
    if not facts.settings.get("pretrained"):
        return None
    if model.startswith("hf-hub:"):
        return model.removeprefix("hf-hub:").partition("@")[0]
    return f"timm/{model}" if re.fullmatch(r"\w+\.\w+", model, re.ASCII) else None


def _title(facts: ModelFacts) -> str:
    return (
        facts.hub_id.rpartition("/")[2]
        or f"{facts.data.id.rpartition('/')[2]}-{facts.architecture}"
    )


def _summary(facts: ModelFacts) -> str:
    size = facts.preprocessing.get("input_size", ["", "", "?"])
    side = list(size)[-1] if isinstance(size, (list, tuple)) else "?"
    where = (
        f"It stands on the Hub as [{facts.hub_id}](https://huggingface.co/{facts.hub_id})."
        if facts.hub_id
        else "It is **not on the Hub**: it stands in the folder that holds this file."
    )
    return (
        f"{_code(facts.architecture)} ({facts.parameters:,} parameters) that tells "
        f"{len(facts.classes):,} classes of images apart, trained on "
        f"{_data_link(facts.data)}; its features serve for other tasks too. Input: {side} x {side} "
        f"pixels, gray repeated in three channels. {where}"
    )


def _data_link(data: DataFacts) -> str:
    if data.on_hub and _HUB_ID.fullmatch(data.id):
        return f"[{data.id}](https://huggingface.co/datasets/{data.id})"
    return text(data.id)


def _loading(facts: ModelFacts) -> str:
    place = facts.hub_id or "FOLDER"
    scheme = "hf-hub" if facts.hub_id else "local-dir"
    note = (
        "" if facts.hub_id else "`FOLDER` is the absolute path of the one that holds this file.\n\n"
    )
    return note + (
        "```python\n"
        "import timm\n"
        "from PIL import Image\n\n"
        'image = Image.open("cells.png").convert("RGB")  # gray three times\n'
        f'model = timm.create_model("{scheme}:{place}", pretrained=True).eval()\n'
        "settings = timm.data.resolve_model_data_config(model)\n"
        "transform = timm.data.create_transform(**settings, is_training=False)\n"
        "logits = model(transform(image)[None])\n"
        f'features = timm.create_model("{scheme}:{place}", pretrained=True, num_classes=0)\n'
        "vector = features.eval()(transform(image)[None])\n"
        "```\n\n"
        "```python\n"
        "from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline\n\n"
        f'processor = AutoImageProcessor.from_pretrained("{place}")\n'
        f'model = AutoModelForImageClassification.from_pretrained("{place}")\n'
        f'classes = pipeline("image-classification", "{place}")("cells.png")\n'
        f'embed = pipeline("image-feature-extraction", "{place}")\n'
        'embedding = embed("cells.png", pool=True, return_tensors=True)\n'
        "```"
    )


def _numbers(facts: ModelFacts) -> str:
    results = _results(facts)
    if not results:
        return "The run had no validation split, so nothing is known of how good it is."
    split = _code(facts.data.validation_split)
    lines = [
        f"On split {split}, {int(_number(facts.metrics, 'images_seen')):,} training images seen "
        f"in {int(_number(facts.metrics, 'steps')):,} steps:",
        table(("metric", "value"), [(name, f"{value:.4f}") for _, name, value in results], right=1),
    ]
    if "classes_never_hit" in facts.metrics:
        never = int(_number(facts.metrics, "classes_never_hit"))
        lines.append(f"Classes never predicted rightly: {never:,} of {len(facts.classes):,}.")
    return "\n\n".join([*lines, *_curves(facts)])


def _curves(facts: ModelFacts) -> list[str]:
    drawn = [
        (
            name,
            sparkline([value for _, value in points]),
            f"{points[0][1]:.4g}",
            f"{points[-1][1]:.4g}",
        )
        for name, kind, key in (
            ("training loss", "train", "loss"),
            ("validation loss", "validation", "loss"),
            ("top-1 accuracy", "validation", "accuracy"),
        )
        if (points := values(facts.history, kind, key))
    ]
    if not drawn:
        return []
    found = [table(("curve", "", "first", "last"), drawn, right=2)]
    losses = dict(values(facts.history, "validation", "loss"))
    steps = thinned(values(facts.history, "validation", "accuracy"), _ROWS)
    rows = [
        (f"{int(step):,}", f"{losses[step]:.4f}" if step in losses else "", f"{value:.4f}")
        for step, value in steps
    ]
    if rows:
        header = ("step", "validation loss", "top-1 accuracy")
        body = table(header, rows, right=3)
        found.append(_folded("Validations", body))
    return [*found, f"![Loss and accuracy over steps]({CURVES})"] if facts.curves else found


def _terms(facts: ModelFacts) -> str:
    data = facts.data
    known = [
        ("data set", _data_link(data)),
        ("config", text(data.config or "default")),
        (
            "splits",
            text(
                f"{data.train_split} for training, {data.validation_split or 'none'} for validation"
            ),
        ),
        ("revision", _code(data.revision) if data.revision else ""),
        ("build", _code(data.build) if data.build else ""),
    ]
    what = table(("", ""), [row for row in known if row[1]])
    if not data.parts:
        why = f" ({text(data.note)})" if data.note else ""
        return (
            f"{what}\n\nThe data set states no terms that could be read{why}. Nothing follows for "
            f"these weights: ask its makers before you use them for more than looking at them."
        )
    rows = [
        (
            text(part.name),
            text(part.database),
            text(terms_of(part.license).license),
            terms_of(part.license).terms,
            f"{part.crops:,}" if part.crops else "",
        )
        for part in data.parts
    ]
    header = ("source", "database", "license", "terms", "training images")
    return "\n\n".join([what, table(header, rows, right=1), _what_follows(weights_terms(data))])


def _what_follows(terms: Terms) -> str:
    """Say in words what the strictest terms mean for weights."""
    name = text(terms.license)
    lines = [
        "Whether weights are made *of* the images they learned from is not settled by law. Here "
        f"they carry the strictest terms of their training data: **{name}** ({terms.terms})."
    ]
    if not terms.publishable:
        lines.append(
            "Some of the images may not be passed on, or nobody knows whether they may: use these "
            "weights for your own research, and ask the makers of the images before anything else."
        )
    elif not terms.commercial:
        lines.append("No commercial use.")
    if terms.share_alike:
        lines.append("What you make of these weights carries the same license.")
    if terms.attribution:
        lines.append("Name the makers of the images; the data set's card lists them.")
    return " ".join([*lines, "This is a rule for sorting, not legal advice."])


def _training(facts: ModelFacts) -> str:
    start = (
        f"Started from the weights of {_code(facts.settings.get('model', ''))}, whose own "
        f"terms and training data come on top."
        if facts.settings.get("pretrained")
        else "Started from random weights."
    )
    rows = [(_code(name), text(str(value))) for name, value in sorted(facts.settings.items())]
    made = ", ".join(f"{name} {facts.versions[name]}" for name in sorted(facts.versions))
    return "\n\n".join(
        [
            start,
            _folded("All settings", table(("setting", "value"), rows)),
            f"Made with {text(made)}.",
        ]
    )


def _preprocessing(facts: ModelFacts) -> str:
    known = facts.preprocessing
    keys = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
    rows = [(f"`{key}`", text(str(known[key]))) for key in keys if key in known]
    return (
        "Gray images of 8 bits, as a build of the data set normalizes them, are resized whole to a "
        "square, repeated in three channels and normalized. timm's transform and transformers' "
        "processor read the same from config.json:\n\n" + table(("key", "value"), rows)
    )


def _limits(facts: ModelFacts) -> str:
    lines = [*(_LIMITS_OF_CURATED if facts.data.build else ()), *_LIMITS]
    if facts.data.simulated:
        lines.insert(0, "Simulated training data: see above.")
    return "\n".join(f"- {line}" for line in lines)


def _classes(facts: ModelFacts) -> str:
    scores = {one.name: one for one in facts.scores}
    rows = []
    for number, name in enumerate(facts.classes):
        one = scores.get(name)
        counts = (one.images, one.predicted, one.right) if one else ("", "", "")
        rows.append((str(number), text(name), *(str(count) for count in counts)))
    header = ("integer", "class", "validation images", "predicted", "right")
    return _folded(f"All {len(rows):,} classes", table(header, rows, right=3))


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _code(raw: object) -> str:
    """Set plain names as code, where escapes would be shown; anything else as text."""
    plain = str(raw)
    return f"`{plain}`" if _PLAIN.fullmatch(plain) else text(plain)


def _number(metrics: Mapping[str, float], key: str) -> float:
    value = metrics.get(key, 0)
    return value if math.isfinite(value) else 0
