"""Home Assistant: the bridge as a device there, with what it shows and what may be pressed. Pure.

What is published is device-based discovery, which Home Assistant knows since 2024.11; the keys are those of its
homeassistant/components/mqtt/schemas.py. States are read off our own retained status topics.
"""

import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator

from bridge.model import Message
from bridge.rules.topics import topic_problem
from bridge.rules.units import Slice

ORDERS = {"retry": "Retry dead letters", "pause": "Pause all destinations", "resume": "Resume all destinations"}
PRESS = "PRESS"  # Home Assistant's own default for `payload_press`
BIRTH = b"online"  # its default birth message, at PREFIX/status
BIRTH_S = 3.0  # it asks devices for a random delay after its birth, so that not all of them speak at once

LAST_DELIVERY = "last_delivery"  # below the status topic

_UNFIT = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)  # for the object id of a discovery topic


def _prefix(prefix: str) -> str:
    if problem := topic_problem(prefix):
        raise ValueError(f"nothing can be published below {prefix!r}: {problem}")
    return prefix


class HomeAssistantSettings(Slice):
    """`[home_assistant]`: whether the bridge appears there, and below which topic it looks for devices."""

    enabled: bool = False
    prefix: Annotated[str, AfterValidator(_prefix)] = "homeassistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The bridge as Home Assistant knows it: by its `id`, found at `topic`, with states and commands below `status_topic`."""

    id: str
    name: str
    prefix: str
    status_topic: str

    @property
    def topic(self) -> str:
        """Return where the device is described, retained."""
        return f"{self.prefix}/device/{self.id}/config"

    @property
    def last_delivery(self) -> str:
        """Return the topic that holds when something was delivered last."""
        return f"{self.status_topic}/{LAST_DELIVERY}"

    @property
    def birth(self) -> str:
        """Return the topic at which Home Assistant says that it is there."""
        return f"{self.prefix}/status"

    def button(self, order: str) -> str:
        """Return the topic at which a button is pressed."""
        return f"{self.status_topic}/command/{order}"

    @property
    def heard(self) -> frozenset[str]:
        """Return the topics whose messages are meant for the device."""
        return frozenset({self.birth, *(self.button(order) for order in ORDERS)})

    def is_born(self, message: Message) -> bool:
        """Return True if a message says that Home Assistant has just started; one that the broker replays is of another day."""
        return message.topic == self.birth and message.payload == BIRTH and not message.retained

    def order_in(self, message: Message) -> str | None:
        """Return the order that a message gives, or None; a retained one would be carried out at each connection, and gives none."""
        if message.retained or message.payload != PRESS.encode():
            return None
        return next((order for order in ORDERS if message.topic == self.button(order)), None)


def device_of(settings: HomeAssistantSettings, *, client_id: str, status_topic: str) -> Device | None:
    """Return the device that the bridge is, or None where it is to be none."""
    if not settings.enabled:
        return None
    fit = _UNFIT.sub("_", client_id)
    id = fit if fit == client_id else f"{fit}_{zlib.crc32(client_id.encode()):08x}"  # "a b" and "a_b" are two bridges
    return Device(id=id, name=client_id, prefix=settings.prefix, status_topic=status_topic)


def components(device: Device, destinations: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what the device consists of, by key: its sensors, one more for each destination, and its buttons."""
    status = device.status_topic
    found: dict[str, dict[str, Any]] = {
        "waiting": _sensor("Waiting events", f"{status}/queue", "{{ value_json.waiting }}", state_class="measurement"),
        "oldest": _sensor("Oldest waiting event", f"{status}/queue", "{{ value_json.oldest_s or 0 }}", state_class="measurement", device_class="duration", unit_of_measurement="s"),
        "dead_letters": _sensor("Dead letters", f"{status}/queue", "{{ value_json.dead_letters }}", state_class="measurement"),
        "last_delivery": _sensor("Last delivery", device.last_delivery, "{{ value }}", device_class="timestamp"),
        "problem": _problem("Problem", f"{status}/problem", "{{ 'ON' if value_json.problem else 'OFF' }}"),
    }
    for name in destinations:
        found[f"destination_{name}"] = _problem(f"{name} problem", f"{status}/destination/{name}", "{{ 'OFF' if value_json.state in ('ok', 'paused') else 'ON' }}")
    for order, title in ORDERS.items():
        found[order] = {"p": "button", "name": title, "command_topic": device.button(order), "payload_press": PRESS, "qos": 1, "entity_category": "config"}
    return {key: {"unique_id": f"{device.id}_{key}", **component} for key, component in found.items()}


def discovery(device: Device, parts: Mapping[str, Mapping[str, Any]], *, version: str, gone: Mapping[str, str]) -> dict[str, Any]:
    """Return the document that makes Home Assistant show the device.

    *gone* are the components that it showed before and shall take away, by key, with their platform: one that has
    nothing but that is removed.
    """
    removed = {key: {"p": platform} for key, platform in gone.items() if key not in parts}
    return {
        "dev": {"ids": [f"mqtthook_{device.id}"], "name": device.name, "mf": "mqtthook", "mdl": "MQTT-webhook bridge", "sw": version},
        "o": {"name": "mqtthook", "sw": version},
        "availability": [{"topic": device.status_topic}],  # "online" and "offline" are what it expects there
        "cmps": {**parts, **removed},
    }


def platforms(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the platform of each component, by key: what has to be known to take one away."""
    return {key: str(part["p"]) for key, part in parts.items()}


def stale(topics: Iterable[str], device: Device | None) -> list[str]:
    """Return which of the *topics* that were retained for Home Assistant are to be emptied, now that the bridge is *device*."""
    kept: Collection[str] = () if device is None else retained(device)
    return [topic for topic in topics if topic not in kept]


def retained(device: Device) -> list[str]:
    """Return the topics that are retained for Home Assistant alone."""
    return [device.topic, device.last_delivery]


def _sensor(name: str, topic: str, template: str, **more: str) -> dict[str, Any]:
    return {"p": "sensor", "name": name, "state_topic": topic, "value_template": template, "entity_category": "diagnostic", **more}


def _problem(name: str, topic: str, template: str) -> dict[str, Any]:
    shown = {"state_topic": topic, "value_template": template, "json_attributes_topic": topic}
    return {"p": "binary_sensor", "name": name, "device_class": "problem", "entity_category": "diagnostic", **shown}
