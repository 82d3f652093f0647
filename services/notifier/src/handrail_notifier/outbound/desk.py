"""All channels of one notifier, made of its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from handrail_notifier.adapters.gateway import GatewayDesk
from handrail_notifier.outbound.courier import Channel, Courier
from handrail_notifier.outbound.queue import Queue
from handrail_notifier.outbound.settings import CALLBACK, EMAIL, SLACK, TEXT, ChannelSettings
from handrail_runtime.lifecycle import supervise

if TYPE_CHECKING:
    from handrail_notifier.outbound.clicks import Clicks


class Channels:
    """`run` beside the notifier's other loops, `routes` beside its streams, `nudge` when there may be news."""

    def __init__(self, settings: ChannelSettings, pool: Any, tenant: str, gateway_url: Callable[[], str]) -> None:
        # slack-sdk, aiohttp and the others take time and memory: only what is used is loaded.
        self._settings = settings
        queue = Queue(pool, tenant)
        ways: dict[str, Channel] = {}
        self.routes: Mapping[str, ASGIApp] = {}
        self._clicks: Clicks | None = None
        self._desk = GatewayDesk(gateway_url, SLACK)
        served = settings.served()
        if settings.secrets():
            from handrail_notifier.outbound.webhook import Webhooks

            hooks = Webhooks(
                settings.webhooks(),
                settings.secrets(),
                settings.inner_hosts(),
                ca_file=settings.webhook_ca_file,
                proxy=settings.webhook_proxy.get_secret_value(),
            )
            ways |= dict.fromkeys([*settings.webhooks(), CALLBACK], hooks)
        if SLACK in served:
            from handrail_notifier.outbound.clicks import Clicks
            from handrail_notifier.outbound.doors import PATH, SlackDoor
            from handrail_notifier.outbound.slack import Slack

            slack = Slack(settings)
            ways[SLACK] = slack
            self._clicks = Clicks(settings, slack, queue, self._desk)
            if settings.slack_signing_secret.get_secret_value():
                self.routes = {PATH: SlackDoor(self._clicks)}
        if EMAIL in served or TEXT in served:
            from handrail_notifier.outbound.texts import Email, Texts

            ways |= {name: make(settings) for name, make in ((EMAIL, Email), (TEXT, Texts)) if name in served}
        self._courier = Courier(queue, ways, settings.fed())

    def nudge(self) -> None:
        """Something may have happened that a channel wants to hear of."""
        self._courier.nudge()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until told to stop; clicks that were acknowledged are worked off first."""
        loops = [self._courier.run(stopping)]
        if self._clicks is not None and self._settings.slack_app_token.get_secret_value():
            from handrail_notifier.outbound.doors import listen

            loops.append(listen(self._settings, self._clicks, stopping))
        try:
            await supervise(*loops, until=stopping)
        finally:
            if self._clicks is not None:
                await self._clicks.finish()
            await self._desk.close()


def open_channels(
    settings: ChannelSettings | None, pool: Any, tenant: str, gateway_url: Callable[[], str]
) -> Channels | None:
    """The channels, None when none is configured: then nothing is read, and nothing leaves the machine."""
    if settings is None or not settings.served():
        return None
    return Channels(settings, pool, tenant, gateway_url)
