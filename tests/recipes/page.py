"""A page of docs/recipes/, read as a person would who copies from it."""

import re
import shlex
from dataclasses import dataclass

from tests.rig.daemon import ROOT

Message = tuple[str, str]


@dataclass(frozen=True)
class Recipe:
    """A page: its TOML blocks without their first line, and the messages that its mosquitto_pub lines publish."""

    name: str

    @property
    def text(self) -> str:
        return (ROOT / "docs" / "recipes" / f"{self.name}.md").read_text()

    def toml(self, n: int) -> str:
        return str(re.findall(r"^```toml\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)[n]).removeprefix("version = 1\n")

    @property
    def commands(self) -> list[list[str]]:
        """Return the page's commands, without their `mqtthook`."""
        blocks = "".join(re.findall(r"^```sh\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL))
        return [shlex.split(line) for line in re.findall(r"^mqtthook (.*[^\\|\n])$", blocks, re.MULTILINE)]

    @property
    def messages(self) -> list[Message]:
        lines = (shlex.split(line) for line in re.findall(r"^mosquitto_pub .*$", self.text, re.MULTILINE))
        return [(line[line.index("-t") + 1], line[line.index("-m") + 1]) for line in lines]
