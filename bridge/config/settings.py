"""Settings: every slice together, and what only the whole of them can tell."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from bridge.admin.settings import AdminSettings
from bridge.config.secrets import STAND_IN
from bridge.edges.apprise import problem_with
from bridge.edges.http_settings import HttpSettings, is_one_place
from bridge.edges.mqtt.settings import MqttSettings
from bridge.errors import ConfigError
from bridge.log import LogSettings
from bridge.model import Lane
from bridge.outbox.settings import StoreSettings
from bridge.rules.access import TlsSettings
from bridge.rules.expressions import unknown_names
from bridge.rules.home_assistant import HomeAssistantSettings
from bridge.rules.inbound import TOKENS, Hook, Hooks, Inbound, unguarded
from bridge.rules.loops import Place, heard, loops, overlaps, own_hooks
from bridge.rules.outbound import Destination, Outbound, Route, Routes
from bridge.rules.signing import TOKEN_BYTES
from bridge.rules.units import Slice, duration_text, whole
from bridge.tls import client_context, server_context
from bridge.watch.alerts import AlertSettings
from bridge.watch.heartbeat import problem_with_url

_IN_THE_CLEAR = (
    "its secret crosses the network in the clear, as hooks listen on {listen} without TLS: "
    "set http.tls, or let a proxy with TLS stand before it (http.trusted_proxies), or verify a signature"
)

MAX_NAMED = 3  # hooks in one warning: a mapping of `#` takes what all of them publish

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


class Settings(Slice):
    """Everything that a user can set."""

    version: Annotated[Literal[1], BeforeValidator(whole)]
    mqtt: MqttSettings = Field(default_factory=MqttSettings)
    store: StoreSettings = StoreSettings()
    http: HttpSettings = HttpSettings()
    admin: AdminSettings = AdminSettings()
    log: LogSettings = LogSettings()
    alerts: AlertSettings | None = None
    home_assistant: HomeAssistantSettings = HomeAssistantSettings()
    auto_reload: bool = False
    heartbeat: SecretStr | None = None
    destination: dict[str, Destination] = Field(default_factory=dict)
    outbound: dict[str, Outbound] = Field(default_factory=dict)
    inbound: dict[str, Inbound] = Field(default_factory=dict)

    def routes(self) -> Routes:
        """Return the outbound mappings with their destinations."""
        routes = [Route(mapping=name, rule=rule, destinations=self._destinations_of(name, rule)) for name, rule in self.outbound.items()]
        return Routes(routes, own=self.mqtt.status_topic)

    def destinations(self) -> dict[str, Destination]:
        """Return every destination that a mapping or `[alerts]` leads to, by name; one written inline has its mapping's name."""
        told = {} if self.alerts is None else {self.alerts.to: self.destination[self.alerts.to]}
        return told | {name: to for mapping, rule in self.outbound.items() if rule.enabled for name, to in self._destinations_of(mapping, rule).items()}

    def hooks(self) -> Hooks:
        """Return the inbound mappings with their keys."""
        return Hooks([Hook(name=name, rule=rule, pattern=rule.pattern(name), keys=rule.verifying_keys()) for name, rule in self.inbound.items()])

    def outbox(self, state: Path) -> Path:
        """Return the outbox file; a relative path is meant from the state directory."""
        return state / self.store.path

    def control_socket(self, state: Path) -> Path:
        """Return where the command line reaches a running daemon: a file beside the outbox."""
        return control_socket_beside(self.outbox(state))

    def problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield what is wrong between the slices: the key path, and a sentence."""
        yield from self._listen_problems()
        yield from self._tls_problems()
        yield from self._secret_problems()
        yield from self._destination_problems()
        yield from self._name_problems()
        url = self.heartbeat.get_secret_value() if self.heartbeat is not None else STAND_IN
        if url != STAND_IN and (problem := problem_with_url(url)):
            yield ("heartbeat",), problem
        if self.mqtt.share is not None:
            if self.home_assistant.enabled:
                yield ("home_assistant", "enabled"), "it can't be used with mqtt.share: what its buttons say may go to another bridge of the group"
            for name, hook in self.inbound.items():
                if hook.listens_to:
                    key = "confirm" if hook.confirm is not None else "available"
                    yield ("inbound", name, key), "it can't be used with mqtt.share: what the device says may go to another bridge of the group"

    def service_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield what is wrong with the URLs for Apprise. It is imported for that, which takes a while, but only where there is one."""
        for path, sender in self._senders().items():
            url = sender.apprise.get_secret_value() if sender.apprise is not None else STAND_IN
            if url != STAND_IN and (problem := problem_with(url)):
                yield (*path, "apprise"), problem

    def warnings(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield what works but should be looked at."""
        if not self.mqtt.tls.verify:
            yield ("mqtt", "tls", "verify"), "the broker's certificate isn't checked: anyone in between can read and send"
        for path, sender in self._senders().items():
            if not sender.tls.verify:
                yield (*path, "tls", "verify"), "the receiver's certificate isn't checked: anyone in between can read what is sent, and answer"
            elif sender.tls != TlsSettings() and sender.url is not None and sender.url.text.lower().startswith("http:"):
                yield (*path, "tls"), "it changes nothing: the URL begins with http://"
        for name, outbound in self.outbound.items():
            if outbound.qos == 2:
                yield ("outbound", name, "qos"), "it is subscribed with QoS 1: nothing is lost by it, and a repeat bears the same webhook-id"
            if outbound.expires is not None and (holds := _holds(outbound)) and outbound.expires <= sum(holds.values()):
                them, length, end = " and ".join(holds), duration_text(sum(holds.values())), duration_text(outbound.expires)
                yield ("outbound", name, "expires"), f"after {end} an event expires, but {them} alone may hold it for {length}: make `expires` longer"
        yield from self._secret_warnings()
        yield from self._hook_warnings()
        yield from self._loop_warnings()

    def _secret_warnings(self) -> Iterator[tuple[tuple[str, ...], str]]:
        found = {path: keys() for path, keys in self._keys()}
        tokens: dict[tuple[str, ...], SecretStr | None] = {("inbound", name, "verify_token"): hook.verify_token for name, hook in self.inbound.items()}
        tokens["admin", "token"] = self.admin.token
        found |= {path: (token.get_secret_value().encode(),) for path, token in tokens.items() if token is not None}
        for path, secrets in found.items():
            if short := [len(secret) for secret in secrets if len(secret) < TOKEN_BYTES]:
                yield path, f"it has {min(short)} {'byte' if min(short) == 1 else 'bytes'}, and is soon guessed: make one with `mqtthook secret new`"

    def _hook_warnings(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for name, rule in self.inbound.items():
            if rule.verify.scheme == "none":
                yield ("inbound", name, "verify"), "anyone who can reach this hook can use it"
            if rule.verify.scheme in TOKENS and self.http.in_the_open:
                yield ("inbound", name, "verify"), _IN_THE_CLEAR.format(listen=self.http.listen)
            if rule.retains:
                yield ("inbound", name, "retain"), "a retained command is carried out again at every reconnect of the device"
            if risk := unguarded(rule):
                yield ("inbound", name, "verify"), risk

    def _loop_warnings(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield each way on which what goes out may come back, and each mapping that may begin one."""
        places = list(self._places())
        ways = loops(places)
        for way in ways:
            first, *rest = way
            on = ", ".join(f"{place.kind}.{place.name}" for place in rest)
            what = f"then {on}, and back" if on else "it leads to itself"
            yield (first.kind, first.name), f"this may be a loop: {what}; the bridge cuts what comes back to it, but a device may not tell where it came from"
        for taker, publishing in heard(places, ways):
            names = [f"{place.kind}.{place.name}" for place in publishing]
            topics = ", ".join(f"{name}.reply" if name.startswith("outbound") else name for name in names[:MAX_NAMED])
            what = f"{topics} publishes" if len(names) == 1 else f"{topics} publish" if len(names) <= MAX_NAMED else f"{topics} and {len(names) - MAX_NAMED} more publish"
            yield ("outbound", taker.name, "topic"), f"it takes what {what}: if its receiver leads back to {names[0] if len(names) == 1 else 'one of them'}, this is a loop"

    def _places(self) -> Iterator[Place]:
        paths = {name: hook.pattern(name) for name, hook in self.inbound.items() if hook.enabled}
        for name, rule in self.outbound.items():
            if rule.enabled:
                urls = [to.url.text for to in self._destinations_of(name, rule).values() if to.url is not None]
                hooks = tuple(hook for url in urls for hook in own_hooks(url, listen=self.http.listen, paths=paths))
                yield Place(name=name, kind="outbound", filters=rule.topic, hooks=hooks, topics=(rule.reply.topic.text,) if rule.reply else ())
        for name in paths:
            yield Place(name=name, kind="inbound", topics=tuple(publish.topic.text for publish in self.inbound[name].publishes))

    def _destinations_of(self, name: str, rule: Outbound) -> dict[str, Destination]:
        return {to: self.destination[to] for to in rule.to} if rule.to else {name: rule}

    def _senders(self) -> dict[tuple[str, str], Destination]:
        """Return every destination that is written, by where it stands."""
        senders: dict[tuple[str, str], Destination] = {("destination", name): destination for name, destination in self.destination.items()}
        return senders | {("outbound", name): rule for name, rule in self.outbound.items() if not rule.to}

    def _listen_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        are_hooks = any(hook.enabled for hook in self.inbound.values()) or "listen" in self.http.model_fields_set
        if are_hooks and is_one_place(self.http.listen, self.admin.listen):
            key = ("http", "listen") if "listen" in self.http.model_fields_set else ("admin", "listen")
            yield key, f"hooks and the admin side can't have one port: http.listen is {self.http.listen}, admin.listen {self.admin.listen}; give one of them another"

    def _tls_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        contexts: dict[tuple[str, ...], Callable[[], object]] = {("mqtt",): self.mqtt.tls_context}
        if self.http.tls is not None:
            contexts["http",] = partial(server_context, self.http.tls.cert, self.http.tls.key)
        contexts |= {path: partial(client_context, sender.tls) for path, sender in self._senders().items() if sender.tls != TlsSettings()}
        for path, context in contexts.items():
            try:
                context()
            except ConfigError as exc:
                key, _, what = str(exc).partition(": ")
                yield (*path, "tls", key), what

    def _secret_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for path, keys in self._keys():
            try:
                keys()
            except ValueError as exc:
                yield path, str(exc)

    def _keys(self) -> Iterator[tuple[tuple[str, ...], Callable[[], tuple[bytes, ...]]]]:
        """Yield where secrets stand and what reads them; not those that are reported already, or not asked for."""
        for path, sender in self._senders().items():
            if not any(secret.get_secret_value() == STAND_IN for secret in sender.secret):
                yield (*path, "secret"), sender.signing_keys
        for name, hook in self.inbound.items():
            if not any(secret.get_secret_value() == STAND_IN for secret in hook.secret):
                yield ("inbound", name, "secret"), hook.verifying_keys

    def _destination_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for name, destination in self.destination.items():
            if destination.url is None and destination.apprise is None:
                yield ("destination", name, "url"), "is missing: where the events go"
            elif destination.url is not None and destination.apprise is not None:
                yield ("destination", name), "expected one of `url` and `apprise`: where the events go"
        yield from self._alert_problems()
        for name, rule in self.outbound.items():
            for to in rule.to:
                if to not in self.destination:
                    known = ", ".join(self.destination) or "none is written yet"
                    yield ("outbound", name, "to"), f"there is no [destination.{to}]; known: {known}"
                elif problem := self._unknown_in(self.destination[to], rule):
                    yield ("destination", to), f"{problem} (used by outbound.{name})"
            if rule.reply is not None and rule.reply.topic.names == set() and any(overlaps(filter, rule.reply.topic.text) for filter in rule.topic):
                yield ("outbound", name, "reply", "topic"), f"a loop: {rule.reply.topic.text!r} is a topic that the mapping itself takes"

    def _alert_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        if self.alerts is not None and self.alerts.to not in self.destination:
            yield ("alerts", "to"), f"there is no [destination.{self.alerts.to}]; known: {', '.join(self.destination) or 'none is written yet'}"
        elif self.alerts is not None and (used := self.destination[self.alerts.to].template_names):
            yield ("alerts", "to"), f"destination.{self.alerts.to} uses {min(used)!r}, which an alert has not: give it a destination without templates"

    def _unknown_in(self, destination: Destination, rule: Outbound) -> str | None:
        sources = {"url": destination.url, "method": destination.method} | {f"headers.{name}": value for name, value in destination.headers.items()}
        known = {*rule.names, *rule.captures}
        return next((f"{field}: {problem}" for field, source in sources.items() if source is not None and (problem := unknown_names(source.names, known))), None)

    def _name_problems(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for kind, tables in (("destination", self.destination), ("outbound", self.outbound), ("inbound", self.inbound)):
            for name in tables:
                if not _NAME.fullmatch(name):
                    yield (kind, name), f"{name!r} is not a name: letters, digits, '-' and '_', at most 64"
        for path in self._senders():
            if path[1] == Lane.MQTT:
                inline = "with a url of its own " if path[0] == "outbound" else ""
                yield path, f"{inline}it can't be called mqtt: commands wait for the broker under that name; rename it"
        yield from self._clashes()

    def _clashes(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield what has the name, or the path, of something else."""
        for name, rule in self.outbound.items():
            if not rule.to and name in self.destination:
                yield ("outbound", name), f"it has a url of its own, and there is a [destination.{name}] too: rename one of them, their events wait under that name"
            if name in self.inbound:
                yield ("outbound", name), f"there is an [inbound.{name}] too: rename one of them, they are counted under that name"
        paths: dict[tuple[str, ...], str] = {}
        for name, hook in self.inbound.items():
            levels = hook.pattern(name).levels
            if (other := paths.setdefault(levels, name)) != name:
                yield ("inbound", name, "path"), f"inbound.{other} listens at the same path"


def _holds(rule: Outbound) -> dict[str, float]:
    """Return the seconds for which each key of a mapping may hold an event before it may go. `debounce_max` only lets it go earlier."""
    held = {"`debounce`": rule.debounce, "`batch.wait`": rule.batch.wait if rule.batch is not None else None}
    return {key: length_s for key, length_s in held.items() if length_s is not None}


def control_socket_beside(outbox: Path) -> Path:
    """Return where the command line reaches the daemon of this outbox."""
    return outbox.with_name("mqtthook.sock")


def state_directory(environment: Mapping[str, str]) -> Path:
    """Return where the outbox is: systemd's state directory, else the working directory."""
    return Path(environment.get("STATE_DIRECTORY", "").split(":")[0] or ".")
