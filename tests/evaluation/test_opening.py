"""Tasks are found in their folders, and what isn't found is named."""

import pytest

from cytoimagenet_hf import simulation
from cytoimagenet_hf.errors import CytoImageNetError, TableError, TaskNotFoundError
from cytoimagenet_hf.evaluation import opening, tasks


def cells(to):
    simulation.simulate("cyclops", to, fields=24)
    return to


def test_every_task_that_lies_in_a_root_is_opened(tmp_path):
    """One is there; of the others it is said where they were looked for."""
    root = cells(tmp_path / "data")
    opened, missing = opening.open_tasks([str(root)])
    assert [one.task.name for one in opened] == ["cyclops"]
    assert opened[0].images.simulated
    assert len(missing) == len(tasks.names()) - 1
    assert any("coos7: no folder" in one and str(root / "coos7") in one for one in missing)


def test_a_task_can_have_a_folder_of_its_own(tmp_path):
    """NAME=FOLDER says where one task lies; the second root is tried after the first."""
    root = cells(tmp_path / "data")
    own = root / "cyclops"
    (tmp_path / "empty").mkdir()
    for roots in ([f"cyclops={own}"], [str(tmp_path / "empty"), str(root)]):
        opened, missing = opening.open_tasks(roots, ["cyclops"])
        assert [one.task.name for one in opened] == ["cyclops"]
        assert missing == []


def test_another_layout_is_missing_not_empty(tmp_path):
    """Files of another data set in the task's folder are told as not found."""
    simulation.simulate_negative("cyclops", tmp_path)
    opened, missing = opening.open_tasks([str(tmp_path)], ["cyclops"])
    assert opened == []
    assert "cyclops: looked for" in missing[0]


def test_wrong_names_are_errors(tmp_path):
    """A misspelled task or an absent root would otherwise be passed over."""
    with pytest.raises(ValueError, match="Did you mean cyclops"):
        opening.open_tasks([str(tmp_path)], ["cyclop"])
    with pytest.raises(ValueError, match="Unknown task 'coos'"):
        opening.open_tasks([f"coos={tmp_path}"])
    with pytest.raises(ValueError, match="absent is no folder"):
        opening.open_tasks([str(tmp_path / "absent")])


def test_labels_are_read_with_their_keys(tmp_path):
    """Rows are sorted by id, other columns are keys, and | parts several values."""
    path = tmp_path / "labels.csv"
    path.write_text("id,label,split,batch\nb,s,test,w1|w2\na,g1,train,w1\n", encoding="utf-8")
    images = opening.read_labels(path)
    assert (images.ids, images.labels, images.splits) == (
        ("a", "b"),
        ("g1", "s"),
        ("train", "test"),
    )
    assert images.keys == {"batch": ("w1", frozenset({"w1", "w2"}))}
    with pytest.raises(TaskNotFoundError, match="aren't here"):
        images.read(0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label\na,g1\na,s\n", "labels.csv:3: .*'a' is empty or occurs twice"),
        ("id,label\n,g1\n", "labels.csv:2: .*empty"),
        ("id,name\na,g1\n", "label"),
    ],
)
def test_bad_tables_of_labels_are_errors_with_their_line(tmp_path, text, said):
    """Equal or empty ids and missing columns are named."""
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=said):
        opening.read_labels(path)


def test_a_damaged_table_is_no_missing_task(tmp_path):
    """What is there but can't be read is an error, not as good as absent."""
    simulation.simulate("bbbc021", tmp_path, fields=24)
    (tmp_path / "bbbc021" / "BBBC021_v1_moa.csv").write_text("compound\nx\n", encoding="utf-8")
    with pytest.raises(CytoImageNetError, match=r"BBBC021_v1_moa\.csv"):
        opening.open_tasks([str(tmp_path)], ["bbbc021"])
