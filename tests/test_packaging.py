"""What the distribution declares: files, dependencies, pins, and how light it is to import."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cytoimagenet_hf
from tests.test_architecture import imported, tops

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cytoimagenet_hf"
DISTRIBUTIONS = {  # module -> distribution, where the names differ
    "PIL": "pillow",
    "yaml": "pyyaml",
    "zlib_ng": "zlib-ng",
    "huggingface_hub": "huggingface-hub",
}


@pytest.fixture
def declared(monkeypatch) -> dict:
    """The arguments that setup.py gives to setuptools."""
    found: dict = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: found.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    return found


def named(requirements: list[str]) -> dict[str, Requirement]:
    """Requirements by canonical name."""
    parsed = [Requirement(text) for text in requirements]
    return {canonicalize_name(one.name): one for one in parsed}


def test_only_the_package_is_installed(declared):
    """Tests, builders and documents stay out; every folder of code goes in."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert set(declared["packages"]) == {
        path.relative_to(ROOT).as_posix().replace("/", ".") for path in folders
    }


def test_every_file_that_is_not_code_is_package_data(declared):
    """A template or facts table that no pattern covers would be missing from the wheel."""
    anywhere = declared["package_data"][""]
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_dir() or path.suffix in (".py", ".pyc"):
            continue
        covered = path.parent == PACKAGE / "sources" / "_data" or any(
            path.match(pattern) for pattern in anywhere
        )
        assert covered, f"{path.relative_to(ROOT)} is in no pattern of package_data"
    assert declared["package_data"]["cytoimagenet_hf.sources"] == ["_data/*"]


def test_version_is_that_of_the_package(declared):
    """There is one version, in cytoimagenet_hf/__init__.py; citation and changelog follow it."""
    version = cytoimagenet_hf.__version__
    assert declared["version"] == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert version in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_library_that_is_imported_is_declared(declared):
    """Nothing is imported that only happens to come with something else."""
    core = named(declared["install_requires"])
    train = core | named(declared["extras_require"]["train"])
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0]
        trains = room in {"pretraining", "models", "evaluation"} or path.name == "_curves.py"
        foreign = tops(imported(path)) - sys.stdlib_module_names - {"cytoimagenet_hf"}
        for module in sorted(foreign):
            distribution = canonicalize_name(DISTRIBUTIONS.get(module, module))
            assert distribution in (train if trains else core), (
                f"{path.relative_to(ROOT)} imports {module}"
            )


def test_core_and_quick_checks_stay_light(declared):
    """Nobody who builds a data set or runs `make quick` has to install torch."""
    light = named(declared["install_requires"]) | named(declared["extras_require"]["check"])
    assert not set(light) & {"torch", "torchvision", "timm", "transformers", "faiss-cpu"}


def test_the_two_faiss_never_meet(declared):
    """They install the same folder, so no extra names both and the core names none."""
    extras = {name: named(wanted) for name, wanted in declared["extras_require"].items()}
    for wanted in (*extras.values(), named(declared["install_requires"])):
        assert not {"faiss-cpu", "faiss-gpu"} <= set(wanted)
    assert "faiss-cpu" in extras["cpu"]
    assert "faiss-gpu" in extras["gpu"]


def test_constraints_pin_what_is_declared(declared):
    """CI installs one version of each requirement of core and dev, inside of its range."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    wanted = declared["install_requires"] + declared["extras_require"]["dev"]
    for name, requirement in named(wanted).items():
        assert name in pins, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]}: {requirement}"


def test_command_exists(declared):
    """The console script points at something that can be called."""
    (script,) = declared["entry_points"]["console_scripts"]
    name, _, target = script.partition(" = ")
    module, _, function = target.partition(":")
    assert name == "cytoimagenet"
    assert callable(getattr(__import__(module, fromlist=[function]), function))


@pytest.mark.parametrize("module", ["cytoimagenet_hf", "cytoimagenet_hf.cli"])
def test_importing_loads_no_heavy_library(module):
    """Neither the package nor its command line waits for data or model libraries."""
    code = f"import sys, json; before = set(sys.modules); import {module}; " + (
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(ran.stdout))
    assert "cytoimagenet_hf" in loaded
    heavy = {"torch", "datasets", "pyarrow", "pandas", "transformers", "huggingface_hub", "numpy"}
    assert not loaded & heavy


def test_makefile_explains_each_target():
    """`make help` lists every target that a user may call."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, re.M)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):.*## \w", text, re.M))


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/glossary.md"]
)
def test_links_between_pages_lead_somewhere(page):
    """A relative link of a page names a file of the checkout."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?://|mailto:|#)([^)#]+)", text):
        assert (ROOT / page).parent.joinpath(link).exists(), f"{page} links to {link}"
