"""A webhook is sent to the address that was checked, and only to whom the certificate names; and words to text channels."""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from standardwebhooks import Webhook
from tests.integration.test_channels import advance, callback, pause
from tests.unit.notifier.test_channel_notices import PAUSE, RESOLVED

from handrail_notifier.outbound import webhook
from handrail_notifier.outbound.courier import Courier
from handrail_notifier.outbound.notices import GiveUp, Kind, Notice, TryLater
from handrail_notifier.outbound.queue import Queue
from handrail_notifier.outbound.settings import ChannelSettings
from handrail_notifier.outbound.texts import Email, Texts
from handrail_notifier.outbound.webhook import Webhooks
from handrail_simulators.channels import Serving
from handrail_simulators.channels import office as play
from handrail_store import connect, migrate

NAME = "hooks.example"


def certificate(path: Path) -> ssl.SSLContext:
    """A server context for NAME alone; its certificate is at `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=400))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (path.parent / "key.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, path.parent / "key.pem")
    return context


class Receiver:
    """A TLS server on 127.0.0.1:8443's stand-in; counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.asked.append((headers, body))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Receiver]:
    """This machine plays a public one: 127.0.0.1 passes for a public address, and any port for an allowed one."""
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=certificate(tmp_path / "ca.pem"))
    made.port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr(webhook, "is_public", lambda address: address == "127.0.0.1")
    monkeypatch.setattr(webhook, "refused_rule", lambda url: None)
    yield made
    server.close()


async def here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def test_the_checked_address_is_called_under_its_name(receiver: Receiver, tmp_path: Path) -> None:
    sender = Webhooks({}, [play.WEBHOOK_SECRET], frozenset(), here, ca_file=str(tmp_path / "ca.pem"))
    await sender.deliver(callback(f"https://{NAME}:{receiver.port}/hook?x=1"))
    [(headers, body)] = receiver.asked
    assert headers["host"] == f"{NAME}:{receiver.port}"
    assert Webhook(play.WEBHOOK_SECRET).verify(body, headers)["type"] == "x"
    # The same address under a name that the certificate does not have: no connection of before is used again.
    with pytest.raises(TryLater, match="ConnectError"):
        await sender.deliver(callback(f"https://other.example:{receiver.port}/hook"))
    await sender.close()
    untrusting = Webhooks({}, [play.WEBHOOK_SECRET], frozenset(), here)
    with pytest.raises(TryLater, match="ConnectError"):
        await untrusting.deliver(callback(f"https://{NAME}:{receiver.port}/hook"))
    await untrusting.close()
    assert len(receiver.asked) == 1


async def test_a_proxy_is_asked_for_the_address_and_sees_nothing_else(receiver: Receiver, tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        inward, outward = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65_536):
                sink.write(piece)
                await sink.drain()
            sink.close()

        await asyncio.gather(pump(reader, outward), pump(inward, writer), return_exceptions=True)

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    at = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    sender = Webhooks({}, [play.WEBHOOK_SECRET], frozenset(), here, ca_file=str(tmp_path / "ca.pem"), proxy=at)
    await sender.deliver(callback(f"https://{NAME}:{receiver.port}/hook"))
    await sender.close()
    server.close()
    assert asked == [f"CONNECT 127.0.0.1:{receiver.port} HTTP/1.1".encode()]
    assert len(receiver.asked) == 1


def opened(channel: str) -> Notice:
    return Notice(f"default/{channel}/opened/p1", channel, Kind.OPENED, "t", "p1", {"event": PAUSE}, 1)


@pytest_asyncio.fixture(loop_scope="session")
async def played() -> AsyncGenerator[Serving]:
    played = Serving()
    await played.start()
    yield played
    await played.stop()


async def test_a_mail_is_sent_again_with_the_same_id_after_the_server_was_busy(played: Serving) -> None:
    settings = ChannelSettings(
        smtp_url=f"smtp://127.0.0.1:{played.smtp_port}",  # pyright: ignore[reportArgumentType]
        mail_from="Handrail <handrail@corp.example>",
        mail_to="a@corp.example, b@corp.example",
    )
    mail = Email(settings)
    played.office.failing["smtp"] = 451
    with pytest.raises(TryLater, match="451"):
        await mail.deliver(opened("email"))
    played.office.failing.clear()
    for _ in range(2):
        await mail.deliver(opened("email"))
    first, second = played.office.mails
    ids = [[line for line in m.splitlines() if line.startswith("Message-ID")] for m in (first, second)]
    assert ids[0] == ids[1]
    assert "To: a@corp.example, b@corp.example" in first
    hostile = {**RESOLVED, "actor": "x\r\nBcc: evil@evil.example"}
    said = mail.mail(Notice("n", "email", Kind.RESOLVED, "t", "p1", {"event": hostile}, 1))
    assert said["Bcc"] is None


class Mailhost:
    """A mail server that refuses receivers as it is told: `refusing` maps the beginning of an address to a reply."""

    def __init__(self) -> None:
        self.refusing: dict[str, str] = {}
        self.taken: list[list[str]] = []  # who got each mail

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 x\r\n")
        to: list[str] = []
        while line := (await reader.readline()).decode().strip():
            if line.upper().startswith("RCPT TO:"):
                at = line[8:].strip("<> ")
                reply = next((said for name, said in self.refusing.items() if at.startswith(name)), "250 ok")
                to += [at] if reply.startswith("250") else []
            elif line.upper() == "DATA":
                writer.write(b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                self.taken.append(to)
                reply, to = "250 ok", []
            elif line.upper() == "QUIT":
                break
            else:
                reply = "250 ok"
            writer.write(reply.encode() + b"\r\n")
        writer.close()


@pytest_asyncio.fixture(loop_scope="session")
async def mailhost() -> AsyncGenerator[tuple[Mailhost, ChannelSettings]]:
    made = Mailhost()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    settings = ChannelSettings(
        smtp_url=f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}",  # pyright: ignore[reportArgumentType]
        mail_from="handrail@corp.example",
        mail_to="Ada <ada@corp.example>, bob@corp.example",
    )
    yield made, settings
    server.close()


async def test_a_receiver_who_is_put_off_gets_the_mail_later_and_the_others_get_it_once(
    mailhost: tuple[Mailhost, ChannelSettings], empty_database: str
) -> None:
    host, settings = mailhost
    host.refusing["bob"] = "450 4.2.0 greylisted, try again in 5 minutes"
    await migrate.upgrade(empty_database, 4)
    pool = await connect.pool(empty_database, app="test-channels")
    try:
        courier = Courier(Queue(pool, "default"), {"email": Email(settings)}, ["email"])
        await pause(pool, "p1")
        assert await courier.once() == 1
        assert host.taken == [["ada@corp.example"]]
        host.refusing["bob"] = "451 4.3.0 not yet"
        await advance(pool, datetime.timedelta(minutes=1))
        assert await courier.once() == 1
        [row] = await pool.fetch("SELECT state, error FROM handrail.outbound")
        assert row["state"] == "due" and "451" in row["error"]
        host.refusing.clear()
        await advance(pool, datetime.timedelta(hours=1))
        assert await courier.once() == 1
        assert host.taken == [["ada@corp.example"], ["bob@corp.example"]]
        assert await pool.fetchval("SELECT state FROM handrail.outbound") == "sent"
    finally:
        await pool.close()


async def test_a_mail_is_given_up_only_when_nobody_can_ever_have_it(
    mailhost: tuple[Mailhost, ChannelSettings],
) -> None:
    host, settings = mailhost
    mail = Email(settings)
    host.refusing = {"ada": "550 5.1.1 no such user", "bob": "421 4.7.0 busy"}
    with pytest.raises(TryLater, match="421"):
        await mail.deliver(opened("email"))
    host.refusing = {"ada": "550 5.1.1 no such user", "bob": "450 4.2.0 later"}
    with pytest.raises(TryLater, match="450"):
        await mail.deliver(opened("email"))
    host.refusing["bob"] = "550 5.1.1 no such user"
    with pytest.raises(GiveUp):
        await mail.deliver(opened("email"))
    assert host.taken == []
    del host.refusing["bob"]
    await mail.deliver(opened("email"))
    assert host.taken == [["bob@corp.example"]]


async def test_no_password_goes_out_without_tls(played: Serving) -> None:
    settings = ChannelSettings(
        smtp_url=f"smtp://me:secret@127.0.0.1:{played.smtp_port}",  # pyright: ignore[reportArgumentType]
        mail_from="handrail@corp.example",
        mail_to="a@corp.example",
    )
    with pytest.raises(TryLater):
        await Email(settings).deliver(opened("email"))
    assert played.office.mails == []


async def test_other_text_channels_hear_words_and_a_link() -> None:
    heard: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].split("\r\n")[0])
        heard.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    texts = Texts(ChannelSettings(text_urls=f"json://127.0.0.1:{port}/"))  # pyright: ignore[reportArgumentType]
    await texts.deliver(opened("text"))
    server.close()
    await server.wait_closed()
    assert heard[0]["title"] == "Handrail needs you: t"
    assert "http://127.0.0.1:8080/console/workflows/t" in heard[0]["message"]
    with pytest.raises(TryLater, match="did not take it"):
        await texts.deliver(opened("text"))


async def test_a_text_channel_that_is_down_hears_later_and_the_others_once(empty_database: str) -> None:
    heard: list[str] = []
    down = {"b"}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].split("\r\n")[0])
        await reader.readexactly(length)
        name = head.split(" ")[1].strip("/")
        if name not in down:
            heard.append(name)
        status = b"503 Away" if name in down else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    at = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = ChannelSettings(text_urls=f"json://{at}/a,nosuch://x,json://{at}/b")  # pyright: ignore[reportArgumentType]
    await migrate.upgrade(empty_database, 4)
    pool = await connect.pool(empty_database, app="test-channels")
    try:
        courier = Courier(Queue(pool, "default"), {"text": Texts(settings)}, ["text"])
        await pause(pool, "p1")
        for _ in range(3):
            assert await courier.once() == 1
            assert heard == ["a"]
            await advance(pool, datetime.timedelta(hours=1))
        down.clear()
        assert await courier.once() == 1
        assert heard == ["a", "b"]
        assert await pool.fetchval("SELECT state FROM handrail.outbound") == "sent"
    finally:
        await pool.close()
        server.close()
    with pytest.raises(GiveUp):
        await Texts(ChannelSettings(text_urls="nosuch://x")).deliver(opened("text"))  # pyright: ignore[reportArgumentType]
