"""Tests of the command line: what it prints, and how it fails."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cytoimagenet_hf import cli
from tests.curation.builds import raw_data


def run(*arguments: str) -> int:
    """Run the command line in this process and return its exit status."""
    try:
        cli.main([str(one) for one in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Simulated raw data of one source."""
    return raw_data(tmp_path_factory.mktemp("raw"), ("bbbc006",))


def test_help_imports_nothing_heavy():
    """`--help` imports neither torch, datasets, pyarrow, numpy nor Pillow."""
    code = (
        "import sys\nfrom cytoimagenet_hf import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'datasets', 'pyarrow', 'numpy', 'PIL', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "build" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_sources_lists_and_tells(capsys):
    """`sources` lists all, `sources NAME` tells all about one, `--json` gives both to programs."""
    assert run("sources") == 0
    assert "bbbc048" in capsys.readouterr().out
    assert run("sources", "bbbc010") == 0
    assert "CC0" in capsys.readouterr().out
    assert run("sources", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert {fact["name"]: fact["terms"] for fact in facts}["bbbc006"] == "local"


def test_unknown_source_is_bad_input(capsys):
    """An unknown name exits with 2, one line, and near names."""
    assert run("sources", "bbbc047") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "bbbc048" in said


def test_simulate_writes_a_data_root(tmp_path, capsys):
    """`simulate` writes the raw folder of a source, and says that it is simulated."""
    assert run("simulate", "bbbc048", "--to", tmp_path, "--fields", "3") == 0
    assert "simulated" in capsys.readouterr().out
    assert (tmp_path / "bbbc048" / "SIMULATED.txt").exists()
    assert run("simulate", "bbbc048", "--to", tmp_path / "no", "--negative") == 0
    assert (tmp_path / "no" / "bbbc048" / "SIMULATED.txt").exists()
    assert run("build", "--data-root", tmp_path / "no", "--output", tmp_path / "out") == 2


def test_simulate_never_writes_among_other_files(tmp_path, capsys):
    """Nor takes what it has no use for, whatever the layout."""
    (tmp_path / "bbbc048").mkdir()
    (tmp_path / "bbbc048" / "real.tif").write_text("")
    assert run("simulate", "bbbc048", "--to", tmp_path, "--negative") == 2
    assert [path.name for path in (tmp_path / "bbbc048").iterdir()] == ["real.tif"]
    assert run("simulate", "bbbc048", "--to", tmp_path / "no", "--negative", "--seed", "0") == 2
    assert "--negative takes no --seed" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_build_labels_and_summary(raw, tmp_path, capsys):
    """`build` with several --sources builds, sums up, and `labels` tells why."""
    output = tmp_path / "cytoimagenet"
    arguments = ("--data-root", raw, "--sources", "bbbc006", "--min-fields", "4")
    assert run("build", *arguments, "--output", output) == 0
    said = capsys.readouterr().out
    assert f"{output}: written" in said
    assert "no label" in said or "crops" in said
    assert run("labels", output) == 0
    assert "why dropped" in capsys.readouterr().out
    assert run("labels", output, "--json") == 0
    assert {row["label"] for row in json.loads(capsys.readouterr().out)} >= {"human"}
    assert run("labels", tmp_path) == 2


def test_labels_of_a_plan(raw, tmp_path, capsys):
    """After a dry run the work folder tells what the labels would be, and why not."""
    output = tmp_path / "out"
    run("build", "--data-root", raw, "--min-fields", "4", "--output", output, "--dry-run")
    capsys.readouterr()
    assert run("labels", tmp_path / "out.work", "--json") == 0
    planned = {row["label"]: row for row in json.loads(capsys.readouterr().out)}
    assert planned["actin"]["assigned"] > 0
    assert "taken by rarer labels" in planned["human"]["dropped_reason"]
    assert run("labels", tmp_path) == 2
    assert "OUTPUT.work" in capsys.readouterr().err


def test_folders_that_are_not_used_are_noted(raw, tmp_path, capsys):
    """On the terminal and in the report, also where nothing is new; not if sources are named."""
    root = tmp_path / "raw"
    root.mkdir()
    (root / "bbbc006").symlink_to(raw / "bbbc006")
    (root / "BBBC022").mkdir()
    arguments = ("build", "--data-root", root, "--min-fields", "4", "--output", root / "out")
    for _ in range(2):
        assert run(*arguments) == 0
        assert "note: not used, as no source has such a name: BBBC022 (" in capsys.readouterr().out
    assert "BBBC022" in (root / "out.work" / "report.html").read_text()
    assert run(*arguments, "--sources", "bbbc006") == 0
    assert "BBBC022" not in capsys.readouterr().out


def test_built_folder_is_found_by_name(raw, tmp_path, monkeypatch):
    """After a build, `load_dataset("cytoimagenet")` finds the folder from anywhere."""
    from cytoimagenet_hf.hub.places import locate

    output = tmp_path / "cytoimagenet"
    run("build", "--data-root", raw, "--min-fields", "4", "--output", output)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert str(output) in str(locate("cytoimagenet").where)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data-root", "absent"), "No data root absent"),
        (("--table", "absent.csv"), "No table absent.csv"),
        (("--source-file", "absent.py"), "No source file absent.py"),
        (("--data-root", ".", "--sources", "bbbc006"), "no raw folder"),
        (("--data-root", ".", "--preset", "quick"), "Unknown preset 'quick'"),
        (("--data-root", ".", "--set", "min_side=x"), "min_side"),
        (("--data-root", ".", "--seed", "1", "--set", "seed=2"), "seed is given twice"),
        ((), "no --data-root was given"),
    ],
)
def test_bad_build_arguments_exit_with_two(arguments, words, raw, tmp_path, capsys, monkeypatch):
    """Bad input is one line on standard error and exit status 2, never a traceback."""
    monkeypatch.chdir(tmp_path if "bbbc006" in arguments else raw)
    assert run("build", *arguments, "--output", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_failure_exits_with_one(raw, tmp_path, capsys):
    """A folder that no build wrote is a failure: exit status 1."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    assert run("build", "--data-root", raw, "--output", tmp_path / "out") == 1
    assert "no build wrote" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path):
    """`--debug` lets the error through."""
    from cytoimagenet_hf.errors import SourceNotFoundError

    with pytest.raises(SourceNotFoundError):
        cli.main(["sources", "nix", "--debug"])


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for one process")
def test_interrupt_is_told_in_one_line(tmp_path, hears_interrupts):
    """Ctrl-C ends with 130, and says that nothing is lost."""
    (tmp_path / "mine.py").write_text("import time\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "cytoimagenet_hf.cli", "build", "--source-file", "mine.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "running the code in mine.py" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "cytoimagenet: stopped; the same command goes on from here\n"


def test_source_file_is_run_and_said(tmp_path, capsys):
    """A source outside of the package is built; its license decides its terms."""
    raw_data(tmp_path / "raw", ("bbbc006",))
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from dataclasses import replace\n"
        "from cytoimagenet_hf import sources\n"
        "from cytoimagenet_hf.sources import bbbc006\n"
        "def fields(folder):\n"
        "    for record in bbbc006.fields(folder):\n"
        "        yield replace(record, source='mine')\n"
        "SOURCE = replace(bbbc006.SOURCE, name='mine', license='in-house', fields=fields)\n"
    )
    output = tmp_path / "cytoimagenet"
    status = run(
        "build", "--source-file", mine, "--data-root", f"mine={tmp_path / 'raw' / 'bbbc006'}",
        "--min-fields", "4", "--output", output,
    )  # fmt: skip
    said = capsys.readouterr()
    assert status == 0
    assert "running the code in" in said.err
    assert "terms: local" in said.out
    assert f"{tmp_path}" not in (output / "build.json").read_text()


def test_verify_repair_and_reproduce(raw, tmp_path, capsys):
    """A whole folder verifies with 0, a damaged one with 1 until it is repaired."""
    output = tmp_path / "cytoimagenet"
    run("build", "--data-root", raw, "--min-fields", "4", "--output", output)
    capsys.readouterr()
    assert run("verify", output, "--workers", "0") == 0
    told = capsys.readouterr().out
    assert "0 findings" in told
    shard = sorted((output / "data" / "default").glob("*.parquet"))[0]
    whole = shard.read_bytes()
    middle = len(whole) // 2
    shard.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    assert run("verify", output, "--workers", "0") == 1
    assert shard.name in capsys.readouterr().out
    assert run("verify", output, "--workers", "0", "--repair", "--data-root", raw) == 0
    assert shard.read_bytes() == whole
    capsys.readouterr()
    assert run("verify", output, "--workers", "0", "--json", "--manifest-sha256", "00") == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["path"] == "SHA256SUMS"
    image_id = _some_image(output)
    assert run("reproduce", image_id, output, "--data-root", raw) == 0
    assert "equal" in capsys.readouterr().out
    assert run("reproduce", image_id + "x", output, "--data-root", raw) == 2
    assert image_id in capsys.readouterr().err
    assert run("reproduce", f"b{image_id}", output, "--data-root", raw) == 2  # of no source
    assert f"has no crop 'b{image_id}'" in capsys.readouterr().err


def test_a_crop_of_a_table_is_reproduced_with_its_table(tmp_path, capsys):
    """Without it the message says how the table is named."""
    import numpy as np

    from cytoimagenet_hf.imaging import png

    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(png.encode(noise))
    (tmp_path / "own.csv").write_text("path,organism\na.png,human\n")
    output, table = tmp_path / "out", ("--table", tmp_path / "own.csv")
    limits = ("--min-fields", "1", "--set", "min_contrast=0")
    assert run("build", *table, *limits, "--output", output, "--workers", "0") == 0
    capsys.readouterr()
    assert run("reproduce", "own/a.png#whole", output, "--data-root", tmp_path) == 2
    assert "--table and --name own" in capsys.readouterr().err
    assert run("reproduce", "own/a.png#whole", output, *table) == 0


def _some_image(output) -> str:
    import pyarrow.parquet as pq

    table = pq.read_table(output / "data" / "metadata", columns=["image_id"])
    return table["image_id"][0].as_py()
