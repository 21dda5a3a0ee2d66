"""The only reader of environment variables: ``SMARTOPS_*``, also from ``.env``."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from smartops.durations import Duration

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def _default_home() -> Path:
    return Path.home() / ".local" / "share" / "smartops"


class Settings(BaseSettings):
    """Everything that can be configured. Each field has a default that works on one machine."""

    model_config = SettingsConfigDict(
        env_prefix="SMARTOPS_",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(
        default_factory=_default_home,
        description="The folder for all state: journal, embedded database, evidence, logs, "
        "Prefect's own state.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="SQLAlchemy URL of the audit store, such as "
        "`mysql+pymysql://user:password@host/smartops`. Default: SQLite in the home folder.",
    )
    deployments: Path = Field(
        default=PROJECT_ROOT / "deployments",
        description="The folder with `jobs/` and `tags/`.",
    )
    plugins: str = Field(
        default="",
        description="Python modules, separated by commas, that add step kinds.",
    )
    browser_executable: Path | None = Field(
        default=None,
        description="The browser to use where a profile names none. Default: Chromium or Chrome "
        "found on the machine, else the one that `playwright install chromium` made.",
    )
    lock_timeout: Duration = Field(
        default=timedelta(seconds=30),
        description="How long a step waits for the thing that it touches, such as 30s.",
    )
    recorder_interval: Duration = Field(
        gt=timedelta(),
        default=timedelta(milliseconds=250),
        description="How often the recorder looks for new journal records.",
    )
    ship_at_run_end: Duration = Field(
        default=timedelta(seconds=2),
        description="How long a run may take at its end to bring its own records to the audit "
        "store. What is not there by then, the recorder brings. 0s turns it off.",
    )

    @property
    def store_url(self) -> str:
        """The audit store's URL, with its password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home / 'audit.sqlite'}"

    @property
    def journal_dir(self) -> Path:
        """Where each writing process keeps its journal file."""
        return self.home / "journal"

    @property
    def evidence_dir(self) -> Path:
        """Where screenshots and other evidence are kept, a folder for each run."""
        return self.home / "evidence"

    @property
    def locks_dir(self) -> Path:
        """Where the lock files of physical resources are."""
        return self.home / "locks"

    @property
    def plugin_modules(self) -> tuple[str, ...]:
        """The plugin modules by name."""
        return tuple(name.strip() for name in self.plugins.split(",") if name.strip())


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings, read once; ``get_settings.cache_clear()`` reads them again."""
    return Settings()
