"""`mqtthook status`: how the running bridge does."""

from typing import Any

import click

from bridge.cli.common import complain, config_option, control_socket, failures, json_option, print_json, stale_since, title
from bridge.cli.control import ask
from bridge.rules.units import duration_text


@click.command("status")
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, config: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show how the running bridge does: broker, waiting, dead letters, and the ledger. Exits 1 if it doesn't run.

    \b
    Example:
      mqtthook status
    """
    where, found = control_socket(config)
    figures = ask(where, "GET", "/status")
    if figures is None:
        if as_json:
            print_json({"running": False})
        complain(f"no daemon runs in {where.parent}; start it with `mqtthook run` or `systemctl start mqtthook`")
        ctx.exit(1)
    if as_json:
        print_json({"running": True, **figures})
        return
    for line in _lines(figures):
        click.echo(line)
    if found is not None and (stale := stale_since(found, figures["config"]["loaded_at"])):
        click.echo(f"\n{click.style('note', fg='yellow')} {stale}")


def _lines(figures: dict[str, Any]) -> list[str]:
    now = figures["now"]
    health = click.style("ready", fg="green") if figures["not_ready"] is None else click.style(figures["not_ready"], fg="yellow")
    oldest = f", the oldest for {duration_text(max(now - figures['oldest_at'], 0))}" if figures["oldest_at"] else ""
    lines = [
        f"{title('mqtthook')} {figures['version']}, up {duration_text(now - figures['started_at'])}: {health}",
        f"  broker   {figures['broker']}; {figures['messages_received']} messages, {figures['messages_unmatched']} taken by no mapping",
        f"  outbox   {figures['waiting']} waiting{oldest}, {figures['dead_letters']} dead, {_mib(figures['used_bytes'])} of {_mib(figures['max_bytes'])}",
        f"  config   {_config(figures['config'], now)}",
        f"  ledger   {'adds up' if not figures['imbalance'] else click.style('does NOT add up, by ' + str(figures['imbalance']), fg='red')}",
    ]
    if figures.get("damage"):
        lines.append(f"  damage   {click.style(figures['damage'], fg='red')}")
    if figures["destinations"]:
        lines += ["", title(f"{'destination':24} {'waiting':>8} {'failures':>9}  state")]
        lines += [
            f"{name:24} {entry['waiting']:>8} {entry['failures']:>9}  {entry['state']}{': ' + entry['disabled'] if entry['disabled'] else ''}"
            for name, entry in figures["destinations"].items()
        ]
    if figures["mappings"]:
        kinds = ("delivered", "filtered", "coalesced", "expired", "dropped", "dead")
        lines += ["", title(f"{'mapping':24} {'in':>8} {'waiting':>8} " + " ".join(f"{kind:>9}" for kind in kinds))]
        lines += [
            f"{name:24} {entry['received']:>8} {entry['waiting']:>8} " + " ".join(f"{entry['outcomes'][kind]:>9}" for kind in kinds)
            + (click.style("  stopped by a storm", fg="red") if entry["stopped"] else "")
            for name, entry in figures["mappings"].items()
        ]
    if failing := {name: entry for name, entry in figures["mappings"].items() if entry["conditions_failed"]}:
        lines += ["", *(f"{name}: {failures(entry['conditions_failed'], entry['last_failure'])}" for name, entry in failing.items())]
    return lines


def _config(config: dict[str, Any], now: float) -> str:
    if config["problems"]:
        more = f" (and {len(config['problems']) - 1} more)" if len(config["problems"]) > 1 else ""
        return click.style(f"as it was {duration_text(now - config['loaded_at'])} ago; the file has errors: {config['problems'][0]}{more}", fg="red")
    change = f": {config['last_change']}" if config["last_change"] else ""
    return f"read {duration_text(now - config['loaded_at'])} ago{change}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
