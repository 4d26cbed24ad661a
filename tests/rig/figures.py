"""The figures of a bridge in a quiet house, for tests to change."""

from bridge.watch.figures import ConfigFigures, DestinationFigures, Figures, MappingFigures, outcomes

CONFIG = ConfigFigures(loaded_at=0)
DESTINATION = DestinationFigures(waiting=0, failures=0, state="ok", disabled=None)
MAPPING = MappingFigures(stopped=False, received=0, waiting=0, dead_letters=0, outcomes=outcomes({}))
FIGURES = Figures(
    version="0", config=CONFIG, started_at=0, connected=True, broker="connected", unacknowledged=0, redelivered=0, sessions_lost=0, messages_received=0, messages_unmatched=0,
    requests_refused=0, imbalance=0, full=False, unsaved=0, held=0, remembered=0, commits=0, used_bytes=0, max_bytes=0, oldest_at=None,
    destinations={"d": DESTINATION}, mappings={"m": MAPPING},
)  # fmt: skip
