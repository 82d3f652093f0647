"""Mail by SMTP and other text channels by Apprise: words and a link to a page with buttons, never a link that decides."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import getaddresses
from hashlib import sha256
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from handrail_notifier.outbound.notices import GiveUp, Notice, TryLater, console_link, title, words
from handrail_notifier.outbound.settings import ChannelSettings

_log = structlog.get_logger(__name__)
TIMEOUT_S = 20.0


class Email:
    """One mail for each notice. Its Message-ID is made of the notice's id: a second copy is known as one."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings

    async def deliver(self, notice: Notice) -> None:
        """One try, for those who do not have it yet. Raises TryLater while the server puts one of them off, GiveUp when it refuses
        them all for good."""
        mail = self.mail(notice)
        owed = [at for _, at in getaddresses([mail["To"]]) if at not in notice.reached]
        if not owed:
            return
        try:
            refused = await asyncio.to_thread(self._send, mail, owed)
            reached = [*notice.reached, *(at for at in owed if at not in refused)]
        except smtplib.SMTPRecipientsRefused as e:
            refused, reached = e.recipients, [*notice.reached]
        except smtplib.SMTPResponseException as e:
            raise TryLater(f"the mail server answered {e.smtp_code}") from e
        except (smtplib.SMTPException, OSError) as e:
            raise TryLater(f"the mail server: {type(e).__name__}") from e
        codes = sorted({code for code, _ in refused.values()})
        if any(code < 500 for code in codes):
            raise TryLater(f"the mail server answered {codes} for {len(refused)} of {len(owed)}", reached=reached)
        if not reached:
            raise GiveUp("the mail server refuses every receiver")
        if refused:
            _log.warning("mail_receivers_refused", notice=notice.id, refused=len(refused), codes=codes)

    def mail(self, notice: Notice) -> EmailMessage:
        """The mail, plain text only."""
        domain = self._settings.mail_from.rpartition("@")[2].rstrip("> ") or "handrail"
        mail = EmailMessage()
        mail["From"] = self._settings.mail_from
        mail["To"] = ", ".join(self._settings.receivers())
        mail["Subject"] = title(notice)
        mail["Message-ID"] = f"<{sha256(notice.id.encode()).hexdigest()[:32]}@{domain}>"
        thread = f"<{sha256(notice.trace_id.encode()).hexdigest()[:32]}@{domain}>"
        mail["References"] = thread
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(words(notice, console_link(self._settings.public_url, notice.trace_id)))
        return mail

    def _send(self, mail: EmailMessage, owed: list[str]) -> dict[str, tuple[int, bytes]]:
        """Answers who was refused while others were not."""
        at = urlsplit(self._settings.smtp_url.get_secret_value())
        host, tls = at.hostname or "127.0.0.1", ssl.create_default_context()
        if at.scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(host, at.port or 465, timeout=TIMEOUT_S, context=tls)
        else:
            server = smtplib.SMTP(host, at.port or 587, timeout=TIMEOUT_S)
        with server:
            server.ehlo()
            if at.scheme == "smtp" and server.has_extn("starttls"):
                server.starttls(context=tls)
                server.ehlo()
            if at.username:
                # A password goes out only where nobody listens: over TLS, or not at all.
                if at.scheme == "smtp" and not isinstance(server.sock, ssl.SSLSocket):
                    raise smtplib.SMTPNotSupportedError("Expected STARTTLS before a password is sent.")
                server.login(unquote(at.username), unquote(at.password or ""))
            return server.send_message(mail, to_addrs=owed)


class Texts:
    """All Apprise addresses together: told when every one of them took it, each of them once."""

    def __init__(self, settings: ChannelSettings) -> None:
        self._settings = settings

    async def deliver(self, notice: Notice) -> None:
        """One try, for those that do not have it yet. Raises TryLater while one of them does not take it, GiveUp when Apprise knows
        none of them."""
        import apprise  # half a second and 10 MB, only where it is used

        link = console_link(self._settings.public_url, notice.trace_id)
        said = {"body": words(notice, link), "title": title(notice), "body_format": apprise.NotifyFormat.TEXT}

        async def told(teller: Any) -> bool:
            try:
                async with asyncio.timeout(60):
                    return bool(await teller.async_notify(**said))
            except TimeoutError:
                return False

        tellers: dict[str, Any] = {}
        unknown = 0
        for url in self._settings.texts():
            teller = apprise.Apprise()
            if teller.add(url):
                tellers[_mark(url)] = teller
            else:
                unknown += 1
        if not tellers:
            raise GiveUp("no address in HANDRAIL_NOTIFIER__TEXT_URLS is one that Apprise knows")
        owed = [mark for mark in tellers if mark not in notice.reached]
        taken = await asyncio.gather(*(told(tellers[mark]) for mark in owed))
        missing = taken.count(False)
        if missing:
            reached = [*notice.reached, *(mark for mark, took in zip(owed, taken, strict=True) if took)]
            raise TryLater(f"{missing} of {len(tellers)} text channels did not take it", reached=reached)
        if unknown:
            _log.warning("text_addresses_unknown", notice=notice.id, unknown=unknown)


def _mark(url: str) -> str:
    """Stands for an address, which may hold a secret."""
    return sha256(url.encode()).hexdigest()[:16]
