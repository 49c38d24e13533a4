"""What the files of a detection data set, taken together, show to be wrong."""

from collections import Counter
from collections.abc import Iterator, Sequence

from shared.catalog import DetectionDataset
from shared.dataset_check.boxes import BoxReport
from shared.dataset_check.findings import Finding, Severity
from shared.dataset_check.published import DETECTION_FRAMES


def check_files(name: str, dataset: DetectionDataset) -> Iterator[Finding]:
    """Counts. Opens no file."""
    expected = DETECTION_FRAMES.get(name.removeprefix("toy_"))
    if expected is not None and len(dataset.records) != expected:
        message = f"{len(dataset.records)} frames, {expected} were published"
        yield Finding(Severity.WARNING, name, message)
    if dataset.records and all(record.annotations is None for record in dataset.records):
        yield Finding(Severity.INFO, name, "no annotations: good as a target only")
        return
    seen = {a.category for record in dataset.records for a in record.annotations or ()}
    absent = [label for label in dataset.classes if label not in seen]
    if absent:
        yield Finding(Severity.INFO, name, f"classes that never occur: {', '.join(absent)}")


def check_names(name: str, reports: Sequence[BoxReport], known: Sequence[str]) -> Iterator[Finding]:
    """Class names over all annotations that were read.

    Args:
        known: all that the data set should hold, those included that the loader leaves out.
    """
    names = sum((report.names for report in reports), Counter())
    if names:
        listed = ", ".join(f"{label} {count}" for label, count in sorted(names.items()))
        yield Finding(Severity.INFO, name, f"boxes: {listed}")
    for label in sorted(names.keys() - set(known)):
        files = [report.source for report in reports if label in report.names]
        message = (
            f"holds unknown class '{label}', whose boxes are left out; {len(files)} files do; "
            f"known: {', '.join(known)}"
        )
        yield Finding(Severity.WARNING, name, message, files[0])
