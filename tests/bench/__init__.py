"""The benchmark: what the daemon costs and how fast it is, seen from outside. `python -m tests.bench --help`.

Everything real: the command `mqtthook run` as a process, Mosquitto with its default settings, HTTP over loopback,
signed events, QoS 1, `durability = "balanced"`. The broker, the publisher and the receiver share the machine with
the daemon: compare runs of one machine and one hour, and read ratios rather than single figures.
"""
