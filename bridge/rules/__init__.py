"""The rules: pure functions that know no clock, no loop, no socket and no log."""
