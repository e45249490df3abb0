"""How hypothesis draws: the same examples in every run, unless HYPOTHESIS_PROFILE=explore asks for new ones."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Deadlines and the slowness check measure the machine, not the code; pytest-timeout ends what hangs.
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", parent=settings.get_profile("ci"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Laws over random cases take their time: `make check` leaves them to `make test`."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.slow)
