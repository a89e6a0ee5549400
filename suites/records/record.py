"""The schema of a result: one file per (suite, profile, machine, commit), one record per case in it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from suites.records.quantity import has_unit

SCHEMA_VERSION: Literal[1] = 1

Status = Literal["ok", "oom", "error", "diverged", "skipped", "invalid"]


class Model(BaseModel):
    """Frozen, and strict about names: a misspelt key is an error and not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Code(Model):
    """Which code ran. A wheel outside a checkout has no commit; its sources still have a digest."""

    commit: str | None
    dirty: bool = Field(description="staged, unstaged or untracked changes, or no checkout at all")
    sha256: str = Field(description="digest of the sources of peer, baselines and suites")


class Gpu(Model):
    name: str
    uuid: str
    driver: str
    cuda: str
    memory_bytes: int
    power_limit_watts: float | None


class Environment(Model):
    """What the numbers were measured on; time and bytes compare only where `machine` is equal."""

    platform: str
    cpu: str
    cores: int
    memory_bytes: int
    gpu: Gpu | None
    python: str
    packages: dict[str, str] = Field(description="distribution → version")

    @property
    def machine(self) -> str:
        """Digest of hardware and versions."""
        return digest(self.model_dump(mode="json"))


class Record(Model):
    """One case and what came of it. Names in `metrics` and `series` carry their units."""

    case: dict[str, Any] = Field(description="the resolved case, defaults included")
    status: Status
    reason: str | None = Field(default=None, description="why, wherever status is not ok")
    metrics: Mapping[str, float | int | str | None] = {}
    series: dict[str, list[float]] = Field(default={}, description="raw samples and curves")

    @model_validator(mode="after")
    def failure_has_a_reason(self) -> "Record":
        if self.status != "ok" and not self.reason:
            raise ValueError(f"a record with status {self.status!r} needs a reason")
        return self

    @model_validator(mode="after")
    def units_are_of_numbers(self) -> "Record":
        for name, value in self.metrics.items():
            if isinstance(value, str) and has_unit(name):
                raise ValueError(f"metric {name!r} must be a number; got {value!r}")
        return self

    @property
    def case_id(self) -> str:
        return digest(self.case)


class ResultFile(Model):
    """Everything that one suite and profile gave on one machine at one commit, or in one publication."""

    schema_version: Literal[1] = SCHEMA_VERSION
    suite: str
    profile: str
    source: Literal["measured", "paper"] = "measured"
    code: Code | None
    environment: Environment | None
    records: list[Record]

    @model_validator(mode="after")
    def is_whole(self) -> "ResultFile":
        ids = [record.case_id for record in self.records]
        if len(set(ids)) < len(ids):
            raise ValueError("two records of one file describe the same case")
        if self.source == "measured" and (self.code is None or self.environment is None):
            raise ValueError("a measured result needs code and environment")
        return self


def canonical(value: Any) -> str:
    """JSON with sorted keys and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
