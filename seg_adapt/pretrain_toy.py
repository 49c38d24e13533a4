"""Pre-trains the toys' backbone on rendered object crops; see `seg_adapt/engine/pretrain.py`."""

from collections.abc import Sequence
from pathlib import Path

try:
    from shared.cli import Parser, run
except ImportError as error:
    raise SystemExit(f"{error}: run `pip install -e .`, or another 'shared' hides ours") from None

from seg_adapt.engine.pretrain import STEPS, pretrain, weights_path
from shared.data.folders import data_root


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--width", type=float, default=0.25, help="channel multiplier")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="default: <data root>/toy/weights/…")
    args = parser.parse(argv)
    path = args.output or weights_path(data_root(), args.architecture, args.width)
    accuracy = pretrain(
        path, architecture=args.architecture, width=args.width, steps=args.steps, seed=args.seed
    )
    print(f"{path}: {100 * accuracy:.1f} % of unseen crops right")
    return 0


if __name__ == "__main__":
    run(main)
