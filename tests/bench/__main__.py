"""The benchmark's command line: `python -m tests.bench NAME [options]`."""

import argparse
import json
from collections.abc import Callable, Mapping

from tests.bench import benches
from tests.bench.figures import Figures
from tests.bench.verifying import verifying

Bench = Callable[[argparse.Namespace], Figures]
Numbers = Mapping[str, tuple[type[int] | type[float], float, str]]  # by flag: kind, default, what it means


def main() -> None:
    """Run a bench and print what it found."""
    options = _parser().parse_args()
    figures: Figures = options.bench(options)
    print(json.dumps(figures.document(), indent=2) if options.json else figures.table(), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the daemon against a real broker and a local receiver; Linux, mosquitto on the PATH.")
    names = parser.add_subparsers(metavar="NAME", required=True)
    events: Numbers = {"--events": (int, 20_000, "how many events")}
    _add(names, "limits", benches.limits, runs=3, numbers=events)
    flat = _add(names, "flat", benches.flat, runs=3, numbers={**events, "--delay-ms": (float, 0.0, "how long the receiver takes to answer"), "--concurrency": (int, 8, "requests under way at once")})
    flat.add_argument("--flood", action="store_true", help="publish without a bound, and let the broker queue any number")
    steady: Numbers = {
        "--rate": (float, 100.0, "events a second"),
        "--seconds": (float, 20.0, "for how long"),
        "--idle": (float, 20.0, "seconds of idling before"),
        "--slow-fsync": (float, 0.0, "milliseconds that every fsync takes longer"),
    }
    latency = _add(names, "latency", benches.latency, runs=1, numbers=steady)
    latency.add_argument("--strict", action="store_true", help='durability = "strict" instead of "balanced"')
    _add(names, "quiet", benches.quiet, runs=1, numbers={"--events": (int, 1_000, "how many events"), "--rate": (float, 20.0, "events a second")})
    beside: Numbers = {
        "--events": (int, 10_000, "how many events flat out"),
        "--rate": (float, 100.0, "then so many a second"),
        "--seconds": (float, 10.0, "for how long"),
        "--sensors": (int, 10, "of how many of the sensors the other one is told, too"),
    }
    _add(names, "beside", benches.beside, runs=3, numbers=beside)
    _add(names, "routing", benches.routing, runs=5, numbers={**events, "--mappings": (int, 10_000, "how many mappings")})
    _add(names, "gates", benches.gates, runs=1, numbers={"--events": (int, 800, "how many messages"), "--rate": (float, 20.0, "messages a second")})
    _add(names, "enqueue", benches.enqueue, runs=3, numbers={**events, "--rows": (int, 100_000, "events that wait")})
    calls: Numbers = {
        **events,
        "--connections": (int, 32, "over how many connections as fast as answers come"),
        "--rate": (float, 100.0, "calls a second before that"),
        "--seconds": (float, 20.0, "for how long"),
        "--wrong": (float, 1_000.0, "wrong signatures a second beside them"),
    }
    _add(names, "door", benches.door, runs=3, numbers=calls)
    _add(names, "ids", benches.ids, runs=1, numbers={"--ids": (int, 1_000_000, "how many ids are remembered")})
    _add(names, "backlog", benches.backlog, runs=3, numbers={**events, "--rows": (int, 100_000, "events that wait")})
    _add(names, "verify", verifying, runs=3, numbers={"--requests": (int, 20_000, "how many requests for each scheme, right and wrong")})
    return parser


def _add(
    names: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    bench: Bench,
    *,
    runs: int,
    numbers: Numbers,
) -> argparse.ArgumentParser:
    sentence = (bench.__doc__ or "").splitlines()[0]
    parser = names.add_parser(name, help=sentence, description=sentence, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.set_defaults(bench=bench)
    for flag, (kind, default, text) in {**numbers, "--runs": (int, runs, "how often; figures are judged by their median")}.items():
        parser.add_argument(flag, type=kind, default=default, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    return parser


if __name__ == "__main__":
    main()
