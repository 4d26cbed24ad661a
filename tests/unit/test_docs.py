"""README and docs/: what they show is what the program takes and says.

The rule for a ```toml block: it is a config, or a fragment of one that lacks `version = 1`; every secret it refers to
is supplied. `check` warns of none but those that say so on the page. The rule for a ```sh block: each `mqtthook` in the place of a command is one, with options that exist.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import click
import pytest

from bridge.cli import COMMANDS, main
from bridge.config.load import load
from bridge.errors import SignatureError
from bridge.model import Outcome, Reply, Result, Verdict
from bridge.rules.retry import Judging, RetryPolicy, delay, judge
from bridge.rules.signing import SCHEMES, Evidence, Verification, verify
from bridge.rules.units import duration_text
from bridge.watch.metrics import exposition
from tests.rig.certificates import certificate
from tests.rig.figures import FIGURES

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```([a-z]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WARNED = re.compile(r"^<!-- check warns -->\n```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SECRET = "whsec_" + "bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISE="
NOW = 1_768_462_200.0


def blocks(language: str) -> dict[str, str]:
    """Return the blocks in a language, by page and line."""
    found: dict[str, str] = {}
    for path in PAGES:
        text = path.read_text()
        for block in BLOCK.finditer(text):
            if block[1] == language:
                line = text[: block.start()].count("\n") + 1
                found[f"{path.relative_to(ROOT)}:{line}"] = block[2]
    return found


def prose(path: Path) -> str:
    return BLOCK.sub("", path.read_text())


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def table_after(marker: str, text: str) -> list[list[str]]:
    """Return the rows of the table after a marker."""
    rows = takewhile(lambda line: line.startswith("|"), text.partition(marker)[2].strip().splitlines())
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if not row.startswith("|---")]


# --- configs ---


@pytest.mark.parametrize("block", blocks("toml").values(), ids=blocks("toml"))
def test_config_in_the_docs_is_valid(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r'"(?:file|credential):([\w.-]+)"', block):
        secret = tmp_path / name
        secret.write_text(SECRET)
        secret.chmod(0o600)
    environment = dict.fromkeys(re.findall(r'"env:(\w+)"', block), SECRET) | {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for kind, secret_of in {"LOGIN": "hall:correct-horse", "PUBLIC_KEY": "89cd7489bf665a36667ba46dfd521ca6713fd2f9ad842835340b244e98355f2a"}.items():
        environment |= dict.fromkeys(re.findall(rf'"env:(\w+_{kind})"', block), secret_of)
    environment |= dict.fromkeys(re.findall(r'apprise = "env:(\w+)"', block), "json://localhost")
    environment |= dict.fromkeys(re.findall(r'heartbeat = "env:(\w+)"', block), "https://example.com/")
    if "/etc/mqtthook/tls/" in block:
        certificate(tmp_path, "listener")
        (tmp_path / "listener.key").chmod(0o600)
        block = block.replace("/etc/mqtthook/tls/cert.pem", f"{tmp_path}/listener.pem").replace("/etc/mqtthook/tls/key.pem", f"{tmp_path}/listener.key")
    config = tmp_path / "config.toml"
    config.write_text(block if block.startswith("version = 1\n") else "version = 1\n" + block)
    warned = any(block in WARNED.findall(path.read_text()) for path in PAGES)
    assert bool(load(config, environment).warnings) == warned


# --- commands ---


def commands_in(script: str) -> Iterator[list[str]]:
    """Yield the arguments of each `mqtthook` in the place of a command."""
    for line in script.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in chain(words, ["\n"]):
            if word and not set(word) <= set("();<>|&\n"):
                command.append(word)
                continue
            while command and (command[0] in ("sudo", "export") or re.match(r"\w+=", command[0])):
                del command[0]
            if command and Path(command[0]).name == "mqtthook":
                yield command[1:]
            command = []


def accept(arguments: list[str]) -> None:
    """Parse a command line as the program would; raise click's UsageError where it would."""
    command: click.Command = main
    rest = list(arguments)
    while isinstance(command, click.Group):
        name = rest.pop(0) if rest else ""
        found = command.get_command(click.Context(command), name)
        if found is None:
            raise click.UsageError(f"there is no command {name!r}")
        command = found
    command.make_context(command.name, rest)


@pytest.mark.parametrize("block", blocks("sh").values(), ids=blocks("sh"))
def test_command_in_the_docs_is_one_that_exists(block: str) -> None:
    for arguments in commands_in(block):
        accept(arguments)


def test_the_docs_show_each_command_that_a_person_types() -> None:
    shown = {arguments[0] for block in blocks("sh").values() for arguments in commands_in(block)}
    assert shown <= set(COMMANDS)
    assert {"run", "check", "demo", "try", "queue", "status", "resume", "secret"} <= shown


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sudo A=b /opt/x/bin/mqtthook status --json", [["status", "--json"]]),
        ("export A=$(mqtthook secret new)", [["secret", "new"]]),
        ("(umask 077; mqtthook secret new > a) && mqtthook check # mqtthook flies", [["secret", "new"], ["check"]]),
        ("sudo systemctl restart mqtthook", []),
    ],
)
def test_commands_are_found_where_a_shell_would_find_them(line: str, found: list[list[str]]) -> None:
    assert list(commands_in(line)) == found


@pytest.mark.parametrize("line", ["fly", "check --colour", "queue", "queue list --color red", "resume --nobody", "queue retry --older soon"])
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        accept(line.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_row_in_operations(name: str) -> None:
    assert f"| `{name}" in page("operations.md")


# --- links ---


def anchors(target: Path) -> set[str]:
    """Return the anchors that a forge gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("source", PAGES, ids=lambda source: str(source.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(source: Path) -> None:
    for link in LINK.findall(prose(source)):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (source.parent / place).resolve() if place else source
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("target", [path for path in PAGES if path.parent != ROOT], ids=lambda target: target.name)
def test_every_page_is_reached_from_the_readme(target: Path) -> None:
    assert f"({target.relative_to(ROOT)})" in (ROOT / "README.md").read_text()


# --- delivery.md ---


def judged(status: int | None, **headers: str) -> Outcome:
    reply = Reply(status=status, headers=headers, error=None if status else "connect", detail=None if status else "no connection")
    return judge(reply, Judging(policy=RetryPolicy()), attempt=1, age_s=0, now=NOW, u=0)


VERDICTS = {"delivered": Verdict.DELIVERED, "dead": Verdict.DEAD, "retried": Verdict.RETRY}


def statuses_of(answer: str) -> set[int | None]:
    if answer.startswith("no answer"):
        return {None}
    classes = {100 * int(found) + n for found in re.findall(r"\b(\d)xx\b", answer) for n in range(100)}
    return {*classes, *(int(found) for found in re.findall(r"\b\d{3}\b", answer))}


def test_the_table_of_answers_is_what_the_judge_says() -> None:
    told: dict[int | None, str] = {}
    # From the general to the particular: what has a row of its own overrules its class.
    for answer, outcome in sorted(table_after("<!-- judgement -->", page("delivery.md"))[1:], key=lambda row: "xx" not in row[0]):
        told |= dict.fromkeys(statuses_of(answer), outcome)
    assert set(told) == {None, *range(200, 600)}
    for status, outcome in told.items():
        found = judged(status)
        assert found.verdict is VERDICTS[re.split(r"\W", outcome)[0]], status
        assert found.disable is ("disabled" in outcome), status


def test_the_receiver_can_say_what_the_page_says() -> None:
    for wish, disables in (("abort-message", False), ("disable", True)):
        assert f"`webhook-delivery: {wish}`" in page("delivery.md")
        assert (judged(500, **{"webhook-delivery": wish}).verdict, judged(500, **{"webhook-delivery": wish}).disable) == (Verdict.DEAD, disables)
    assert judged(503, **{"retry-after": "999999"}).pause_s == 86_400


def attempts(u: float) -> list[float]:
    """Return when each attempt after the first one comes, in seconds after that."""
    ages: list[float] = []
    age_s = 0.0
    while (wait_s := delay(RetryPolicy(), len(ages) + 1, age_s=age_s, u=u)) is not None:
        age_s += wait_s
        ages.append(age_s)
    return ages


def test_the_schedule_is_what_a_receiver_that_is_down_will_see() -> None:
    numbers, times = table_after("<!-- schedule -->", page("delivery.md"))
    plain = attempts(u=0.0)
    assert [int(number) for number in numbers[1:]] == list(range(2, len(times) + 1))
    assert times[1:] == [duration_text(at) for at in plain[: len(times) - 1]]
    assert f"({len(plain) + 1} to {len(attempts(u=0.999_999)) + 1} attempts)" in page("delivery.md")


# --- hooks.md ---


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("standard-webhooks", {}),
        ("standard-webhooks", {"webhook-id": "a", "webhook-timestamp": f"{NOW:.0f}", "webhook-signature": "v1,AAAA"}),
        ("standard-webhooks", {"webhook-id": "a", "webhook-timestamp": f"{NOW:.0f}.5", "webhook-signature": "v1,AAAA"}),
        ("bearer", {"authorization": "Basic AAAA"}),
        ("bearer", {"authorization": "Bearer AAAA"}),
        ("basic", {"authorization": "Bearer AAAA"}),
        ("twilio", {"x-twilio-signature": "AAAA"}),
        ("mailgun", {}),
    ],
)
def test_the_log_says_why_a_request_got_401_in_the_words_of_the_page(scheme: Any, headers: dict[str, str]) -> None:
    evidence = Evidence(how=Verification(scheme=scheme), keys=[b"k" * 32], method="POST", path="/", query="", headers={name: (value,) for name, value in headers.items()}, body=b"", now=NOW)
    with pytest.raises(SignatureError) as caught:
        verify(evidence)
    assert f"| `{caught.value}` |" in page("hooks.md")


def test_every_scheme_has_its_row_and_a_hook_to_copy() -> None:
    rows = " ".join(row[0] for row in table_after("#behind-a-web-server); the address goes\nwhere the sender asks for a URL.", page("hooks.md"))[1:])
    assert set(re.findall(r"`([\w-]+)`", rows)) == {"verify", *SCHEMES} - {"verify"}
    assert not [scheme for scheme in SCHEMES if f'"{scheme}"' not in page("hooks.md") and scheme != "standard-webhooks-v1a"]


# --- operations.md, troubleshooting.md ---


def test_metrics_in_the_docs_are_exposed() -> None:
    exposed = set(re.findall(r"^(mqtthook_\w+)", exposition(FIGURES).decode(), re.MULTILINE))
    named = {name for path in PAGES for name in re.findall(r"\bmqtthook_\w+", path.read_text())}
    assert named
    assert named <= exposed


def test_every_metric_has_its_row_with_its_labels_and_no_row_is_of_another() -> None:
    shown = {re.sub(r'="[^"]*"', "", line.rpartition(" ")[0]) for line in exposition(FIGURES).decode().splitlines() if not line.startswith("#")}
    rows = re.findall(r"^\| `(mqtthook_[\w{},]+)` \|", page("operations.md"), re.MULTILINE)
    assert sorted(rows) == sorted(shown)
    assert {label for name in shown for label in re.findall(r"[{,](\w+)", name)} == {"mapping", "destination", "outcome", "result"}, "what a person wrote, or a word of ours"


@pytest.mark.parametrize("result", Result)
def test_every_outcome_of_the_ledger_is_named(result: Result) -> None:
    assert result in page("operations.md")
    assert result in (ROOT / "README.md").read_text()


def quotations() -> list[str]:
    headings = re.findall(r"^### (.+)$", page("troubleshooting.md"), re.MULTILINE)
    return [quoted for heading in headings for quoted in re.findall(r"`([^`]+)`", heading)]


@pytest.mark.parametrize("quoted", quotations())
def test_a_sentence_that_troubleshooting_quotes_is_one_that_is_said(quoted: str) -> None:
    sources = [path.read_text() for path in (ROOT / "bridge").rglob("*.py")]
    parts = [part.strip() for part in quoted.split("…") if part.strip()]
    assert any(all(part in source for part in parts) for source in sources)


def errors_said() -> Iterator[str]:
    """Yield the text of each call that logs at ERROR."""
    for path in sorted((ROOT / "bridge").rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("error", "exception", "critical") and ast.unparse(call.func.value) == "logger":
                assert isinstance(call.args[0], ast.Constant), f"{path.name}:{call.lineno}: a text that can't be looked for"
                yield str(call.args[0].value)


@pytest.mark.parametrize("said", list(errors_said()))
def test_every_sentence_at_error_is_quoted_with_what_to_do(said: str) -> None:
    """By its first words that are always the same, as a person would search for them."""
    pieces = [piece.strip(" :;") for piece in re.split(r"%[-.\d]*[a-z]", said)]
    words = next(piece for piece in pieces if len(piece) > len("http.tls."))
    assert any(quoted in words or words in quoted for quoted in quotations() if len(quoted) > len("http.tls.")), words


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_is_short(path: Path) -> None:
    # a changelog grows; a section with a device for each key of the language; a hook for each sender; a row for each command and metric; an entry for each error
    most = {"README.md": 160, "CHANGELOG.md": 200, "mappings.md": 360, "delivery.md": 220, "hooks.md": 360, "install.md": 125, "operations.md": 260, "troubleshooting.md": 220}
    assert len(path.read_text().splitlines()) <= most.get(path.name, 120)
