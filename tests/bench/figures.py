"""Figures: what was measured, run by run, beside its goal; as a table for people and as JSON for scripts."""

import operator
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_TESTS: Mapping[str, Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should come to."""

    test: str
    bound: float

    def reached(self, value: float) -> bool:
        """Return True if *value* is as it should be, False if not."""
        return _TESTS[self.test](value, self.bound)

    def __str__(self) -> str:
        return f"{self.test} {shown(self.bound)}"


@dataclass(slots=True)
class Figures:
    """One bench's figures; what was measured in several runs is judged by its median."""

    title: str
    goals: Mapping[str, Goal] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, run: Mapping[str, float]) -> None:
        """Take in the figures of one run, each under its name with its unit."""
        for name, value in run.items():
            self.values.setdefault(name, []).append(value)

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        goals = {name: {"goal": str(goal), "reached": goal.reached(self._median(name))} for name, goal in self.goals.items() if name in self.values}
        return {"bench": self.title, "figures": {name: {"median": self._median(name), "runs": values} for name, values in self.values.items()}, "goals": goals}

    def table(self) -> str:
        """Return it as lines of aligned columns."""
        runs = max(len(values) for values in self.values.values())
        head = ["", *(f"run {n + 1}" for n in range(runs)), "median", "goal", ""] if runs > 1 else ["", "", "goal", ""]
        rows = [head, *(self._row(name, runs) for name in self.values)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
        lines = ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]).rstrip() for row in rows]
        return "\n".join([self.title, *lines])

    def _row(self, name: str, runs: int) -> list[str]:
        values, goal = self.values[name], self.goals.get(name)
        cells = [shown(value) for value in values] + [""] * (runs - len(values))
        if runs > 1:
            cells.append(shown(self._median(name)))
        return [name, *cells, str(goal or ""), "" if goal is None else "reached" if goal.reached(self._median(name)) else "MISSED"]

    def _median(self, name: str) -> float:
        return statistics.median(self.values[name])


def shown(value: float) -> str:
    """Return a number with three or more digits that count."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
