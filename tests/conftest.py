"""Hypothesis keeps no database beside the code: a failing example is printed with what makes it again."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "project", database=None, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")
