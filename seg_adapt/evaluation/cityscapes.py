"""Predictions as label-id PNGs, and cityscapesScripts' own pixel-level evaluation of them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from seg_adapt.evaluation.confusion import mean, none_if_nan
from shared.cityscapes_scripts import load_script, running_script
from shared.data.images import image_size, read_labels, write_png
from shared.data.label_maps import CITYSCAPES_19, IGNORE, LabelSpace, to_label_ids
from shared.errors import MissingFileError, UserError

_RESULT = "resultPixelLevelSemanticLabeling.json"


def write_prediction(
    path: str | Path, train_ids: np.ndarray | torch.Tensor, space: LabelSpace
) -> None:
    """Write what the official script reads: evaluated label ids, and 0 where nothing is predicted.

    Args:
        train_ids: (H, W), at the full size of the frame; 255 becomes 0.
    """
    ids = np.asarray(train_ids)
    stray = ids[((ids < 0) | (ids >= space.num_classes)) & (ids != IGNORE)]
    if stray.size:
        raise UserError(
            f"cannot write {path}: prediction holds {stray[0]}, expected train ids 0 to "
            f"{space.num_classes - 1} or {IGNORE}"
        )
    write_png(path, to_label_ids(space)[ids])


def _frames(dataset_root: Path) -> Iterator[tuple[str, Path]]:
    """`<city>_<sequence>_<frame>` and ground-truth file of every frame the script will read."""
    ending = "_gtFine_labelIds.png"
    truths = sorted(dataset_root.glob(f"gtFine/val/*/*{ending}"))
    if not truths:
        raise MissingFileError(
            f"no ground truth {dataset_root}/gtFine/val/<city>/*{ending}; expected the folder that "
            "holds Cityscapes' gtFine"
        )
    for truth in truths:
        yield truth.name.removesuffix(ending), truth


def check_predictions(
    folder: str | Path, dataset_root: str | Path, space: LabelSpace
) -> list[tuple[Path, Path]]:
    """Refuse what the official script would score wrongly without a word, or stop at half-way.

    Every frame of `gtFine/val` needs exactly one `<city>_<sequence>_<frame>*.png` anywhere below
    `folder`: one channel of 8 bits, the size of the ground truth, and in it the label ids of
    `space` and 0 only.

    Train ids written by mistake are mostly seen: 1 to 6, 9, 10, 14 to 16, 18 and 255 are no
    evaluated label ids. 0, 7, 8, 11, 12, 13 and 17 are valid in both; a folder that holds 0 and
    otherwise only these is refused as well (as train ids it has found road; as label ids it has
    left pixels void, which no model here does). What passes unseen is a folder of train ids without
    road that holds nothing but traffic sign, vegetation, person, rider, car and motorcycle.

    Returns:
        Prediction and ground truth of every frame.
    """
    folder, dataset_root = Path(folder), Path(dataset_root)
    allowed = np.zeros(256, bool)
    allowed[to_label_ids(space)] = True
    if not folder.is_dir():
        raise MissingFileError(f"no folder of predictions {folder}")
    # As the script searches: without following links to folders.
    files = [Path(at, n) for at, _, names in os.walk(folder) for n in names if n.endswith(".png")]
    found, pairs = np.zeros(256, bool), []
    for frame, truth in _frames(dataset_root):
        matches = [p for p in files if p.name.startswith(frame)]
        if not matches:
            raise UserError(f"no prediction {frame}*.png below {folder}; predict every val frame")
        if len(matches) > 1:
            raise UserError(
                f"several predictions for {frame}: {matches[0]} and {matches[1]}; keep one, and "
                "color pictures in another folder"
            )
        values = _values(matches[0], truth)
        stray = np.flatnonzero(values & ~allowed)
        if stray.size:
            raise UserError(
                f"prediction {matches[0]} holds {stray[0]}, which is neither 0 nor a label id of "
                f"'{space.name}'; write label ids, not train ids (write_prediction)"
            )
        found |= values
        pairs.append((matches[0], truth))
    in_both = [i for i in space.label_ids if i < space.num_classes]
    if found[0] and not np.delete(found, [0, *in_both]).any():
        held = ", ".join(str(i) for i in np.flatnonzero(found))
        raise UserError(
            f"predictions in {folder} hold only {held}, as train ids would; write label ids "
            "(write_prediction)"
        )
    return pairs


def _values(prediction: Path, truth: Path) -> np.ndarray:
    """(256,) bool: which values a prediction of the right form holds."""
    labels = read_labels(prediction, "index")
    size = image_size(truth)
    if tuple(labels.shape) != size:
        raise UserError(
            f"prediction {prediction} is {labels.shape[1]}×{labels.shape[0]}, its ground truth "
            f"{size[1]}×{size[0]}; write predictions at full size"
        )
    return np.bincount(labels.numpy().ravel(), minlength=256) > 0


def run_official(
    dataset_root: str | Path, predictions: str | Path, export_dir: str | Path, space: LabelSpace
) -> dict:
    """Check the predictions, then score them with cityscapesScripts.

    The script's full result stays in `export_dir`; nothing is written into the data set.

    Returns:
        Ready for JSON (None stands for NaN): `iou` and `niou` by class name, `category_iou` and
        `category_niou` by category, their means `miou`, `mean_niou`, `mean_category_iou` and
        `mean_category_niou`, and `protocols`, the mean IoU over each class list of `space`. `miou`
        is over all 19 classes whatever the space: with 16 outputs it is the mean that counts the
        unpredicted classes as 0 (FCN-wild's SYNTHIA row), provided that they occur.
    """
    to_label_ids(space)
    export_dir = Path(export_dir).resolve()
    if export_dir.is_relative_to(Path(dataset_root).resolve()):
        raise UserError(f"export folder {export_dir} is inside the data set; choose one outside")
    pairs = check_predictions(predictions, dataset_root, space)
    export_dir.mkdir(parents=True, exist_ok=True)
    result = export_dir / _RESULT
    result.unlink(missing_ok=True)
    script = load_script("evalPixelLevelSemanticLabeling")
    script.args.exportFile = str(result)
    with running_script(predictions):
        script.evaluateImgLists([str(p) for p, _ in pairs], [str(t) for _, t in pairs], script.args)
    return _summary(json.loads(result.read_text()), space)


def _summary(result: dict, space: LabelSpace) -> dict:
    def numbers(scores: dict) -> dict:
        return {name: none_if_nan(value) for name, value in scores.items()}

    iou, niou = result["classScores"], result["classInstScores"]
    return {
        "iou": numbers({c: iou[c] for c in CITYSCAPES_19}),
        "niou": numbers({c: niou[c] for c in CITYSCAPES_19}),
        "category_iou": numbers(result["categoryScores"]),
        "category_niou": numbers(result["categoryInstScores"]),
        "miou": none_if_nan(result["averageScoreClasses"]),
        "mean_niou": none_if_nan(result["averageScoreInstClasses"]),
        "mean_category_iou": none_if_nan(result["averageScoreCategories"]),
        "mean_category_niou": none_if_nan(result["averageScoreInstCategories"]),
        "protocols": {
            name: none_if_nan(mean(iou[c] for c in classes))
            for name, classes in space.protocols.items()
        },
    }
