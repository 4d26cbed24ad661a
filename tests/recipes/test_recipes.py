"""The recipes for the services that people have: the very TOML of each page, run by the real command.

The vendor's address is put to a stand-in's, and what is played is what the page says to play. Each recipe is seen to
work, and to meet one failure that its vendor documents.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.control import ask
from tests.recipes.page import Recipe
from tests.recipes.standins import (
    Answer,
    DiscordHook,
    HomeAssistant,
    HubSpot,
    N8n,
    NodeRed,
    Ntfy,
    PagerDuty,
    Salesforce,
    SlackApi,
    SlackHook,
    TeamsFlow,
    Telegram,
)
from tests.rig.client import Device, device
from tests.rig.daemon import ROOT, Daemon
from tests.rig.mail import MailServer, text_of
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver
from tests.rig.wait import until

SOON_S = 10.0  # within which a letter surely has been tried, once it was made
FIRST_S = 4.0  # the first wait of the default schedule: 5 s, less what is left to chance


@dataclass(frozen=True)
class Kitchen:
    """A recipe that runs: the page, its bridge, a device to play with, and what its stand-in got."""

    recipe: Recipe
    bridge: Daemon
    sensor: Device
    receiver: Receiver

    def play(self, *changes: tuple[str, str], n: int = 0) -> None:
        """Publish the page's n-th message, with some of its text changed."""
        topic, payload = self.recipe.messages[n]
        for old, new in changes:
            assert old in topic + payload
            topic, payload = topic.replace(old, new), payload.replace(old, new)
        self.sensor.publish(topic, payload)

    def letter(self, state: str) -> dict[str, Any]:
        """Return the only letter of the outbox once it is of that state, and was tried."""
        letters = until(lambda: [found for found in self._queue("list", state=state) if found["attempts"]], f"a letter that is {state}")
        assert len(letters) == 1
        return dict(letters[0])

    def waits(self) -> tuple[str, float]:
        """Return why the only letter waits, and how long after it was made it is tried again, in seconds."""
        letter = self.letter("waiting")
        return letter["reason"], letter["due_at"] - letter["created_at"]

    def retry(self) -> None:
        """Let everything be tried now, as `mqtthook queue retry --all` does."""
        self._queue("retry")

    def is_empty(self) -> bool:
        """Return True if nothing waits and nothing is dead, False if something is."""
        return not self._queue("list")

    def _queue(self, action: str, **asked: str) -> Any:
        # As the command asks the daemon, without a process for each question.
        return ask(self.bridge.directory / "mqtthook.sock", "POST", f"/queue/{action}", asked)


@contextmanager
def cooked(name: str, answer: Answer, host: str, broker: Mosquitto, directory: Path, *, block: int = 0, port: int | None = None, **environment: str) -> Iterator[Kitchen]:
    """Run a block of a page with *host* put to a stand-in that answers so, and the page's secrets in the environment."""
    recipe = Recipe(name)
    with Receiver(answer, port=port) as receiver:
        toml = recipe.toml(block)
        assert host in toml
        bridge = Daemon(directory / f"{name}-{block}", broker=broker.url, mappings=toml.replace(host, receiver.url))
        with bridge.start(**environment), device(broker.port) as sensor:
            yield Kitchen(recipe, bridge, sensor, receiver)


def test_slack_webhook(tmp_path: Path, broker: Mosquitto) -> None:
    slack = SlackHook()
    with cooked("slack", slack, "https://hooks.slack.com", broker, tmp_path) as kitchen:
        kitchen.play()
        until(lambda: slack.posted == ["The front door is open (battery 91 %)"], "the message")
        kitchen.play()  # the same again is no change
        slack.wait_s = 30
        kitchen.play(("front", "back"))
        reason, wait_s = kitchen.waits()
        assert reason == "status 429"
        assert 30 <= wait_s < 30 + SOON_S
        slack.wait_s, slack.archived = None, True
        kitchen.bridge.command("resume", "slack")
        kitchen.retry()
        assert "status 410" in kitchen.letter("dead")["reason"]
        assert kitchen.bridge.json("status")["destinations"]["slack"]["disabled"]
    assert slack.posted == ["The front door is open (battery 91 %)"]


def test_slack_bot(tmp_path: Path, broker: Mosquitto) -> None:
    slack = SlackApi(token="bot-token", channels={"C0HALL"})
    with cooked("slack", slack, "https://slack.com", broker, tmp_path, block=1, SLACK_TOKEN="bot-token") as kitchen:
        kitchen.play()
        until(lambda: slack.posted == ["The front door is open"], "the message")
        slack.channels.clear()
        kitchen.play(("front", "back"))
        reason, _ = kitchen.waits()
        assert reason == "status 200, but `success` is false: response.json.ok"
        slack.channels.add("C0HALL")
        kitchen.retry()
        until(lambda: slack.posted[1:] == ["The back door is open"], "the message once the bot is invited")


def test_teams(tmp_path: Path, broker: Mosquitto) -> None:
    teams = TeamsFlow()
    with cooked("teams", teams, "https://your-region.logic.azure.com:443", broker, tmp_path) as kitchen:
        kitchen.play()
        kitchen.play()  # coalesced
        kitchen.play(("Adapter", "A" * 40_000))
        until(lambda: len(teams.posted) == 2, "both cards")
        assert {card["body"][1]["text"][:20] for card in teams.posted} == {"Adapter disconnected", "A" * 20}, "keys have no order between them"
        assert teams.failed == 0
        teams.throttled = True
        kitchen.play(("Adapter", "Coordinator"))
        reason, wait_s = kitchen.waits()
        assert (reason, wait_s >= FIRST_S) == ("status 429", True)


def test_discord(tmp_path: Path, broker: Mosquitto) -> None:
    discord = DiscordHook()
    with cooked("discord", discord, "https://discord.com", broker, tmp_path) as kitchen:
        kitchen.play()
        until(lambda: [message["content"] for message in discord.posted] == ["A person at the camera door (83 %)"], "the message")
        assert discord.posted[0]["allowed_mentions"] == {"parse": []}
        kitchen.play()  # coalesced
        discord.wait_s = 64.57
        kitchen.play(("door", "garden"))
        reason, wait_s = kitchen.waits()
        assert reason == "status 429"
        assert 64.57 <= wait_s < 65 + SOON_S
    assert len(discord.posted) == 1


def test_ntfy(tmp_path: Path, broker: Mosquitto) -> None:
    ntfy = Ntfy()
    with cooked("ntfy", ntfy, "https://ntfy.sh", broker, tmp_path) as kitchen:
        kitchen.play()
        kitchen.play(("-9.5", "-9.1"))  # too warm as before: no change
        ((path, title, text),) = until(lambda: ntfy.posted, "the message")
        assert (path, title) == ("/a-name-nobody-guesses", "zigbee2mqtt/freezer")
        assert text.startswith("-9.5 °C, at ")
        ntfy.exhausted = True
        kitchen.play(("-9.5", "-18"))
        kitchen.play()
        reason, wait_s = kitchen.waits()
        assert (reason, wait_s >= FIRST_S) == ("status 429", True)


def test_telegram(tmp_path: Path, broker: Mosquitto) -> None:
    telegram = Telegram()
    with cooked("telegram", telegram, "https://api.telegram.org", broker, tmp_path) as kitchen:
        kitchen.play()
        until(lambda: telegram.posted == ["Smoke in the kitchen"], "the message")
        telegram.wait_s = 34
        kitchen.play(("true", "false"))
        reason, wait_s = kitchen.waits()
        assert reason == "status 429"
        assert 34 <= wait_s < 34 + SOON_S
        telegram.wait_s = None
        telegram.chats.clear()
        kitchen.bridge.command("resume", "telegram")
        kitchen.retry()
        assert kitchen.letter("dead")["reason"] == "status 400: the receiver refuses this event"


def test_email(tmp_path: Path, broker: Mosquitto) -> None:
    recipe = Recipe("email")
    with MailServer("250 OK", "450 4.2.1 mailbox busy, come back later") as server:
        url = f"mailto://localhost:{server.port}/?from=pi@example.com&to=me@example.com&name=secret-name"
        bridge = Daemon(tmp_path / "email", broker=broker.url, mappings=recipe.toml(0))
        bridge.environment["MAIL_URL"] = url
        with bridge.start(), device(broker.port) as sensor, Receiver() as unused:
            kitchen = Kitchen(recipe, bridge, sensor, unused)
            kitchen.play()
            (mail,) = until(lambda: server.mails, "the mail")
            assert mail["Subject"] == "Water: zigbee2mqtt/bath/leak"
            assert text_of(mail) == "Water in the bath, battery 77 %"
            kitchen.play(("true", "false"))
            reason, wait_s = kitchen.waits()
            assert reason.startswith("apprise: mailto did not take it: ")
            assert "mailbox busy" in reason
            assert wait_s >= FIRST_S
            shown = bridge.command("queue", "list") + bridge.command("status") + bridge.command("routes") + bridge.log
            kitchen.retry()
            until(lambda: len(server.mails) == 2, "the second mail")
            assert text_of(server.mails[1]).startswith("No more water in the bath")
            bridge.stop()
    assert "secret-name" not in shown
    assert not [path for path in bridge.directory.iterdir() if path.is_file() and path.name != "config.toml" and b"secret-name" in path.read_bytes()]


def test_hubspot_create(tmp_path: Path, broker: Mosquitto) -> None:
    hubspot = HubSpot(token="pat-1")
    with cooked("hubspot", hubspot, "https://api.hubapi.com", broker, tmp_path, HUBSPOT_TOKEN="pat-1") as kitchen:
        kitchen.play()
        kitchen.play(("ada", "Ada"))  # the same visitor again
        until(lambda: hubspot.contacts == {"ada@example.com": {"email": "ada@example.com", "lifecyclestage": "lead"}}, "the contact")
        hubspot.contacts["bob@example.com"] = {}
        kitchen.play(("ada", "bob"))
        assert kitchen.letter("dead")["reason"] == "status 409: the receiver refuses this event"
        kitchen.bridge.command("queue", "drop", "--all", "--dead", "--reason", "status 409")
        hubspot.exhausted = True
        kitchen.play(("ada", "eve"))
        reason, wait_s = kitchen.waits()
        assert (reason, wait_s >= FIRST_S) == ("status 429", True)


def test_hubspot_upsert(tmp_path: Path, broker: Mosquitto) -> None:
    hubspot = HubSpot(token="pat-1", contacts={"ada@example.com": {"firstname": "Ada"}})
    with cooked("hubspot", hubspot, "https://api.hubapi.com", broker, tmp_path, block=1, HUBSPOT_TOKEN="pat-1") as kitchen:
        kitchen.play()
        until(lambda: hubspot.contacts == {"ada@example.com": {"firstname": "Ada", "hs_lead_status": "OPEN"}}, "the contact to be updated")
        hubspot.token = "pat-2"
        kitchen.play()
        assert kitchen.waits()[0] == "status 401"


def test_salesforce(tmp_path: Path, broker: Mosquitto) -> None:
    salesforce, host = Salesforce(client=("key", "client-secret")), "https://your-company.my.salesforce.com"
    with cooked("salesforce", salesforce, host, broker, tmp_path, SALESFORCE_KEY="key", SALESFORCE_SECRET="client-secret") as kitchen:
        kitchen.play()
        kitchen.play()  # scanned twice
        (lead,) = until(lambda: salesforce.leads, "the lead")
        assert (lead["LastName"], lead["Company"], lead["Email"]) == ("Ada Lovelace", "Analytical Engines", "ada@example.com")
        salesforce.token = "token-2"  # the first one has ended
        kitchen.play(("ada", "bob"))
        until(lambda: len(salesforce.leads) == 2, "a lead with a new token")
        assert salesforce.tokens_given == 2
        kitchen.play(("ada", "eve"), ("Ada Lovelace", ""))
        assert kitchen.letter("dead")["reason"] == "status 400: the receiver refuses this event"
        kitchen.bridge.command("queue", "drop", "--all", "--dead")
        salesforce.exhausted = True
        kitchen.play(("ada", "ivy"))
        assert kitchen.waits()[0] == "status 403"
        assert "client-secret" not in kitchen.bridge.log


def test_home_assistant_webhook(tmp_path: Path, broker: Mosquitto) -> None:
    home, port = HomeAssistant(hooks={"a-long-id-nobody-guesses"}), free_port()
    with cooked("home-assistant", home, "http://homeassistant.local:8123", broker, tmp_path, port=port) as kitchen:
        kitchen.receiver.stop()  # it restarts
        kitchen.play()
        reason, wait_s = kitchen.waits()
        assert reason.startswith("connect: ")
        assert wait_s >= FIRST_S
        with Receiver(home, port=port):
            kitchen.retry()
            until(lambda: home.triggered == [{"press": "short"}], "the automation to be triggered")
            home.hooks.clear()
            kitchen.play(('"S"', '"L"'))  # it is told 200 all the same: the page says so
            until(lambda: kitchen.bridge.metrics()['mqtthook_ledger_out_total{mapping="gate",outcome="delivered"}'] == 2, "it to count as delivered")
    assert len(home.triggered) == 1


def test_home_assistant_api(tmp_path: Path, broker: Mosquitto) -> None:
    home = HomeAssistant(token="long-lived")
    with cooked("home-assistant", home, "http://homeassistant.local:8123", broker, tmp_path, block=1, HASS_TOKEN="long-lived") as kitchen:
        kitchen.play()
        until(lambda: home.triggered == [{"press": "short"}], "the event to be fired")
        home.token = "another"
        kitchen.play()
        assert kitchen.waits()[0] == "status 401"


def test_node_red(tmp_path: Path, broker: Mosquitto) -> None:
    node_red = NodeRed(password="flow-password")
    with cooked("node-red", node_red, "http://192.168.1.20:1880", broker, tmp_path, NODE_RED_PASSWORD="flow-password") as kitchen:
        kitchen.play()
        until(lambda: [ran for _, ran in node_red.ran] == [{"room": "hall", "action": "double"}], "the flow to run")
        node_red.responds = False
        kitchen.play()
        reason, _ = kitchen.waits()
        assert reason == "timeout: no answer within 2 s"
        kitchen.retry()
        until(lambda: len(node_red.ran) >= 3, "the flow to run again")
        assert node_red.ran[2] == node_red.ran[1]  # a repeat, and to be known as one
        node_red.closing.set()


def test_n8n(tmp_path: Path, broker: Mosquitto) -> None:
    n8n = N8n(key="hook-key", published=False)
    with cooked("n8n", n8n, "http://192.168.1.20:5678", broker, tmp_path, N8N_KEY="hook-key") as kitchen:
        kitchen.play()
        kitchen.play()  # coalesced
        letter = kitchen.letter("waiting")
        assert letter["reason"] == "status 404"
        n8n.published = True
        kitchen.retry()
        ((id, started),) = until(lambda: n8n.started, "the workflow to start")
        assert (id, started["what"], started["battery"]) == (letter["id"], "mail", 95)
        until(kitchen.is_empty, "nothing to wait any more")


def test_pagerduty(tmp_path: Path, broker: Mosquitto) -> None:
    pagerduty, key = PagerDuty(), "zigbee2mqtt/server-room/leak"
    with cooked("pagerduty", pagerduty, "https://events.pagerduty.com", broker, tmp_path) as kitchen:
        kitchen.play()
        kitchen.play()
        until(lambda: pagerduty.open == {key}, "the incident")
        kitchen.play(n=1)
        until(lambda: not pagerduty.open, "the incident to end")
        assert pagerduty.seen == [("trigger", key), ("resolve", key)]
        pagerduty.limited = True
        kitchen.play()
        reason, wait_s = kitchen.waits()
        assert (reason, wait_s >= 24) == ("status 429", True)  # 30 s, less what is left to chance


def test_pagerduty_with_its_key_in_the_environment(tmp_path: Path, broker: Mosquitto) -> None:
    pagerduty = PagerDuty()
    with cooked("pagerduty", pagerduty, "https://events.pagerduty.com", broker, tmp_path, MQTTHOOK_OUTBOUND__WATER__JSON__ROUTING_KEY="too-short") as kitchen:
        kitchen.play()
        assert kitchen.letter("dead")["reason"] == "status 400: the receiver refuses this event"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "recipes").glob("*.md")), ids=lambda path: path.stem)
def test_a_recipe_for_a_service_is_short_and_is_run(path: Path) -> None:
    if path.stem in ("motion-to-webhook", "hook-to-lamp", "commands-without-a-port", "garage-door"):  # the longer ones that begin with a program
        return
    assert len(path.read_text().splitlines()) <= 60
    assert any(f'"{path.stem}"' in tests.read_text() for tests in Path(__file__).parent.glob("test_*.py"))
