"""The property tests' profile: none of them depends on the machine's speed."""

from hypothesis import HealthCheck, settings

settings.register_profile("mqtthook", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mqtthook")
