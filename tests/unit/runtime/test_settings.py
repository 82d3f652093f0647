"""Settings: what the environment says, what is wrong with it, and that secrets stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from handrail_runtime.errors import EXIT_MISCONFIGURED
from handrail_runtime.settings import EngineSettings, Settings, load, load_all, masked, service_config


class PartSettings(Settings):
    model_config = service_config("part")
    host: str = "127.0.0.1"
    port: int = Field(default=8085, ge=1, le=65_535)
    key: SecretStr = SecretStr("")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("HANDRAIL_"):
            monkeypatch.delenv(name)


def test_without_an_environment_everything_points_at_this_machine() -> None:
    settings = load(EngineSettings)
    assert settings.kafka == "127.0.0.1:9092"
    assert "127.0.0.1" in settings.postgres_dsn.get_secret_value()
    assert "127.0.0.1" in settings.redis_url.get_secret_value()
    assert (settings.partitions, settings.tenant, settings.dev, settings.log_level) == (24, "default", False, "info")


def test_the_environment_wins_and_is_read_by_its_documented_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDRAIL_POSTGRES_DSN", "postgresql://u:hunter2@db:5432/x")
    monkeypatch.setenv("HANDRAIL_KAFKA", "a:1, b:2")
    monkeypatch.setenv("HANDRAIL_PARTITIONS", "4")
    monkeypatch.setenv("HANDRAIL_DEV", "1")
    monkeypatch.setenv("HANDRAIL_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("HANDRAIL_PART__PORT", "9999")
    engine, part = load_all(EngineSettings, PartSettings)
    assert isinstance(engine, EngineSettings)
    assert isinstance(part, PartSettings)
    assert engine.postgres_dsn.get_secret_value() == "postgresql://u:hunter2@db:5432/x"
    assert (engine.kafka, engine.partitions, engine.dev, engine.log_level) == ("a:1,b:2", 4, True, "debug")
    assert part.port == 9999


def test_a_secret_may_come_from_a_file_and_the_variable_itself_wins_over_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("postgresql://from-a-file@db/x\n")
    monkeypatch.setenv("HANDRAIL_POSTGRES_DSN_FILE", str(secret))
    assert load(EngineSettings).postgres_dsn.get_secret_value() == "postgresql://from-a-file@db/x"
    monkeypatch.setenv("HANDRAIL_POSTGRES_DSN", "postgresql://direct@db/x")
    assert load(EngineSettings).postgres_dsn.get_secret_value() == "postgresql://direct@db/x"


def test_all_faults_of_all_classes_are_told_at_once_and_no_secret_is_in_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HANDRAIL_POSTGRES_DSN", "mysql://u:hunter2@db/x")
    monkeypatch.setenv("HANDRAIL_KAFKA", "nowhere")
    monkeypatch.setenv("HANDRAIL_PARTITIONS", "0")
    monkeypatch.setenv("HANDRAIL_TENANT", "Not A Tenant")
    monkeypatch.setenv("HANDRAIL_PART__PORT", "many")
    monkeypatch.setenv("HANDRAIL_PART__KEY_FILE", "/nonexistent/key")
    with pytest.raises(SystemExit) as caught:
        load_all(EngineSettings, PartSettings)
    assert caught.value.code == EXIT_MISCONFIGURED == 78
    told = capsys.readouterr().err
    for name in ("POSTGRES_DSN", "KAFKA", "PARTITIONS", "TENANT", "PART__KEY_FILE"):
        assert f"HANDRAIL_{name}: " in told
    assert "5 settings are wrong" in told
    assert "hunter2" not in told
    monkeypatch.delenv("HANDRAIL_PART__KEY_FILE")
    with pytest.raises(SystemExit):
        load(PartSettings)
    assert "HANDRAIL_PART__PORT: " in capsys.readouterr().err


def test_secrets_are_masked_where_settings_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDRAIL_POSTGRES_DSN", "postgresql://u:hunter2@db/x")
    settings = load(EngineSettings)
    shown = masked(settings)
    assert shown["HANDRAIL_PARTITIONS"] == 24
    assert shown["HANDRAIL_POSTGRES_DSN"] == "**********"
    assert "hunter2" not in repr(settings)


def test_settings_do_not_change_once_loaded() -> None:
    settings = load(EngineSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.partitions = 5  # type: ignore[misc]
