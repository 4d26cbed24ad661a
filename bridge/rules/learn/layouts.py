"""Layouts: what the levels of topics mean in the families of devices that are out there.

Pure. A table of words, read off 17 families, and nothing that is computed from traffic.
"""

import re

from bridge.rules.learn.learning import Kind, Topic
from bridge.rules.topics import Filter, topic_problem

# Where a family of devices begins; after it, the same word is a name like any other.
_ROOTS = frozenset({
    "zigbee2mqtt", "tele", "stat", "cmnd", "shellies", "homeassistant", "frigate", "evcc", "valetudo", "zwave", "espresense", "owntracks", "rtl_433",
    "wled", "home", "esphome", "tasmota",
})  # fmt: skip
# A level that says what a message is, not whose: it never varies.
_MEANINGS = frozenset({
    "bridge", "driver", "devices", "rooms", "device", "room", "events", "event", "status", "state", "states", "sensor", "sensors", "binary_sensor",
    "text_sensor", "switch", "light", "lights", "relay", "input", "output", "button", "cover", "climate", "fan", "lock", "roller", "emeter", "meter",
    "number", "select", "valve", "availability", "available", "online", "lwt", "result", "rpc", "action", "info", "config", "attributes", "announce",
    "snapshot", "reviews", "stats", "currentvalue", "targetvalue", "value", "values",
})  # fmt: skip
MEASURES = frozenset({
    "temperature", "humidity", "pressure", "battery", "power", "energy", "voltage", "current", "illuminance", "lux", "co2", "pm25", "level", "position",
    "brightness", "rssi", "linkquality", "distance", "frequency",
})  # fmt: skip
# The last level of a topic that tells whether a device is there.
WHETHER = frozenset({"availability", "available", "online", "lwt", "status", "state", "connected", "alive"})
# What Tasmota reports, in capitals: such a level says what a message is.
_REPORT = re.compile(r"(?:SENSOR|STATE|RESULT|LWT|(?:STATUS|INFO|POWER)\d*)", re.ASCII)

# What availability topics say.
UP = frozenset({"online", "connected", "ready", "alive", "available", "true"})
DOWN = frozenset({"offline", "disconnected", "lost", "dead", "unavailable", "stopped", "false"})

# A number, a MAC, or another serial number in it.
_ID = re.compile(r"\d+|[0-9A-Fa-f]{12}|0x[0-9A-Fa-f]+|.*(?=[0-9A-Fa-f]*\d)[0-9A-Fa-f]{6}.*", re.ASCII)

# Levels that make a topic one that devices listen to.
_COMMANDS = frozenset({"set", "get", "command", "commands", "cmd", "cmnd", "request"})

# Why no mapping is proposed, and for which topics.
_ASIDE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("commands to devices", ("cmnd/#", "+/rpc", "wled/all", "wled/+/api", "wled/+/col")),
    ("discovery", ("homeassistant/device/#", "homeassistant/+/+/config", "homeassistant/+/+/+/config", "esphome/discover/#", "tasmota/discovery/#")),
    ("what a gateway says of itself", ("+/bridge/response/#", "+/bridge/logging", "+/bridge/info", "+/bridge/devices", "+/bridge/groups", "+/bridge/health")),
    ("what a gateway says of itself", ("+/bridge/definitions", "+/bridge/extensions", "+/bridge/converters", "+/bridge/config", "+/_CLIENTS/#")),
)
_FILTERS = tuple((why, tuple(Filter.parse(text) for text in texts)) for why, texts in _ASIDE)


def aside(topic: Topic, own: str) -> str | None:
    """Return why no mapping is proposed for a topic, or None if one is; *own* is the bridge's status topic."""
    levels = topic.levels
    if levels[0].startswith("$"):
        return "what the broker says of itself"
    if topic.text == own:
        return "what this bridge says of itself"
    if any(level in _COMMANDS for level in levels[1:]):
        return "commands to devices"
    if (why := next((why for why, filters in _FILTERS if any(filter.takes(levels) for filter in filters)), None)) is not None:
        return why
    if topic_problem(topic.text) or "{" in topic.text or "}" in topic.text:
        return "names that can't stand in a filter"
    return {Kind.BINARY: "pictures and other bytes", Kind.EMPTY: "nothing but empty payloads"}.get(topic.kind)


def is_id(level: str) -> bool:
    """Return True if a level is a number or holds a serial number, False if it is a word."""
    return _ID.fullmatch(level) is not None


def has_meaning(level: str, position: int) -> bool:
    """Return True if a level says what a message is, False if it could be the name of a device or a room."""
    word = level.casefold()
    if word in _MEANINGS or word in MEASURES or _REPORT.fullmatch(level):
        return True
    return (position == 0 and level in _ROOTS) or level.endswith(("Attribute", "Capability"))  # these are Valetudo's
