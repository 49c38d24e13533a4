"""Looks through data sets on disk and says what is wrong with them; writes nothing."""

from shared.dataset_check.check import Options, Report, check, present_names, require_known
from shared.dataset_check.findings import Finding, Severity
from shared.dataset_check.sheet import contact_sheet

__all__ = [
    "Finding",
    "Options",
    "Report",
    "Severity",
    "check",
    "contact_sheet",
    "present_names",
    "require_known",
]
