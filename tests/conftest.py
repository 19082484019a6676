"""For every test: Hypothesis judges what a test finds, not how long a busy machine took for it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("shared machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")
