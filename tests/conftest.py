"""Shape annotations are checked while the tests run, and only then."""

import os
from pathlib import Path

import jaxtyping
import pytest
from jaxtyping import install_import_hook

hook = install_import_hook("smalti", "shape_checks.check")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """Tests never read or write the user's cache; a machine whose disk is nearly full fails none of them."""
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr("smalti.data.cache.KEEP_FREE", 0)


@pytest.fixture
def unchecked(monkeypatch):
    """Annotations are not checked: for our own errors about values that they would catch first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def real_data() -> Path:
    """The folder of the real data sets; without it the test is skipped, visibly."""
    folder = os.environ.get("SMALTI_DATA")
    if not folder:
        pytest.skip("SMALTI_DATA is not set: no real data here")
    return Path(folder)
