"""Scores as the Hub reads them on a model's page: `.eval_results/<task>.yaml`."""

import re
from collections.abc import Mapping, Sequence

from cytoimagenet_hf.evaluation.results import Score

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def check_datasets(datasets: Mapping[str, str], tasks: Sequence[str]) -> None:
    """Refuse wrong names before anything is scored.

    Args:
        datasets: task -> id of its images on the Hub.
        tasks: those that are scored.

    Raises:
        ValueError: an id isn't OWNER/NAME, or there is no such task.
    """
    for task, dataset in datasets.items():
        if task not in tasks:
            raise ValueError(f"The data set {dataset} is of {task!r}, which isn't scored here.")
        if not _ID.fullmatch(dataset):
            raise ValueError(f"{dataset!r} is no data set of the Hub; they are named OWNER/NAME.")


def render_eval_results(
    scores: Sequence[Score], dataset_id: str, *, revision: str | None = None
) -> str:
    """Return `.eval_results/<task>.yaml` of one encoder, as a model's page on the Hub shows it.

    Args:
        scores: of one encoder and one task.
        dataset_id: where the task's images stand on the Hub, as `owner/name`.
        revision: of that data set.

    Raises:
        ValueError: a score is of simulated images, which say nothing of the model; or scores of
            several encoders or tasks.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    if any(score.simulated for score in scores):
        raise ValueError("Scores of simulated images are never written as results of a model.")
    if len({(score.encoder, score.task) for score in scores}) != 1:
        raise ValueError("A file of results is of one encoder and one task.")
    entries = [
        EvalResultEntry(
            dataset_id=dataset_id,
            task_id=score.protocol.name,
            value=round(score.accuracy, 6),
            dataset_revision=revision,
            notes=f"{score.protocol.k}-nearest neighbors, {score.mode}, preset {score.preset}, "
            f"{score.correct} of {score.n}",
        )
        for score in sorted(scores, key=lambda one: (one.protocol.name, one.preset, one.mode))
    ]
    dumped: str = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
    return dumped
