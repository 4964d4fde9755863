"""Settings: environment variables `HEADRACE_*`, then the addresses of the local stack, then defaults.

`headrace up` writes the addresses and passwords of the services it started to `<home>/endpoints.json` (mode 0600).
Every one can be replaced by an existing service through the environment; TLS and SASL options of librdkafka and of the
registry client are passed through as JSON objects.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from headrace.errors import SettingsError

ROOT = Path(__file__).resolve().parent.parent


def home_dir() -> Path:
    """Folder of everything that running services keep: `HEADRACE_HOME`, by default `.headrace` in the checkout."""
    return Path(os.environ.get("HEADRACE_HOME") or ROOT / ".headrace").resolve()


def endpoints_file() -> Path:
    """Where `headrace up` writes the addresses of the services it started."""
    return home_dir() / "endpoints.json"


def _lake() -> str:
    return (home_dir() / "lake").as_uri()


class _LocalStack(PydanticBaseSettingsSource):
    """Addresses of the local stack, below the environment in precedence."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """One field, its name, and that it needs no JSON parsing."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        file = endpoints_file()
        try:
            found = json.loads(file.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise SettingsError(f"{file} cannot be read ({error}); run `headrace up` to write it anew") from error
        return found if isinstance(found, dict) else {}


class Settings(BaseSettings):
    """All settings of a process; the name of each in the environment is `HEADRACE_` + its upper-case name."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", extra="ignore", frozen=True)

    kafka_bootstrap: str | None = Field(default=None, description="Kafka bootstrap servers, host:port[,host:port]")
    kafka_config: dict[str, Any] = Field(
        default_factory=dict, description="librdkafka options for every client (TLS, SASL), a JSON object"
    )
    registry_url: str | None = Field(default=None, description="Confluent-compatible schema registry URL")
    registry_config: dict[str, Any] = Field(
        default_factory=dict, description="options of the Confluent registry client (basic auth, TLS), a JSON object"
    )
    postgres_url: SecretStr | None = Field(
        default=None, description="Postgres of tables and ledger, postgresql://user:pw@host:port/db"
    )
    dagster_postgres_url: SecretStr | None = Field(
        default=None, description="Postgres of Dagster's own storage, its own database"
    )
    dagster_url: str | None = Field(default=None, description="address of the Dagster webserver")
    catalog: str = Field(default="assets", description="Python package with the declarations")
    landing: Path = Field(default=ROOT / "data" / "landing", description="folder where landing files arrive")
    workers: int = Field(default=1, ge=1, le=64, description="worker processes per pipeline")
    batch_records: int = Field(
        default=100_000, ge=1, le=1_000_000, description="most records of one shard in one commit"
    )
    poll_seconds: float = Field(default=0.1, gt=0, le=10, description="longest wait for records of one shard")
    lease_seconds: float = Field(default=4.0, ge=0.5, le=300, description="a shard or process lease expires after this")
    check_seconds: float = Field(
        default=3.0, gt=0, le=30, description="between two looks at topic identity, retention and ends"
    )
    transaction_records: int = Field(
        default=50_000, ge=1, le=1_000_000, description="most records in one ingest transaction"
    )
    recount_records: int = Field(
        default=20_000_000,
        ge=1,
        description="most records that one recount of a topic reads; beyond, it reads the tail",
    )
    event_log_days: int = Field(default=14, ge=1, description="days that Dagster keeps events of no run")
    run_days: int = Field(default=30, ge=1, description="days that Dagster keeps finished runs")
    lake: str = Field(
        default_factory=_lake,
        description="where archives without an address lie, each in a folder of its name: file:///folder or s3://bucket",
    )
    s3_endpoint: str | None = Field(
        default=None, description="address of an S3-compatible store, https://host:port; default: AWS"
    )
    s3_region: str | None = Field(default=None, description="its region")
    s3_access_key: str | None = Field(
        default=None, description="its access key; default: where AWS's own tools look for keys"
    )
    s3_secret_key: SecretStr | None = Field(default=None, description="the secret of the access key")
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR")
    failpoints: str = Field(default="", description="test switch: name:action[:nth],...; empty in production")

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("use DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from, first one wins."""
        return init_settings, env_settings, _LocalStack(settings_cls)

    def need_kafka(self) -> str:
        """The bootstrap servers, or an error that says how to get some."""
        return _needed(self.kafka_bootstrap, "Kafka", "HEADRACE_KAFKA_BOOTSTRAP")

    def need_registry(self) -> str:
        """The registry's URL, or an error that says how to get one."""
        return _needed(self.registry_url, "schema registry", "HEADRACE_REGISTRY_URL")

    def need_postgres(self) -> str:
        """The Postgres URL (postgresql://...), or an error that says how to get one."""
        url = self.postgres_url.get_secret_value() if self.postgres_url else None
        return _needed(url, "Postgres", "HEADRACE_POSTGRES_URL")

    def kafka(self, **options: Any) -> dict[str, Any]:
        """Configuration of a librdkafka client: the address, the passed-through options, then `options`."""
        given = {key.replace("_", "."): value for key, value in options.items()}
        return {"bootstrap.servers": self.need_kafka(), **self.kafka_config, **given}


def _needed(value: str | None, what: str, variable: str) -> str:
    if not value:
        raise SettingsError(f"no {what} address: run `headrace up` for local services or set {variable}")
    return value


def load() -> Settings:
    """Settings as they are now; a wrong value is one `SettingsError` line naming the variable."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "HEADRACE_" + "_".join(str(part) for part in first["loc"][:1]).upper()
        raise SettingsError(f"{name}: {first['msg']} (see docs/reference/settings.md)") from error
    except SettingsError:
        raise
    except SourceError as error:  # a value that has to be a JSON object and is none
        field = re.search(r'field "(\w+)"', str(error))
        variable = f"HEADRACE_{field[1].upper()}" if field else "a variable"
        raise SettingsError(f"{variable} is not a JSON object; see docs/reference/settings.md") from error


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return load()
