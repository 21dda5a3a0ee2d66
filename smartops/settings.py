"""The only reader of environment variables: ``SMARTOPS_*``, also from ``.env``."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import ByteSize, Field, SecretStr
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
        description="The folder with `jobs/`, `tags/`, `reports/`, `slo/` and `quality/`.",
    )
    bridge: Path | None = Field(
        default=None,
        description="A file with event sources: `smartops up` starts a device bridge that listens "
        "to them.",
    )
    alerts: Path | None = Field(
        default=None,
        description="A file or a folder with the rules of alerts: `smartops up` starts an alerter "
        "that judges by them and sends.",
    )
    alert_interval: Duration = Field(
        gt=timedelta(),
        default=timedelta(seconds=1),
        description="How often the alerter looks for new facts and for what is due.",
    )
    plugins: str = Field(
        default="",
        description="Python modules, separated by commas, that add step kinds.",
    )
    preload: str = Field(
        default="",
        description="Python modules, separated by commas, that a worker imports once for all runs, "
        "such as those of your own flows: their runs start sooner then.",
    )
    environment: str = Field(
        default="default",
        pattern=r"^[a-z0-9][a-z0-9_-]*$",
        description="Which environment this is, such as `plant-a`: it chooses the values of jobs' "
        "variables.",
    )
    python_packages: str = Field(
        default="",
        description="Python packages, separated by commas, whose functions `python.call` steps may "
        "call.",
    )
    keep_progress: Duration = Field(
        default=timedelta(days=30),
        description="How long what a failed run achieved is kept on its machine, so that it can be "
        "taken up again by `smartops run resume`.",
    )
    browser_executable: Path | None = Field(
        default=None,
        description="The browser to use where a profile names none. Default: Chromium or Chrome "
        "found on the machine, else the one that `playwright install chromium` made.",
    )
    selenium_scripts: Path | None = Field(
        default=None,
        description="The folder with the scripts of `browser.selenium` steps. Default: `selenium` "
        "in the home folder.",
    )
    selenium_python: Path | None = Field(
        default=None,
        description="The Python that runs them, such as that of a virtual environment of their "
        "own. Default: SmartOps' own.",
    )
    browser_memory: ByteSize = Field(
        default=ByteSize(2_000_000_000),
        gt=0,
        description="How much memory a run's browser may take for itself, such as 2GB. One that "
        "takes more is ended.",
    )
    browser_key: SecretStr | None = Field(
        default=None,
        description="The key of kept browser sessions: 32 random bytes in URL-safe base64. "
        "Default: the file `browser.key` in the home folder, made when it is first needed.",
    )
    uploads: str = Field(
        default="",
        description="Folders, separated by commas, from which browser and REST steps may upload "
        "files. Default: `files` in the home folder. Evidence may be uploaded as well, by browser "
        "steps a run's own.",
    )
    evidence_store: str = Field(
        default="",
        description="Where evidence is kept, as an address that fsspec knows, such as "
        "`s3://bucket/evidence`. Default: `evidence` in the home folder.",
    )
    evidence_options: SecretStr | None = Field(
        default=None,
        description="Options of that file system as a JSON object, such as "
        '`{"endpoint_url": "https://s3.example.com"}`.',
    )
    evidence_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="How many days evidence is kept by the flow `retention`, but that of runs "
        "under hold. Default: as long as the record.",
    )
    lock_timeout: Duration = Field(
        default=timedelta(seconds=30),
        description="How long a step waits for the thing that it touches, such as 30s.",
    )
    locks: Literal["machine", "database"] = Field(
        default="machine",
        description="Among whom a step has what it touches alone: the processes of this `machine`, "
        "or those of all machines with the same `database`, which is MySQL or MariaDB then.",
    )
    recorder_interval: Duration = Field(
        gt=timedelta(),
        default=timedelta(milliseconds=250),
        description="How often the recorder looks for new journal records.",
    )
    drain_limit: Duration = Field(
        default=timedelta(seconds=60),
        description="How long the runs of a worker that is told to end (SIGTERM) may go on. Those "
        "that are left then are cancelled; a second SIGTERM cancels them at once.",
    )
    ship_at_run_end: Duration = Field(
        default=timedelta(seconds=2),
        description="How long a run may take at its end to bring its own records to the audit "
        "store. What is not there by then, the recorder brings. 0s turns it off.",
    )

    database_ca: Path | None = Field(
        default=None,
        description="File with the certificate of the authority that signed the database server's. "
        "With it, the connection is encrypted and the server's name is checked.",
    )
    journal_limit: ByteSize = Field(
        default=ByteSize(1_000_000_000),
        gt=0,
        description="How much disk the journals of this machine may take together, such as 1GB. "
        "Beyond it no step with an effect starts.",
    )
    journal_reserve: ByteSize = Field(
        default=ByteSize(50_000_000),
        description="How much disk is kept free for the outcomes of what has begun, such as 50MB. "
        "With less, no step with an effect starts.",
    )
    seal_interval: Duration = Field(
        gt=timedelta(),
        default=timedelta(seconds=5),
        description="How often the recorder seals what is new on record.",
    )
    seal_anchors: str = Field(
        default="",
        description="Where seals are published outside of the database, separated by commas: "
        "`file:/path`, `git:/path/to/clone`, `s3:bucket/prefix`, `mail:auditor@example.com`. "
        "Default: a file in the home folder.",
    )
    seal_keys: Path | None = Field(
        default=None,
        description="Folder with the key that signs seals, and the public keys (`*.pub`) that "
        "`audit verify` trusts. Default: `keys` in the home folder.",
    )
    mail_server: str = Field(
        default="localhost:25",
        description="SMTP server for `mail:` anchors, as host:port; without TLS and login, so best "
        "one of this machine. Alerts and reports go by saved connections instead.",
    )
    mail_from: str = Field(
        default="smartops@localhost", description="The sender of the mails of `mail:` anchors."
    )
    retention_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="How many days the record is kept by `audit prune`. Default: for ever.",
    )
    reconcile_interval: Duration = Field(
        gt=timedelta(),
        default=timedelta(seconds=3),
        description="How often Prefect and the record are compared.",
    )

    report_timezone: str = Field(
        default="UTC",
        description="The zone whose days, weeks and months reports go by, such as `Europe/Berlin`.",
    )
    report_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="The address at which people's browsers find the folder `reports` of the home "
        "folder, such as `https://plant.example.com/reports`: runs of the flow `report` link to "
        "their pages there. Default: they say by which command to get the report.",
    )

    @property
    def keys_dir(self) -> Path:
        """Where the keys of seals are."""
        return self.seal_keys or self.home / "keys"

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
    def reports_dir(self) -> Path:
        """Where the pages of scheduled reports are, a folder for each report."""
        return self.home / "reports"

    @property
    def downloads_dir(self) -> Path:
        """Where files are kept that have not come as a whole yet."""
        return self.home / "downloads"

    @property
    def progress_dir(self) -> Path:
        """Where what runs have achieved so far is kept, a file for each."""
        return self.home / "progress"

    @property
    def locks_dir(self) -> Path:
        """Where the lock files of physical resources are."""
        return self.home / "locks"

    @property
    def selenium_folder(self) -> Path:
        """Where the scripts of ``browser.selenium`` steps are."""
        return self.selenium_scripts or self.home / "selenium"

    @property
    def upload_folders(self) -> tuple[Path, ...]:
        """The folders from which steps may upload files."""
        return tuple(map(Path, _names(self.uploads))) or (self.home / "files",)

    @property
    def allowed_packages(self) -> tuple[str, ...]:
        """The packages whose functions ``python.call`` steps may call."""
        return _names(self.python_packages)

    @property
    def plugin_modules(self) -> tuple[str, ...]:
        """The plugin modules by name."""
        return _names(self.plugins)

    @property
    def preload_modules(self) -> tuple[str, ...]:
        """The modules that a worker imports once for all runs."""
        return _names(self.preload)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings, read once; ``get_settings.cache_clear()`` reads them again."""
    return Settings()
