"""Notices: what a destination with `apprise` may say, what becomes of a message there, and that its URL stays a secret."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from bridge.cli import main
from bridge.config.load import load
from bridge.config.settings import Settings
from bridge.errors import ConfigError, RenderError
from bridge.model import Event, Result
from bridge.outbox.rows import sealed
from bridge.rules.events import Fate, fates_of
from bridge.rules.notices import notice, title_and_type
from bridge.rules.outbound import Destination, Outbound
from tests.rig.mappings import MOTION, message, new_id, route, weigh

TOKEN = "HOST-TOKEN"
URL = f"gotify://localhost/{TOKEN}"
RESOLVED = "json://localhost/PATH-TOKEN"


def mapping(**keys: Any) -> Outbound:
    given = {"topic": "zigbee2mqtt/{room}/motion", "apprise": URL, "text": "{{ room }}", **keys}
    return Outbound.model_validate({name: value for name, value in given.items() if value is not None})


def fate(payload: bytes = MOTION, **keys: Any) -> Fate:
    (only,) = fates_of(weigh(message(payload), mapping(**keys)), new_id=new_id)
    return only


# --- the event ---


def test_the_event_is_a_text_with_its_title_and_type_and_nothing_of_the_url() -> None:
    content = fate(headers={"Title": "Motion: {{ room }}", "Type": "{{ payload.occupancy|iif('warning', 'info') }}"}, text="in the {{ room }}").content
    assert content == Event(method="NOTIFY", url="apprise:", headers=(("Title", "Motion: hall"), ("Type", "warning")), body=b"in the hall")
    assert title_and_type(content) == ("Motion: hall", "warning")
    assert TOKEN not in str(sealed(content))


def test_title_and_type_are_found_in_any_case_and_may_be_missing() -> None:
    assert title_and_type(notice((("title", "a"), ("TYPE", "failure")), b"x")) == ("a", "failure")
    assert title_and_type(notice((), b"x")) == ("", "info")


def test_a_reply_knows_the_topic_that_its_notice_came_from() -> None:
    content = fate(reply={"topic": "siren/set", "text": "on"}).content
    assert isinstance(content, Event)
    assert content.topic == "zigbee2mqtt/hall/motion"


def test_json_is_sent_as_its_text() -> None:
    content = fate(text=None, json={"in": "{{ room }}"}).content
    assert isinstance(content, Event)
    assert json.loads(content.body) == {"in": "hall"}


@pytest.mark.parametrize(
    ("payload", "keys", "reason"),
    [
        (b"\xff\xd8", {"text": None, "format": "raw", "decode": "bytes"}, "Apprise takes texts, and this body is none: write one with `text`"),
        (b"", {"text": None, "format": "raw"}, "Apprise takes no empty text"),
        (MOTION, {"text": " \n"}, "Apprise takes no empty text"),
        (MOTION, {"headers": {"Type": "{{ room }}"}}, "the header Type came to 'hall': expected one of info, success, warning, failure"),
    ],
)
def test_what_no_service_could_take_is_a_dead_letter_with_its_reason(payload: bytes, keys: dict[str, Any], reason: str) -> None:
    found = fate(payload, **keys)
    assert (found.result, found.reason) == (Result.DEAD, reason)


def test_a_body_that_is_no_text_is_refused() -> None:
    with pytest.raises(RenderError):
        notice((), b"\xff")


# --- the settings ---


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"url": "https://example.com"}, "expected one of `url`, `to` and `apprise`"),
        ({"to": "alarm"}, "expected one of `url`, `to` and `apprise`"),
        ({"method": "PUT"}, "method: it makes no sense with `apprise`"),
        ({"sign": "none"}, "sign: it makes no sense with `apprise`"),
        ({"secret": "x"}, "secret: it makes no sense with `apprise`"),
        ({"auth": {"bearer": "x"}}, "auth: it makes no sense with `apprise`"),
        ({"tls": {"verify": False}}, "tls: it makes no sense with `apprise`"),
        ({"network": "any"}, "network: it makes no sense with `apprise`"),
        ({"success": "response.json.ok"}, "success: it makes no sense with `apprise`"),
        ({"retry_after": "response.json.wait"}, "retry_after: it makes no sense with `apprise`"),
        ({"timeout": {"connect": "1s"}}, "timeout.connect: makes no sense with `apprise`"),
        ({"headers": {"X-House": "12b"}}, "headers: 'X-House' goes nowhere: with `apprise` there are `Title` and `Type`"),
        ({"headers": {"Type": "alarm"}}, "headers: 'alarm' is no type: expected one of info, success, warning, failure"),
        ({"headers": {"Title": "{{ rom }}"}}, "headers.Title: 'rom' is not a name"),
        ({"apprise": 5}, "Input should be a valid string"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        mapping(**keys)
    assert words in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_what_an_outbox_does_goes_with_it() -> None:
    more = {"timeout": "5s", "retry": {"first": "1s"}, "concurrency": 2, "rate": "10/min", "breaker": {"failures": 2}, "headers": {"title": "a", "type": "success"}}
    rule = mapping(**more, batch={}, order="none")
    assert rule.signing_keys() == ()
    assert route(rule).destinations["hall-motion"].apprise is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('apprise = "nonsense://HOST-TOKEN"', "config.toml:3: destination.a.apprise: Apprise can't use this nonsense:// URL: Unparseable URL nonsense://…"),
        ('apprise = "env:NOBODY"', "config.toml:3: destination.a.apprise: 'env:NOBODY': the environment variable NOBODY is not set"),
        ('apprise = ["json://localhost/HOST-TOKEN"]', "config.toml:3: destination.a.apprise: the value (not shown): expected text in quotes"),
        ('apprise = "json://localhost/HOST-TOKEN"\nurl = "https://example.com"', "config.toml:2: destination.a: expected one of `url` and `apprise`: where the events go"),
        ('apprise = "json://localhost/HOST-TOKEN"\nsign = "none"', "config.toml:4: destination.a.sign: it makes no sense with `apprise`: it is about a web request"),
    ],
)
def test_a_mistake_in_the_config_is_said_without_the_secret(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f"version = 1\n[destination.a]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "config.toml", {})
    assert [found.removeprefix(f"{tmp_path}/") for found in caught.value.problems] == [problem]
    assert TOKEN not in str(caught.value)


def test_a_url_may_be_kept_outside_and_what_is_written_out_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'version = 1\n[destination.a]\napprise = "env:URL"\n[outbound.b]\ntopic = "a"\napprise = "{URL}"\n')
    path.chmod(0o644)
    found = load(path, {"URL": RESOLVED})
    secret = found.settings.destination["a"].apprise
    assert secret is not None
    assert secret.get_secret_value() == RESOLVED
    assert [warning.partition(": ")[2] for warning in found.warnings] == [f"others can read this file, and it holds secrets (outbound.b.apprise): chmod 600 {path}"]
    assert TOKEN not in str(found)


def test_a_command_that_needs_no_secret_does_not_ask_apprise(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('version = 1\n[destination.a]\napprise = "env:NOBODY"\n')
    assert isinstance(load(path, {}, with_secrets=False).settings, Settings)


def test_a_destination_shows_nothing_of_its_url() -> None:
    assert TOKEN not in repr(Destination.model_validate({"apprise": URL}))


# --- the command line ---


def ran(directory: Path, *arguments: str) -> str:
    path = directory / "config.toml"
    path.write_text(f'version = 1\n[outbound.leak]\ntopic = "zigbee2mqtt/{{room}}/leak"\napprise = "{URL}"\nheaders = {{ Title = "Water!" }}\ntext = "in the {{{{ room }}}}"\n')
    path.chmod(0o600)
    result = CliRunner().invoke(main, [*arguments, "--config", str(path)], env={"STATE_DIRECTORY": str(directory)})
    assert TOKEN not in result.output
    return result.output


def test_try_shows_the_notice(tmp_path: Path) -> None:
    shown = ran(tmp_path, "try", "--topic", "zigbee2mqtt/bath/leak", "--payload", "{}")
    assert shown.splitlines() == ["yes   leak", "      NOTIFY apprise:", "      Title: Water!", "", "      in the bath", ""]
    tried = json.loads(ran(tmp_path, "try", "--topic", "zigbee2mqtt/bath/leak", "--json"))["mappings"][0]
    assert tried["request"] == {"method": "NOTIFY", "url": "apprise:", "headers": {"Title": "Water!"}, "body": "in the bath"}
    assert tried["curl"] is None


def test_try_and_send_really_send_and_say_what_came_of_it(tmp_path: Path) -> None:
    tried = ran(tmp_path, "try", "--topic", "zigbee2mqtt/bath/leak", "--send")
    assert "gotify did not take it: " in tried
    sent = ran(tmp_path, "send", "leak")
    assert "  NOTIFY apprise:\n  no answer after " in sent
    assert "would be retried in 5s: apprise: gotify did not take it: " in sent


def test_routes_show_where_it_leads_but_not_how(tmp_path: Path) -> None:
    assert "NOTIFY apprise:, not signed" in ran(tmp_path, "routes")
