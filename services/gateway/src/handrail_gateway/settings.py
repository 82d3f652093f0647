"""What the gateway reads from the environment, besides what all services share."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from handrail_runtime.settings import Settings, service_config


class GatewaySettings(Settings):
    """`HANDRAIL_GATEWAY__<FIELD>`. Seconds throughout."""

    model_config = service_config("gateway")

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8081, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    allowed_hosts: str = Field(
        default="", description="names besides this machine's own that Host and Origin may have, separated by commas"
    )
    notifier_url: str | None = Field(
        default=None, description="where the streams come from when no proxy stands in front, as http://127.0.0.1:8082"
    )
    connections: int = Field(default=10, ge=1, le=100, description="connections to PostgreSQL at most")
    most_unpublished: int = Field(
        default=100_000, ge=1, description="starts are refused while more events than this wait to be published"
    )
    mcp_tools: str = Field(
        default="escalate_to_human,list_pending,get_workflow,resolve",
        description="tools that are offered at /mcp, separated by commas; leave resolve out where agents must not decide",
    )
    housekeeping_s: float = Field(default=3600.0, gt=0, description="pause between rounds of housekeeping")

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, value: str) -> str:
        for name in filter(None, map(str.strip, value.split(","))):
            if "/" in name or ":" in name.strip("[]").replace("::", ""):
                raise ValueError(f"Expected host names separated by commas, but found {name[:80]!r}.")
        return value

    @field_validator("mcp_tools")
    @classmethod
    def _tools(cls, value: str) -> str:
        known = str(cls.model_fields["mcp_tools"].default).split(",")
        for name in filter(None, map(str.strip, value.split(","))):
            if name not in known:
                raise ValueError(f"Expected some of {', '.join(known)}, but found {name[:80]!r}.")
        return value

    @field_validator("notifier_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if not value:
            return None
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.netloc or url.path not in ("", "/"):
            raise ValueError(f"Expected a URL as http://127.0.0.1:8082, but found {value[:80]!r}.")
        return value.rstrip("/")

    def hosts(self) -> frozenset[str]:
        """The configured names, in lower case."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())

    def tools(self) -> frozenset[str]:
        """The names of the tools at `/mcp`."""
        return frozenset(filter(None, map(str.strip, self.mcp_tools.split(","))))
