"""What the notifier reads from the environment, besides what all services share."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from handrail_runtime.settings import Settings, service_config

_NAME = re.compile(r"[A-Za-z0-9._-]{0,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)


class NotifierSettings(Settings):
    """`HANDRAIL_NOTIFIER__<FIELD>`. Seconds throughout."""

    model_config = service_config("notifier")

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8082, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    allowed_hosts: str = Field(
        default="", description="names besides this machine's own that Host and Origin may have, separated by commas"
    )
    ping_s: float = Field(default=15.0, gt=0, le=60, description="pause between pings on a stream")
    send_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="a client that takes nothing so long is evicted"
    )
    max_age_s: float = Field(default=1800.0, gt=0, description="a stream is closed with `bye` at this age")
    grace_s: float = Field(default=30.0, ge=0, description="a workflow that nobody watches stays in memory so long")
    start_timeout_s: float = Field(default=5.0, gt=0, description="a stream that cannot start by then is answered 503")
    recheck_s: float = Field(default=10.0, gt=0, description="pause between comparisons of streams with the journal")
    max_streams: int = Field(default=20_000, ge=1, description="more streams than this are answered 503")

    gateway_url: str = Field(
        default="http://127.0.0.1:8081", description="where AG-UI's starts and decisions are handed in"
    )
    tickets: Literal["optional", "required"] = Field(
        default="optional", description="required: no stream opens without a ticket from POST /sse-tickets"
    )
    ticket_s: float = Field(default=30.0, gt=0, le=300, description="a ticket opens its stream within this time")

    @field_validator("gateway_url")
    @classmethod
    def _url(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.netloc or url.path not in ("", "/"):
            raise ValueError(f"Expected a URL as http://127.0.0.1:8081, but found {value[:80]!r}.")
        return value.rstrip("/")

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, value: str) -> str:
        for name in value.split(","):
            if _NAME.fullmatch(name.strip()) is None:
                raise ValueError(f"Expected host names separated by commas, but found {name[:80]!r}.")
        return value

    def hosts(self) -> frozenset[str]:
        """The configured names, in lower case."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())
