"""Findings: everything that `mqtthook doctor` may say, one row each: what it is, why it matters, and what to type.

Pure. Which row applies is the business of `diagnosis`. An error keeps something from working now; a warning will, or loses
something at the next trouble; a note is worth knowing, and no reason to call anything wrong.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Level = Literal["error", "warning", "note"]


class Row(NamedTuple):
    """One thing that may be found; `{names}` in its texts are filled in."""

    level: Level
    what: str
    why: str
    do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found; `subject` is a key path, a file or a part of the bridge."""

    kind: str
    level: Level
    subject: str
    what: str
    why: str
    do: str

    @property
    def is_wrong(self) -> bool:
        """Return True for an error or a warning, False for a note."""
        return self.level != "note"

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


_POWER = "a Pi then slows down, and may crash or spoil its card"
_SUPPLY = "use the supply that belongs to it, a short cable, and fewer things on USB; then: vcgencmd get_throttled"

ROWS: Mapping[str, Row] = {
    # the daemon
    "daemon-away": Row(
        "error",
        "no daemon runs on {outbox}",
        "nothing is sent, no hook answers, and {waiting} letters wait in it",
        "sudo systemctl start mqtthook; why it ended: journalctl -u mqtthook -n 20",
    ),
    "daemon-mute": Row(
        "error", "the daemon can't be asked: {reason}", "nobody can tell how it does", "sudo mqtthook doctor; if that doesn't help: sudo systemctl restart mqtthook"
    ),
    "daemon-not-enabled": Row("warning", "the service is installed, but not started at boot", "after the next power cut nothing runs", "sudo systemctl enable --now mqtthook"),
    "config-changed": Row("warning", "{text}", "what you wrote last doesn't count yet", "mqtthook check && mqtthook reload"),
    "ledger": Row(
        "error",
        "the ledger doesn't add up, by {imbalance}",
        "something came in of which nobody knows how it ended: a defect",
        "mqtthook version; mqtthook status --json: please report both",
    ),
    "storm": Row("error", "a storm of its own messages stopped it", "what it makes comes back to it", "mqtthook routes; mqtthook listen --taken: find the loop, then restart"),
    # the outbox
    "outbox-full": Row(
        "error", "the outbox is full", "the broker keeps what comes, hooks answer 503", "mqtthook queue list --limit 20, then retry or drop; or raise `store.max_size`"
    ),
    "outbox-damaged": Row(
        "error", "{text}", "a card or disk that spoils files does it again", "sudo dmesg | grep -iE 'mmc|ext4|i/o error'; mqtthook status; then delete the damaged file"
    ),
    "outbox-near-full": Row(
        "warning",
        "the outbox has {used} of {most}",
        "when it is full nothing more is taken in",
        "mqtthook queue list --dead; mqtthook queue drop --all --dead --older 30d; or raise `store.max_size`",
    ),
    "outbox-readable": Row("warning", "others can read it (mode {mode})", "it holds what your devices say, and what is sent", "chmod 600 {subject}"),
    "dead-letters": Row(
        "warning", "{count} dead letters", "they were given up, and nobody tries them again", "mqtthook queue list --dead --mapping {name}; then queue retry or queue drop"
    ),
    "waits-long": Row("warning", "the oldest letter waits for {age}", "something keeps it from being delivered", "mqtthook status; mqtthook queue list --waiting --older 1h"),
    "destination-disabled": Row("error", "it is disabled: {reason}", "its events wait, {waiting} by now, and expire in the end", "mqtthook resume {name}"),
    "destination-gone": Row(
        "warning",
        "{waiting} events wait for it, and it is not in the config any more",
        "nobody will ever send them",
        "mqtthook queue move --destination {name} --to ANOTHER; or queue drop",
    ),
    "destination-paused": Row("note", "it is paused", "its events wait, {waiting} by now", "mqtthook resume {name}"),
    "destination-failing": Row("warning", "the last {failures} attempts failed", "its events wait, {waiting} by now", "mqtthook history --destination {name}"),
    # the broker
    "broker-away": Row("error", "{reason}", "no message comes in, and commands wait or expire", "systemctl status mosquitto; is `mqtt.url` right?"),
    "broker-unasked": Row(
        "note",
        "it wasn't looked at: its password is not given to this command",
        "only the service gets it, as a credential or in its environment",
        "sudo CREDENTIALS_DIRECTORY=/etc/mqtthook/credentials mqtthook doctor",
    ),
    "broker-refuses-filter": Row(
        "error", "the broker refuses the subscription to {filter}", "no message on it ever comes", "mosquitto: `topic read {filter}` for this user in its acl_file"
    ),
    "client-id-twice": Row(
        "error",
        "another client uses the client_id {client_id!r} at the broker",
        "the two throw each other out, again and again",
        "stop the other one, or set another `client_id` in [mqtt] on one of them",
    ),
    "client-id-common": Row(
        "note",
        "the client_id {client_id!r} comes from a machine's name that many have",
        "two such machines at one broker throw each other out",
        "sudo hostnamectl set-hostname ANOTHER; or set `client_id` in [mqtt]",
    ),
    "somebody-online": Row(
        "warning",
        '{topic} says "online", though no daemon runs here',
        "another mqtthook with this config is at the broker: with one client_id they throw each other out",
        "is there a second machine, or a copy of this one's card? Let one of them run",
    ),
    "sessions-lost": Row(
        "warning",
        "the broker lost our session {count} times since the start",
        "what it kept for us while we were away is gone",
        "mosquitto.conf: `persistence true` and `autosave_interval 60`; `persistent_client_expiration` not below 1d",
    ),
    "broker-qos": Row("error", "the broker takes nothing above QoS {qos}", "it keeps no message for us while we are away", "allow QoS 1 in its config (mosquitto: `max_qos 1`)"),
    "broker-retain": Row(
        "warning", "the broker keeps no retained messages", "mqtthook's status, and the state of many devices, can't be seen there", "mosquitto.conf: `retain_available true`"
    ),
    "broker-packet": Row(
        "note",
        "the broker takes no packet above {size}",
        "a larger command is refused, and a larger message never reaches us",
        "mosquitto.conf: `message_size_limit`, `max_packet_size`",
    ),
    "broker-window": Row("note", "the broker takes {count} publishes at once", "commands in a burst wait for each other", "mosquitto.conf: `max_inflight_messages 20`"),
    "broker-dropped": Row(
        "warning",
        "the broker has dropped {count} messages since its start",
        "clients that were slow or away, perhaps we, never got them",
        "mosquitto.conf: `max_queued_messages 10000`",
    ),
    "broker-queue": Row(
        "note", "the broker keeps {count} messages for us while we are away", "of a longer absence the newest are lost", "mosquitto.conf: `max_queued_messages 10000`"
    ),
    "broker-forgets": Row(
        "warning",
        "the broker keeps nothing on disk",
        "when it is restarted, all that it kept for us while we were away is gone",
        "mosquitto.conf: `persistence true` and `autosave_interval 60`; then sudo systemctl restart mosquitto",
    ),
    "qos-0": Row(
        "warning",
        "{topic} is published with QoS 0, and the mapping wants every message",
        "what is published while mqtthook or its connection is down is lost",
        "at the device: QoS 1 (Zigbee2MQTT: `qos: 1` under `device_options`); if a gap doesn't matter: `qos = 0` in the mapping",
    ),
    "retained-command": Row(
        "warning",
        "the broker keeps a retained message on its topic {topic}",
        "the device gets that command again each time it connects",
        "mosquitto_pub -r -n -t '{topic}'",
    ),
    # the receivers
    "look-hangs": Row(
        "warning", "the look at it took more than {within}", "a name server or a disk that says nothing holds the bridge up as well", "getent hosts example.com; dmesg | tail"
    ),
    "receiver-away": Row("error", "{reason}", "its events wait, and are tried again for {for_}", "{do}"),
    "clock-skew": Row(
        "warning",
        "its clock and ours differ by {skew}",
        "signatures are good for 5 minutes only: it may refuse them all",
        "timedatectl; if ours is right, its owner has to set theirs",
    ),
    # certificates
    "certificate-ended": Row("error", "the certificate ended {ago} ago", "nobody should trust it any more", "{do}"),
    "certificate-ending": Row("warning", "the certificate ends in {left}", "then nothing gets through", "{do}"),
    # the machine
    "clock-past": Row(
        "error",
        "the clock says {now}, which is before this mqtthook was installed",
        "signatures are refused, and what expires does so at the wrong time",
        "timedatectl set-ntp true; then wait, or set it: sudo date -s '2026-11-24 18:00'",
    ),
    "clock-unset": Row(
        "warning",
        "nobody has set the clock since the machine started",
        "a Pi has none that goes on without power: signatures may be refused",
        "timedatectl set-ntp true; timedatectl timesync-status",
    ),
    "disk-read-only": Row(
        "error", "the disk of {subject} can only be read", "nothing can be made safe; a dying SD card ends so", "dmesg | tail; then copy all you can to another card"
    ),
    "disk-full": Row(
        "warning",
        "{free} are free on the disk of the outbox",
        "when there are none, nothing more is taken in",
        "df -h {subject}; sudo journalctl --vacuum-size=100M; sudo apt-get clean",
    ),
    "disk-small": Row(
        "note", "the outbox may grow by {growth} (`store.max_size`), and {free} are free", "the disk is full before the outbox is", "make room, or lower `store.max_size`"
    ),
    "power-now": Row("error", "the supply's voltage is too low now", _POWER, _SUPPLY),
    "power-before": Row("warning", "the supply's voltage was too low at some time since the start", _POWER, _SUPPLY),
    "too-hot": Row("warning", "the processor is slowed down, as it is too hot", "everything takes longer", "give it air, or a cooler"),
    # secrets
    "config-readable": Row(
        "warning", "{text}", "whoever has them can sign as you, or command your devices", 'chmod 600 {subject}; or put them into files: secret = "file:/etc/mqtthook/secret"'
    ),
    "secret-readable": Row("error", "others can read {file} (mode {mode})", "the daemon refuses such a secret, and doesn't start", "chmod 600 {file}"),
    "secret-missing": Row("error", "there is no file {file}", "the daemon doesn't start without it", "mqtthook secret new | sudo install -m 600 /dev/stdin {file}"),
}


def finding(kind: str, subject: str = "", **values: object) -> Finding:
    """Return the finding of a row of ROWS, filled in."""
    row, filled = ROWS[kind], {"subject": subject, **values}
    return Finding(kind=kind, level=row.level, subject=subject, what=row.what.format(**filled), why=row.why.format(**filled), do=row.do.format(**filled))
