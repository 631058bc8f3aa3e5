"""What all tests share: how long properties look, and that a slow machine is no failure."""

import os

from hypothesis import HealthCheck, settings

# A busy machine must not turn a property into a timing test, so neither deadlines nor the pace of generation count.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("VOLTGATE_HYPOTHESIS", "default"))
