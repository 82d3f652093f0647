"""What an agents process reads from the environment, besides what all services share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from handrail_runtime.settings import Settings, service_config


class AgentsSettings(Settings):
    """`HANDRAIL_AGENTS__<FIELD>`. Seconds throughout, unless the name says otherwise."""

    model_config = service_config("agents")

    host: str = Field(default="127.0.0.1", description="address of health and metrics")
    port: int = Field(default=8084, ge=0, le=65_535, description="port of health and metrics; 0 takes a free one")
    slots: int = Field(default=200, ge=1, le=10_000, description="attempts that run at once in this process")
    driver: Literal["auto", "faust", "bus"] = Field(
        default="bus",
        description="what reads the tasks: a plain member of the group, or Faust; auto: faust on Kafka where it is installed",
    )
    group: str = Field(default="handrail-agents", min_length=1, description="consumer group that shares the tasks")
    short_ms: int = Field(default=50, ge=0, le=5_000, description="attempts longer than this say that they started")
    drain_s: float = Field(default=10.0, ge=0, le=600, description="what running attempts get to finish at a stop")
    demo_delay_ms: int = Field(default=0, ge=0, le=60_000, description="what each task of the catalog takes at least")
    load: str = Field(default="", description="agents of your own: module, or module:name, separated by commas")
    catalog: bool = Field(default=True, description="whether the agents that ship with Handrail run here too")
    connections: int = Field(default=5, ge=2, le=50, description="connections to PostgreSQL at most")
