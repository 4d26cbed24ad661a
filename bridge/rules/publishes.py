"""Publishes: what a hook or a reply says to a device. Pure.

A topic's values are one level each; the payload is built by `json`, written by `text`, or (of a hook) the body as it came.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bridge.errors import RenderError
from bridge.model import Command
from bridge.rules.expressions import Text, TopicText
from bridge.rules.structures import Structure
from bridge.rules.topics import topic_problem
from bridge.rules.units import Slice, whole

Qos = Annotated[Literal[0, 1], BeforeValidator(whole)]


class Publish(Slice):
    """One publish, as the config writes it."""

    topic: TopicText
    json_body: Structure | None = Field(default=None, alias="json")
    text: Text | None = None
    qos: Qos = 1
    retain: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> "Publish":
        self.check()
        return self

    def check(self) -> None:
        """Raise ValueError where it says two things, or says it at a topic that can't be."""
        if self.json_body is not None and self.text is not None:
            raise ValueError("expected one of `json` and `text`")
        if self.topic.names == set() and (problem := topic_problem(self.topic.text)):
            raise ValueError(f"topic: nothing can be published to {self.topic.text!r}: {problem}")

    @property
    def sources(self) -> dict[str, TopicText | Structure | Text | None]:
        """Return what may hold names, by key."""
        return {"topic": self.topic, "json": self.json_body, "text": self.text}

    def command(self, names: Mapping[str, Any], body: bytes, *, hop: str) -> Command:
        """Return what is published; *body* where neither `json` nor `text` is written. Raise RenderError."""
        topic = self.topic.render(names)
        if problem := topic_problem(topic):
            raise RenderError(f"nothing can be published to this topic: {problem}")
        return Command(topic=topic, payload=self._payload(names, body), qos=self.qos, retain=self.retain, hop=hop)

    def _payload(self, names: Mapping[str, Any], body: bytes) -> bytes:
        if self.json_body is not None:
            return self.json_body.render(names)
        try:
            return body if self.text is None else self.text.render(names).encode()
        except UnicodeEncodeError as exc:
            raise RenderError(f"the text can't be sent as UTF-8: {exc.reason}") from exc
