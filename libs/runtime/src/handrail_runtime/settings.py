"""Settings from the environment: the part that every service shares, and how any settings class is loaded.

Names are `HANDRAIL_<FIELD>` here and `HANDRAIL_<SERVICE>__<FIELD>` in a service's own class (`service_config`). Any
`NAME` may be given as `NAME_FILE`, a path whose content is the value (Docker and Kubernetes secrets).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, StringConstraints, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from handrail_runtime.cors import origins_of
from handrail_runtime.errors import EXIT_MISCONFIGURED

S = TypeVar("S", bound=BaseSettings)

PREFIX = "HANDRAIL_"
Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class _FileSource(PydanticBaseSettingsSource):
    """`NAME_FILE` in the environment: the value is the file's content without the last line break."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = f"{self.config.get('env_prefix', '')}{field_name}_FILE".upper()
        path = os.environ.get(name)
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as e:
            raise _Unreadable(name, f"Expected a readable file, but reading it failed: {type(e).__name__}.") from e

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            value, key, _ = self.get_field_value(field, name)
            if value is not None:
                found[key] = value
        return found


class _Unreadable(Exception):
    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name, self.message = name, message


class Settings(BaseSettings):
    """Base of every settings class: order is arguments, environment, `NAME_FILE`, defaults. Immutable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, validate_default=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources in the order in which they win."""
        return init_settings, env_settings, _FileSource(settings_cls)


def service_config(service: str) -> SettingsConfigDict:
    """The `model_config` of a service's own settings class: names are `HANDRAIL_<SERVICE>__<FIELD>`."""
    return SettingsConfigDict(
        env_prefix=f"{PREFIX}{service.upper()}__", extra="ignore", frozen=True, validate_default=True
    )


class EngineSettings(Settings):
    """What every service needs to know about the engines and about this deployment. Hosts default to this machine."""

    postgres_dsn: SecretStr = Field(
        default=SecretStr("postgresql://handrail@127.0.0.1:5432/handrail"), description="PostgreSQL, the only truth"
    )
    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="Redis or Valkey, the view that can be thrown away"
    )
    kafka: str = Field(default="127.0.0.1:9092", description="bootstrap servers, host:port separated by commas")
    partitions: int = Field(default=24, ge=1, le=1000, description="P, fixed when the topics are made")
    tenant: Tenant = Field(default="default", description="the tenant that this deployment serves")
    cors_origins: str = Field(
        default="", description="origins of pages that may use the API besides our own, separated by commas"
    )
    dev: bool = Field(default=False, description="unlocks what is only for development, as the settable clock")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="lowest level shown")

    @field_validator("postgres_dsn")
    @classmethod
    def _postgres(cls, value: SecretStr) -> SecretStr:
        return _url(value, ("postgresql", "postgres"), "postgresql://user@host:5432/database")

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: SecretStr) -> SecretStr:
        return _url(value, ("redis", "rediss", "unix"), "redis://host:6379/0")

    @field_validator("kafka")
    @classmethod
    def _bootstrap(cls, value: str) -> str:
        servers = [server.strip() for server in value.split(",")]
        for server in servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65_536:
                raise ValueError(f"Expected host:port separated by commas, but found {server[:80]!r}.")
        return ",".join(servers)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        return ",".join(sorted(origins_of(value)))

    @field_validator("log_level", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    def origins(self) -> frozenset[str]:
        """The configured origins."""
        return origins_of(self.cors_origins)


def _url(value: SecretStr, schemes: tuple[str, ...], example: str) -> SecretStr:
    try:
        scheme = urlsplit(value.get_secret_value()).scheme
    except ValueError as e:
        raise ValueError(f"Expected a URL as {example}, but the value is not one.") from e
    if scheme not in schemes:
        raise ValueError(f"Expected a URL as {example}, but its scheme is {scheme[:20]!r}.")
    return value


def load(cls: type[S], **given: Any) -> S:
    """The settings of one class from the environment, `given` ones as they are. On faults prints all of them and exits with 78."""
    return load_all(cls, **given)[0]  # type: ignore[return-value]  # one class in, its instance out


def load_all(*classes: type[BaseSettings], **given: Any) -> tuple[BaseSettings, ...]:
    """As `load` for several classes, in order; the faults of all of them are told at once."""
    loaded: list[BaseSettings] = []
    faults: list[str] = []
    for cls in classes:
        try:
            loaded.append(cls(**given))
        except ValidationError as e:
            faults.extend(_lines(cls, e))
        except _Unreadable as e:
            faults.append(f"{e.name}: {e.message}")
    if faults:
        count = f"{len(faults)} settings are wrong" if len(faults) > 1 else "a setting is wrong"
        print(f"Handrail cannot start: {count}.", *(f"  {line}" for line in faults), sep="\n", file=sys.stderr)  # noqa: T201  # logging is not up yet
        raise SystemExit(EXIT_MISCONFIGURED)
    return tuple(loaded)


def masked(settings: BaseSettings) -> dict[str, Any]:
    """Environment name -> value for showing; secrets are stars."""
    prefix = settings.model_config.get("env_prefix", "")
    return {f"{prefix}{name}".upper(): value for name, value in settings.model_dump(mode="json").items()}


def _lines(cls: type[BaseSettings], error: ValidationError) -> list[str]:
    prefix = cls.model_config.get("env_prefix", "")
    lines: list[str] = []
    for fault in error.errors(include_url=False, include_input=False):
        name = "__".join(str(part) for part in fault["loc"])
        what = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{prefix}{name}".upper() + f": {what}")
    return lines
