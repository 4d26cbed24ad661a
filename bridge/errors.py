"""What can go wrong, as one tree. A leaf exists because some caller treats it differently.

BridgeError
├── ConfigError         the settings can't be used                -> exit 78
├── AlreadyRunning      another daemon holds this outbox          -> exit 78
├── RenderError         a message or request doesn't fit its mapping -> dead letter, or 422
├── SignatureError      a request isn't who it says it is         -> 401 (Meta's greeting: 403), no reason given
│   └── UnusableId      it is, but its id can't be kept           -> 400, with the reason
├── HookError           a request gets this answer                -> its own status
├── StoreFull           nothing more can be made safe now         -> no ack, or 503
├── StoreBroken         the disk can't be trusted                 -> exit 74
│   └── StoreDamaged    what is in the outbox file can't be       -> the daemon puts it aside and goes on with a new one
└── ListenError         an address can't be listened on           -> exit 1
"""


class BridgeError(Exception):
    """Anything the bridge itself says is wrong."""


class ConfigError(BridgeError):
    """Every problem found in the settings, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AlreadyRunning(BridgeError):
    """Another daemon works on the same outbox."""


class RenderError(BridgeError):
    """An expression or template can't be applied to what came; the text says why."""


class SignatureError(BridgeError):
    """A request can't be trusted, and is answered with *status*; the text is for the log only, never for the answer."""

    def __init__(self, reason: str, *, status: int = 401) -> None:
        super().__init__(reason)
        self.status = status


class UnusableId(SignatureError):
    """A request is verified, but can't be told from others by the id that it bears; the text is for the answer, too."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, status=400)


class HookError(BridgeError):
    """A request is answered with *status* and a problem document (RFC 9457), which says nothing more where *detail* is None."""

    def __init__(self, status: int, detail: str | None = None, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s


class StoreFull(BridgeError):
    """The outbox has reached `store.max_size`, or its disk is full."""


class StoreBroken(BridgeError):
    """The disk failed: going on could acknowledge what isn't safe."""


class StoreDamaged(StoreBroken):
    """The outbox file is not what was written to it."""


class ListenError(BridgeError):
    """An address can't be listened on."""
