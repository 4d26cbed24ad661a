"""Slash commands: Slack shows a `text`, and nothing else that a hook answers."""

from typing import Any

import pytest

from bridge.rules.inbound import Hook, Inbound
from bridge.rules.slash import shown

TYPED = {"command": "/lamp", "text": "on"}


def hook(verify: str) -> Hook:
    rule = Inbound.model_validate({"verify": verify, "secret": "correct-horse-battery", "topic": "cmnd/lamp/POWER"})
    return Hook(name="lamp", rule=rule, pattern=rule.pattern("lamp"), keys=rule.verifying_keys())


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"status": "published"}, "Done."),
        ({"status": "published", "heard": False}, "It went out, but no device listens to it."),
        ({"status": "confirmed", "reply": {"state": "ON"}}, "Done: the device has confirmed it."),
        ({"status": "queued"}, "It is safe, and goes out as soon as it can."),
        ({"status": "filtered"}, "Nothing was done: this is none of what the hook takes."),
    ],
)
def test_what_went_well_is_said_to_the_one_who_typed_it(document: dict[str, Any], text: str) -> None:
    assert shown(hook("slack"), TYPED, document) == {**document, "text": text}


@pytest.mark.parametrize(
    ("verify", "body", "document"),
    [
        ("bearer", TYPED, {"status": "published"}),
        ("slack", {"event": {"type": "reaction_added"}}, {"status": "published"}),
        ("slack", {"command": "lamp"}, {"status": "published"}),
        ("slack", None, {"status": "published"}),
        ("slack", "/lamp", {"status": "published"}),
        ("slack", TYPED, {"detail": "it expired before it could be published"}),
    ],
)
def test_other_answers_stay_as_they_are(verify: str, body: Any, document: dict[str, Any]) -> None:
    assert shown(hook(verify), body, document) == document
