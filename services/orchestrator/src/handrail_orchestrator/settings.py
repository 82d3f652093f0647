"""What an orchestrator reads from the environment, besides what all services share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from handrail_runtime.settings import Settings, service_config


class OrchestratorSettings(Settings):
    """`HANDRAIL_ORCHESTRATOR__<FIELD>`. Seconds throughout."""

    model_config = service_config("orchestrator")

    host: str = Field(default="127.0.0.1", description="address of health and metrics")
    port: int = Field(default=8083, ge=0, le=65_535, description="port of health and metrics; 0 takes a free one")
    lease_s: float = Field(default=5.0, ge=0.5, le=60, description="how long a partition stays ours without a renewal")
    seen_s: float = Field(default=5.0, ge=0.5, le=60, description="how long a silent orchestrator counts as alive")
    batch: int = Field(default=500, ge=1, le=5000, description="inputs that one transaction covers at most")
    poll_s: float = Field(default=0.5, ge=0.02, le=10, description="pause between looks for commands without a nudge")
    cached_nodes: int = Field(default=200_000, ge=1000, description="nodes of idle workflows kept in memory")
    on_foreign_bus: Literal["adopt", "refuse"] = Field(default="adopt", description="when the bus has lost its log")
    bus_check_s: float = Field(default=30.0, ge=0.1, le=3600, description="how often logs are held against our offsets")
    blueprints_dir: Path | None = Field(default=None, description="a folder of further blueprints, *.yaml")
    policies_dir: Path | None = Field(default=None, description="a folder of further policies, *.yaml or *.json")
    connections: int = Field(default=5, ge=2, le=50, description="connections to PostgreSQL at most")
