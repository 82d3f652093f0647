"""The played channels on a port: Slack's Web API and Socket Mode, a webhook receiver, a mail server, and a page that shows all."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
from typing import Any
from uuid import uuid4

from aiohttp import ClientError, ClientSession, WSMsgType, web
from standardwebhooks import Webhook, WebhookVerificationError

from handrail_simulators.channels import office as play
from handrail_simulators.channels.office import Office


class Serving:
    """Starts and stops. `environment` is what makes a notifier use these channels."""

    def __init__(
        self, office: Office | None = None, *, handrail_url: str = "http://127.0.0.1:8080", port: int = 0
    ) -> None:
        self.office = office or Office()
        self.handrail_url, self.port, self.smtp_port = handrail_url.rstrip("/"), port, 0
        self._sockets: list[web.WebSocketResponse] = []
        self._runner: web.AppRunner | None = None
        self._smtp: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, *, socket_mode: bool = True) -> dict[str, str]:
        """The notifier's settings."""
        p = "HANDRAIL_NOTIFIER__"
        door = (
            {p + "SLACK_APP_TOKEN": play.APP_TOKEN}
            if socket_mode
            else {p + "SLACK_SIGNING_SECRET": play.SIGNING_SECRET}
        )
        return {
            p + "PUBLIC_URL": self.handrail_url,
            p + "SLACK_API_URL": f"{self.url}/api/",
            p + "SLACK_BOT_TOKEN": play.BOT_TOKEN,
            p + "SLACK_CHANNEL": play.CHANNEL,
            p + "SLACK_USERS": json.dumps({u: v["name"] for u, v in play.USERS.items() if u != "U0GRACE"}),
            p + "WEBHOOK_URLS": f"{self.url}/webhook",
            p + "WEBHOOK_SECRETS": play.WEBHOOK_SECRET,
            p + "WEBHOOK_INNER_HOSTS": f"127.0.0.1:{self.port}",
            p + "SMTP_URL": f"smtp://127.0.0.1:{self.smtp_port}",
            p + "MAIL_FROM": "handrail@localhost",
            p + "MAIL_TO": "operators@localhost",
            **door,
        }

    async def start(self) -> None:
        """Takes the ports. Raises OSError."""
        app = web.Application()
        app.router.add_route("*", "/api/{method}", self._api)
        app.router.add_get("/socket", self._socket)
        app.router.add_post("/webhook", self._webhook)
        app.router.add_get("/", self._page)
        app.router.add_post("/press", self._press)
        app.router.add_get("/state", self._state)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        self._smtp = await asyncio.start_server(self._mail, "127.0.0.1", self.smtp_port)
        self.smtp_port = int(self._smtp.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Gives them back. Idempotent."""
        if self._smtp is not None:
            self._smtp.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def press(self, ts: str, action_id: str, user: str = "U0ADA") -> int:
        """Presses a button as this person; over Socket Mode when a notifier listens there. Answers the status."""
        return await self.send(self.office.click(ts, action_id, user))

    @property
    def listened(self) -> bool:
        """Whether somebody listens in Socket Mode now."""
        return bool(self._live())

    def _live(self) -> list[web.WebSocketResponse]:
        return [s for s in self._sockets if not s.closed]

    async def send(self, said: dict[str, Any]) -> int:
        """Delivers an interaction as Slack would."""
        if live := self._live():
            await live[-1].send_json(
                {"type": "interactive", "envelope_id": str(uuid4()), "payload": said, "accepts_response_payload": True}
            )
            return 200
        body, headers = play.form(said)
        url = f"{self.handrail_url}/slack/interactions"
        async with ClientSession() as http, http.post(url, data=body, headers=headers) as answer:
            return answer.status

    async def _api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        failure = self.office.failure("slack") if method.startswith("chat.") else None
        if failure is not None:
            return web.json_response({"ok": False, "error": "internal_error"}, status=failure or 500)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token != (play.APP_TOKEN if method == "apps.connections.open" else play.BOT_TOKEN):
            return web.json_response({"ok": False, "error": "invalid_auth"})
        said: dict[str, Any] = dict(request.query)
        if request.content_type == "application/json" and request.can_read_body:
            said |= await request.json()
        elif request.method == "POST":
            said |= dict(await request.post())
        does = {
            "chat.postMessage": self.office.post,
            "chat.update": self.office.update,
            "chat.postEphemeral": self.office.whisper,
            "users.info": self.office.person,
            "apps.connections.open": lambda _: {"ok": True, "url": f"ws://127.0.0.1:{self.port}/socket"},
            "auth.test": lambda _: {"ok": True, "bot_id": "B0", "user_id": "U0BOT"},
        }
        return web.json_response(does[method](said) if method in does else {"ok": False, "error": "unknown_method"})

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=10)
        await socket.prepare(request)
        self._sockets.append(socket)
        await socket.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": play.APP}})
        async for message in socket:
            if message.type is WSMsgType.ERROR:
                break
        self._sockets.remove(socket)
        return socket

    async def _webhook(self, request: web.Request) -> web.StreamResponse:
        failure = self.office.failure("webhook")
        body = await request.text()
        if failure is not None:
            return web.Response(status=failure or 500)
        try:
            Webhook(play.WEBHOOK_SECRET).verify(body, dict(request.headers))
        except WebhookVerificationError as e:
            return web.Response(status=401, text=str(e))
        self.office.hooks.append({"id": request.headers["webhook-id"], **json.loads(body)})
        return web.Response(status=204)

    async def _press(self, request: web.Request) -> web.StreamResponse:
        said = await request.post()
        with contextlib.suppress(StopIteration, ClientError):
            await self.press(str(said["ts"]), str(said["action_id"]), str(said.get("user", "U0ADA")))
            await asyncio.sleep(1.0)  # so that the page shows what came of it
        raise web.HTTPSeeOther("/")

    async def _state(self, request: web.Request) -> web.StreamResponse:
        o = self.office
        return web.json_response(
            {"messages": o.messages, "whispers": o.whispers, "webhooks": o.hooks, "mails": o.mails, "tries": o.tries}
        )

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=page(self.office), content_type="text/html")

    async def _mail(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """As much of RFC 5321 as a sender needs."""
        writer.write(b"220 simulated\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    if (failure := self.office.failure("smtp")) is not None:
                        writer.write(f"{failure or 451} not now\r\n".encode())
                        continue
                    writer.write(b"354 go on\r\n")
                    lines: list[str] = []
                    while (part := await reader.readline()) not in (b".\r\n", b""):
                        lines.append(part.decode("utf-8", "replace").removeprefix("."))
                    self.office.mails.append("".join(lines))
                writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
                await writer.drain()
                if verb == b"QUIT":
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()


def page(office: Office) -> str:
    """Everything that was said, newest first, with buttons that work."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Channels, played</title><meta http-equiv="refresh" content="3">'
        "<style>body{font:16px/1.5 system-ui;max-width:46rem;margin:2rem auto;padding:0 1rem}article{border:1px solid #ccc;"
        "border-radius:8px;padding:1rem;margin:1rem 0}pre{white-space:pre-wrap;background:#f4f4f4;padding:.5rem}"
        "button{margin:.2rem;padding:.4rem .8rem}</style><h1>Slack, played</h1>"
    ]
    for message in reversed(office.messages):
        parts.append("<article>" + "".join(_block(b, message) for b in message.get("blocks", [])) + "</article>")
    for title, items in (("Whispers", [w["text"] for w in office.whispers]), ("Mails", office.mails)):
        parts.append(f"<h1>{title}</h1>" + "".join(f"<pre>{html.escape(i)}</pre>" for i in reversed(items)))
    hooks = "".join(f"<pre>{html.escape(json.dumps(h, indent=1)[:1500])}</pre>" for h in reversed(office.hooks))
    return "".join(parts) + f"<h1>Webhooks</h1>{hooks}</html>"


def _block(block: dict[str, Any], message: dict[str, Any]) -> str:
    match block["type"]:
        case "header":
            return f"<h2>{html.escape(block['text']['text'])}</h2>"
        case "section":
            return f"<p>{html.escape(block['text']['text'])}</p>"
        case "rich_text":
            return f"<pre>{html.escape(block['elements'][0]['elements'][0]['text'])}</pre>"
        case "context":
            return f"<small>{html.escape(block['elements'][0]['text'])}</small>"
        case "actions":
            return "".join(_button(b, message) for b in block["elements"])
        case _:
            return ""


def _button(button: dict[str, Any], message: dict[str, Any]) -> str:
    label = html.escape(button["text"]["text"])
    if "url" in button:
        return f'<a href="{html.escape(button["url"])}">{label}</a> '
    hidden = "".join(
        f'<input type="hidden" name="{n}" value="{html.escape(v)}">'
        for n, v in (("ts", message["ts"]), ("action_id", button["action_id"]))
    )
    return f'<form method="post" action="/press" style="display:inline">{hidden}<button>{label}</button></form>'
