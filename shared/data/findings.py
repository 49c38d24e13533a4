"""What a check found: one line each."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Severity(StrEnum):
    """ERROR: training on it would fail or go wrong. WARNING: look at it. INFO: for the record."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """`file` is None where a finding is about the data set as a whole."""

    severity: Severity
    dataset: str
    message: str
    file: Path | None = None

    def __str__(self) -> str:
        place = f" {self.file}" if self.file is not None else ""
        return " ".join(f"{self.severity}: {self.dataset}:{place} {self.message}".split())
