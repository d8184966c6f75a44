"""How many examples Hypothesis tries: as many as a test asks for, few in `make unit`."""

from hypothesis import settings


def at_most(usual: int) -> int:
    """The test's own number, or that of the profile `dev` where it is smaller."""
    return min(usual, settings.default.max_examples) if settings.get_current_profile_name() == "dev" else usual
