"""The property tests' profiles: none of them depends on the machine's speed.

By default each run tries the same cases, so that a red run can be repeated and a green one stays green.
`pytest --hypothesis-profile=wild tests/unit` looks for new ones: what it finds becomes a test of its own.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("mqtthook", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("wild", deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mqtthook")
