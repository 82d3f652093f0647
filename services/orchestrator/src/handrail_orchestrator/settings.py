"""What an operator may set on an orchestrator: `HANDRAIL_ORCHESTRATOR__…`, beside the shared engine settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_settings import SettingsConfigDict

from handrail_runtime.settings import EngineSettings


class OrchestratorOptions(BaseModel):
    """The orchestrator's own."""

    host: str = "127.0.0.1"
    port: int = Field(default=8083, ge=1, le=65535, description="health and metrics")
    lease_s: float = Field(
        default=5.0, ge=0.5, le=60, description="how long a partition stays ours without a renewal, in seconds"
    )
    seen_s: float = Field(
        default=5.0, ge=0.5, le=60, description="how long a silent orchestrator counts as alive, in seconds"
    )
    batch: int = Field(default=200, ge=1, le=5000, description="inputs that one transaction covers at most")
    poll_s: float = Field(
        default=0.5, ge=0.02, le=10, description="how often commands are looked for without a nudge, in seconds"
    )
    cached_nodes: int = Field(default=200_000, ge=1000, description="nodes of idle workflows kept in memory")
    on_foreign_bus: Literal["adopt", "refuse"] = Field(
        default="adopt", description="what to do when the bus lost its log"
    )


class OrchestratorSettings(EngineSettings):
    """Everything that `python -m handrail_orchestrator` reads from the environment."""

    model_config = SettingsConfigDict(env_prefix="HANDRAIL_", env_nested_delimiter="__", extra="ignore")
    orchestrator: OrchestratorOptions = Field(default_factory=OrchestratorOptions)
    blueprints_dir: Path | None = Field(default=None, description="a folder of further blueprints, *.yaml")
