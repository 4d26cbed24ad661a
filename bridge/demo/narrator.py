"""The narrator: prints what happens, when, and what it means.

Colour appears on a terminal only, which is click's doing.
"""

import asyncio
import textwrap
from time import monotonic

import click

WIDTH = 80  # characters: a terminal that nobody has made wider
COLOURS = {"sensor": "cyan", "receiver": "magenta", "bridge": "yellow", "lamp": "green", "stranger": "red"}

NEXT = """
Your turn: write a config like the one above into config.toml.
`mqtthook secret new` makes a secret, `mqtthook check` says what is wrong with
the config, `mqtthook try` shows what it would send, `mqtthook run` runs it.
"""


class Narrator:
    """Tells the story; its time starts when it does."""

    def __init__(self, *, fast: bool) -> None:
        self._fast, self._began_at = fast, monotonic()

    def chapter(self, title: str, meaning: str) -> None:
        """Begin a part of the story."""
        click.echo(f"\n{click.style(title, bold=True)}")
        self.meaning(meaning)

    def meaning(self, text: str) -> None:
        """Tell what it is about."""
        click.echo(textwrap.fill(text, WIDTH))

    def event(self, who: str, what: str) -> None:
        """Tell what has just happened."""
        click.echo(f"{monotonic() - self._began_at:5.2f} s {click.style(f'{who:8}', fg=COLOURS[who])} {what}")

    def shown(self, text: str) -> None:
        """Show something as it is written."""
        click.echo("\n" + textwrap.indent(text.strip(), "    ") + "\n")

    def end(self) -> None:
        """Say what to do next."""
        click.echo(NEXT.rstrip())

    async def pause(self, length_s: float) -> None:
        """Let the reader catch up, unless in a hurry."""
        await asyncio.sleep(0.0 if self._fast else length_s)
