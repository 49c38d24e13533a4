"""A published checkpoint into a file of ours: `python seg_adapt/convert_weights.py IN OUT`."""

from collections.abc import Sequence
from pathlib import Path

try:
    from shared.cli import Parser, run
except ImportError as error:
    raise SystemExit(f"{error}: run `pip install -e .`, or another 'shared' hides ours") from None

from seg_adapt.models.build import build_segmentor
from seg_adapt.models.layouts import Published
from seg_adapt.models.preprocessing import CUSTOM
from seg_adapt.models.weights import conventions, fill_segmentor, read_published
from seg_adapt.options import AsppOptions, ModelOptions
from shared import checkpoint, extensions


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("input", type=Path, metavar="IN", help="a file in a published layout")
    parser.add_argument("output", type=Path, metavar="OUT", help="where ours is written")
    parser.add_argument("--architecture", metavar="NAME", default="resnet101")
    parser.add_argument("--num-classes", type=int, default=19)
    parser.add_argument(
        "--rates",
        type=int,
        nargs="+",
        default=[6, 12, 18, 24],
        help="dilation of each ASPP branch; 6 12 for AdaptSegNet's and DAST's own checkpoints",
    )
    parser.add_argument("--preprocessing", choices=["caffe", "torchvision"], help="of the weights")
    parser.add_argument(
        "--layout", choices=["caffe", "torchvision"], help="where a bottleneck's stride sits"
    )
    extensions.add_import_option(parser, "none")
    args = parser.parse(argv)
    extensions.import_extensions(args.imports)

    published = read_published(args.input)
    made_for = {"preprocessing": "torchvision", "layout": "torchvision"} | published.made_for
    if made_for["preprocessing"] == CUSTOM:  # the architecture brings it
        made_for["preprocessing"] = "torchvision"
    bias = _has(published, "head.branches.0.bias")
    bias = bias or not _has(published, "head.branches.0.weight")
    options = ModelOptions(
        architecture=args.architecture,
        aspp=AsppOptions(tuple(args.rates), bias),
        preprocessing=args.preprocessing or made_for["preprocessing"],
        layout=args.layout or made_for["layout"],
        last_shortcut=_has(published, "layer4.2.downsample.0.weight"),
    )
    segmentor = build_segmentor(options, args.num_classes)
    report = fill_segmentor(segmentor, published, str(args.input))
    stored = {"segmentor": segmentor.state_dict(), "made_for": conventions(segmentor)}
    checkpoint.save(stored, args.output)
    print(f"{args.output}: {report}")
    return 0


def _has(published: Published, name: str) -> bool:
    return f"stages.{name}" in published.tensors


if __name__ == "__main__":
    run(main)
