"""What stands on a model's page is what was measured on real images."""

import pytest

from cytoimagenet_hf.evaluation.hubresults import check_datasets, render_eval_results
from tests.evaluation.scores import a_score, a_table


def test_results_for_the_hub_read_back():
    """The file is what huggingface_hub itself reads, sorted, with counts in the notes."""
    hub = pytest.importorskip("huggingface_hub")
    import yaml

    score, _ = a_score(wrong=(0, 1, 4))
    text = render_eval_results([score], "owner/made", revision="abc")
    (entry,) = hub.parse_eval_result_entries(yaml.safe_load(text))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("owner/made", "loo", 0.75)
    assert entry.dataset_revision == "abc"
    assert "9 of 12" in entry.notes


def test_simulated_scores_are_no_results_of_a_model():
    """What simulated cells gave never stands on a model's page."""
    score, _ = a_score(images=a_table(simulated=True))
    with pytest.raises(ValueError, match="simulated"):
        render_eval_results([score], "owner/made")
    with pytest.raises(ValueError, match="one encoder"):
        render_eval_results([a_score("a")[0], a_score("b")[0]], "owner/made")


def test_wrong_names_are_told_before_anything_is_scored():
    """An id has an owner and a name, and belongs to a task that is scored."""
    check_datasets({"made": "owner/made-1.0"}, ["made"])
    with pytest.raises(ValueError, match="'made' is no data set"):
        check_datasets({"made": "made"}, ["made"])
    with pytest.raises(ValueError, match="no data set"):
        check_datasets({"made": "../x/y"}, ["made"])
    with pytest.raises(ValueError, match="'other', which isn't scored"):
        check_datasets({"other": "owner/other"}, ["made"])
