"""A real SMTP server in a thread: it remembers the mail that came, and answers as it is told."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.controller import Controller

from tests.rig.ports import free_port

TAKEN = "250 OK"


class MailServer:
    """An SMTP server without TLS or passwords, as on a machine of one's own."""

    def __init__(self, *answers: str) -> None:
        """Prepare it; *answers* are those to the first mails, every later one is taken."""
        self.port = free_port()
        self.mails: list[EmailMessage] = []
        self.refused = 0
        self._answers = list(answers)
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        """Answer one mail; the name is aiosmtpd's."""
        answer = self._answers.pop(0) if self._answers else TAKEN
        if answer == TAKEN:
            mail = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        else:
            self.refused += 1
        return answer

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._controller.stop()


def text_of(mail: EmailMessage) -> str:
    """Return what a mail says, as a reader that shows no HTML would."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).strip()
