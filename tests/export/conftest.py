import jaxtyping
import pytest


@pytest.fixture(autouse=True, scope="module")
def _sizes_without_numbers():
    """While a graph is traced sizes are symbols, which the checks of shapes cannot compare."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield
