"""The one small build that tests of this folder look at."""

import pytest

from tests.curation.material import Built, build_small


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The shared build; tests only read it."""
    return build_small(tmp_path_factory.mktemp("built"))
