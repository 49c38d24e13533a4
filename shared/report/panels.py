"""The run's pictures, embedded in the page."""

import base64
from html import escape
from pathlib import Path

import cv2
import numpy as np

from shared.report.records import Run

MOST_PANELS = 12
LARGEST_BYTES = 300_000
FIRST_WIDTH = 1600


def panels(run: Run) -> str:
    """The last MOST_PANELS pictures by name; one that cannot be read is left out with a warning."""
    shown = run.panels[-MOST_PANELS:]
    figures = []
    for path in shown:
        uri = _data_uri(path)
        if uri is None:
            run.warnings.append(f"panels/{path.name} is not a readable picture and is left out")
            continue
        name = escape(path.stem)
        figures.append(
            f'<figure class="card"><img src="{uri}" alt="{name}">'
            f"<figcaption>{name}</figcaption></figure>"
        )
    if not figures:
        return ""
    left_out = len(run.panels) - len(shown)
    note = f'<p class="muted">The last {len(shown)} of {len(run.panels)}.</p>' if left_out else ""
    return f'<section><h2>Pictures</h2>{note}<div class="panels">{"".join(figures)}</div></section>'


def _data_uri(path: Path) -> str | None:
    content = path.read_bytes()
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        return None
    kind = "png"
    if len(content) > LARGEST_BYTES:
        content, kind = _shrink(image), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _shrink(image: np.ndarray) -> bytes:
    """A JPEG of at most LARGEST_BYTES, narrower step by step until it fits."""
    width = min(FIRST_WIDTH, image.shape[1])
    while True:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
        if len(encoded) <= LARGEST_BYTES or width <= 64:
            return encoded
        width = int(width * 0.8)
