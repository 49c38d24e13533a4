"""Every key of a segmentation experiment with its default. Sizes are [width, height].

The keys of one method are declared in its file, by `add_keys`.
"""

from fvcore.common.config import CfgNode as Node

from seg_adapt.methods import METHODS
from shared.config import flatten
from shared.errors import UserError

_AT_LEAST = {
    "SEED": 0,
    "DATALOADER.NUM_WORKERS": 0,
    "DATASETS.TOY_COUNT": 1,
    "DATASETS.TOY_VAL_COUNT": 1,
    "SOLVER.MAX_ITER": 1,
    "SOLVER.HORIZON": 0,
    "SOLVER.WARMUP": 0,
    "SOLVER.MODEL.LR": 0,
    "SOLVER.MODEL.WEIGHT_DECAY": 0,
    "SOLVER.DISCRIMINATOR.LR": 0,
    "SOLVER.DISCRIMINATOR.WEIGHT_DECAY": 0,
    "SOURCE_STAGE.ITERATIONS": 0,
    **{
        f"{node}.{key}": 0
        for node in ("SOURCE_STAGE", "SELF_TRAINING")
        for key in ("LR", "HORIZON", "WARMUP", "BACKBONE_LR_MULT", "HEAD_LR_MULT")
    },
    "SOLVER.BACKBONE_LR_MULT": 0,
    "SOLVER.HEAD_LR_MULT": 0,
    "SOLVER.BIAS_LR_MULT": 0,
    "SELF_TRAINING.ROUNDS": 0,
    "SELF_TRAINING.ITERATIONS": 1,
    "SELF_TRAINING.WEIGHT": 0,
    "SELECTION.INTERVAL": 1,
    "LOSS.LOVASZ_WEIGHT": 0,
    "TEST.EVAL_PERIOD": 0,
    "TEST.PICTURES": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
}
_SCHEDULES = ("poly", "multi_step", "constant")
_CHOICES = {
    "INPUT.INTERPOLATION": ("bicubic", "bilinear"),
    "SOLVER.SCHEDULE": _SCHEDULES,
    "SOURCE_STAGE.TYPE": ("", "sgd", "adam"),
    "SOURCE_STAGE.SCHEDULE": ("", *_SCHEDULES),
    "SELF_TRAINING.TYPE": ("", "sgd", "adam"),
    "SELF_TRAINING.SCHEDULE": ("", *_SCHEDULES),
    "SELF_TRAINING.BN": ("", "train", "frozen"),
    "SELECTION.METHOD": ("none", "fda"),
}
_WHOLE_NUMBERS = (
    "INPUT.CROP",
    "INPUT.SOURCE.RESIZE",
    "INPUT.TARGET.RESIZE",
    "INPUT.TEST.RESIZE",
    "TEST.WINDOW",
    "MODEL.ASPP.RATES",
    "SOLVER.STEPS",
    "SOURCE_STAGE.STEPS",
    "SELF_TRAINING.STEPS",
)
_PAIRS = (
    "INPUT.SOURCE.SCALES",
    "INPUT.TARGET.SCALES",
    "SOLVER.MODEL.BETAS",
    "SOLVER.DISCRIMINATOR.BETAS",
)


def defaults() -> Node:
    """A fresh tree of defaults; `shared.config.load_config` lays a YAML and overrides over it."""
    cfg = Node()
    cfg.METHOD = "source_only"  # a name of `train.py --help`
    cfg.OUTPUT_DIR = ""  # the run's folder; empty: runs/<config name>/<method>
    cfg.SEED = 0  # source and target draw from separate streams of it

    cfg.DATASETS = Node()
    cfg.DATASETS.ROOT = ""  # empty: $DETECTRON2_DATASETS, or datasets/
    cfg.DATASETS.TRAIN = ""  # labelled; a name of the catalog, or a description (docs/own_data.md)
    cfg.DATASETS.TARGET = ""  # a name, a folder or a description; its labels are never read
    cfg.DATASETS.TEST = ""  # what is scored; empty: nothing. Never used to choose anything
    cfg.DATASETS.LABEL_SPACE = "cityscapes19"  # or cityscapes16, synthia_seqs13, a description
    cfg.DATASETS.CACHE = ""  # folder for copies resized once; empty: resize every time
    cfg.DATASETS.TOY_COUNT = 400  # training images of a toy dataset that has to be made
    cfg.DATASETS.TOY_VAL_COUNT = 60  # its test images
    cfg.DATALOADER = Node()
    cfg.DATALOADER.NUM_WORKERS = 2  # loader processes per domain

    cfg.INPUT = Node()
    cfg.INPUT.CROP = []  # [width, height] of the random crop; []: the whole image
    cfg.INPUT.FLIP = 0.0  # probability of a horizontal flip
    cfg.INPUT.INTERPOLATION = "bicubic"  # of images: bicubic | bilinear; always antialiased
    for domain in ("SOURCE", "TARGET"):
        cfg.INPUT[domain] = Node()
        cfg.INPUT[domain].RESIZE = []  # []: the image's own size
        cfg.INPUT[domain].SCALES = [1.0, 1.0]  # range of the random scale on top of RESIZE
    cfg.INPUT.TEST = Node()
    cfg.INPUT.TEST.RESIZE = []  # predictions are brought back to the image's own size

    cfg.MODEL = Node()
    cfg.MODEL.DEVICE = "cpu"  # cpu | cuda
    # resnet101 | pspnet_resnet101 (both also 18, 50) | vgg16 | vgg16_largefov | vgg16_fc7_d4 |
    # vgg16_frontend
    cfg.MODEL.ARCHITECTURE = "resnet101"
    cfg.MODEL.WIDTH = 1.0  # channel multiplier of the backbone
    cfg.MODEL.LAYOUT = "torchvision"  # bottleneck stride on the 3x3; caffe: on the first 1x1
    cfg.MODEL.WEIGHTS = "torchvision"  # file | torchvision (its download) | toy | '' (from scratch)
    cfg.MODEL.PREPROCESSING = "torchvision"  # torchvision | caffe; belongs to the weights
    cfg.MODEL.BN = "frozen"  # frozen: running statistics; train: those of the batch
    cfg.MODEL.BN_AFFINE = False  # train BatchNorm's scale and shift
    cfg.MODEL.ALIGN_CORNERS = True  # of the upsampling of logits
    cfg.MODEL.FREEZE_STAGES = []  # stages that are not trained, e.g. [stem, layer1]
    cfg.MODEL.LAST_SHORTCUT = False  # True reads DAST's released ResNet checkpoints
    cfg.MODEL.FRONTEND = Node()
    # of vgg16_frontend: padded (convolutions) | reflect (published: the image mirrored by 186 px)
    cfg.MODEL.FRONTEND.PADDING = "padded"
    cfg.MODEL.ASPP = Node()
    cfg.MODEL.ASPP.RATES = [6, 12, 18, 24]  # [6, 12] reads published AdaptSegNet checkpoints
    cfg.MODEL.ASPP.BIAS = True

    cfg.LOSS = Node()
    cfg.LOSS.LOVASZ_WEIGHT = 0.0  # of Lovász-softmax on the source, beside the cross-entropy
    cfg.LOSS.RESOLUTION = "input"  # input: logits are upsampled; output: labels are shrunk

    cfg.SOLVER = Node()
    cfg.SOLVER.MAX_ITER = 0  # optimizer steps
    cfg.SOLVER.HORIZON = 0  # step at which poly reaches 0; 0: ITERATIONS
    cfg.SOLVER.IMS_PER_BATCH = 1  # images per domain of one forward
    cfg.SOLVER.ACCUMULATE = 1  # forwards per optimizer step, over all processes
    cfg.SOLVER.PRECISION = "fp32"  # fp32 | bf16 (autocast)
    cfg.SOLVER.SCHEDULE = "poly"  # poly | multi_step | constant
    cfg.SOLVER.POWER = 0.9  # of poly
    cfg.SOLVER.STEPS = []  # of multi_step; each divides the rate by 10
    cfg.SOLVER.WARMUP = 0  # steps of linear warm-up
    cfg.SOLVER.BACKBONE_LR_MULT = 1.0  # 3.0: AdaptSegNet's list holds each parameter three times
    cfg.SOLVER.HEAD_LR_MULT = 10.0  # of new layers
    cfg.SOLVER.BIAS_LR_MULT = 1.0
    cfg.SOLVER.BIAS_DECAY = True  # weight decay on biases
    cfg.SOLVER.CHECKPOINT_PERIOD = 500  # iterations between checkpoints
    cfg.SOLVER.MODEL = _optimizer("sgd", 2.5e-4, 5e-4)
    cfg.SOLVER.DISCRIMINATOR = _optimizer("adam", 1e-4, 0.0)

    cfg.SOURCE_STAGE = Node()  # before any method: the source alone
    cfg.SOURCE_STAGE.ITERATIONS = 0  # 0: none
    _add_stage_keys(cfg.SOURCE_STAGE)

    cfg.SELF_TRAINING = Node()  # after any method: rounds with pseudo-labels of the target
    cfg.SELF_TRAINING.ROUNDS = 0
    cfg.SELF_TRAINING.ITERATIONS = 20000  # of each round
    cfg.SELF_TRAINING.QUANTILE = 0.5  # share of each class's pixels that is labelled, q
    cfg.SELF_TRAINING.QUANTILE_STEP = 0.0  # added to it from round to round
    cfg.SELF_TRAINING.CAP = 0.9  # more confident pixels are labelled whatever q says
    cfg.SELF_TRAINING.WEIGHT = 1.0  # of the pseudo-labels' cross-entropy, mu
    cfg.SELF_TRAINING.BN = ""  # train | frozen; empty: MODEL.BN
    _add_stage_keys(cfg.SELF_TRAINING)

    cfg.SELECTION = Node()  # of the snapshot that each stage ends with, without target labels
    cfg.SELECTION.METHOD = "none"  # none: the last one | fda: by source images in target style
    cfg.SELECTION.HELD_OUT = 500  # source images for it, which are not trained on
    cfg.SELECTION.BETAS = [0.05, 0.09]  # of FDA: how much of the spectrum is the target's
    cfg.SELECTION.INTERVAL = 2000  # iterations between snapshots

    for name in METHODS:
        METHODS.get(name).add_keys(cfg)

    cfg.TEST = Node()
    cfg.TEST.WINDOW = []  # [width, height] of sliding windows; []: the image as a whole
    cfg.TEST.STRIDE = 2 / 3  # distance of neighbouring windows, a share of their size
    cfg.TEST.EVAL_PERIOD = 0  # iterations between evaluations; 0: only at the end
    cfg.TEST.STAGES = True  # score and picture the end of every stage
    cfg.TEST.OFFICIAL = True  # score the last checkpoint with Cityscapes' own script as well
    cfg.TEST.PICTURES = 4  # panels of test images
    cfg.LOG_PERIOD = 20  # iterations between log lines
    return cfg


def check(cfg: Node) -> None:
    """UserError for a value that has the right type but that no run can use.

    What belongs to one class (`ROAD.REDUCTION`, `MODEL.BN`, …) is checked where that is built.
    """
    values = flatten(cfg)
    for key, low in _AT_LEAST.items():
        if values[key] < low:
            raise UserError(f"{key} is {values[key]}, expected at least {low}")
    for key, known in _CHOICES.items():
        if values[key] not in known:
            raise UserError(f"{key} is '{values[key]}', expected one of {', '.join(known)}")
    for key in _WHOLE_NUMBERS:
        if any(type(value) is not int for value in values[key]):
            raise UserError(f"{key} is {values[key]}, expected whole numbers, e.g. [6, 12]")
    for key in _PAIRS:
        pair = values[key]
        if len(pair) != 2 or any(type(value) not in (int, float) for value in pair):
            raise UserError(f"{key} is {pair}, expected two numbers, e.g. [0.5, 0.9]")
    if not 0 <= cfg.INPUT.FLIP <= 1:
        raise UserError(f"INPUT.FLIP is {cfg.INPUT.FLIP}, expected a probability, 0 to 1")
    if not 0 < cfg.SELF_TRAINING.CAP <= 1:
        raise UserError(
            f"SELF_TRAINING.CAP is {cfg.SELF_TRAINING.CAP:g}, expected above 0 and at most 1"
        )
    if cfg.SEED >= 2**63:
        raise UserError(f"SEED is {cfg.SEED}, expected less than 2^63")


def _add_stage_keys(node: Node) -> None:
    """What a stage of its own may change of SOLVER; steps count from the stage's beginning."""
    node.TYPE = ""  # sgd | adam; empty: SOLVER.MODEL.TYPE
    node.LR = 0.0  # of the optimizer `model`; 0: SOLVER.MODEL.LR
    node.WEIGHT_DECAY = -1.0  # negative: SOLVER.MODEL.WEIGHT_DECAY
    node.BACKBONE_LR_MULT = 0.0  # 0: SOLVER.BACKBONE_LR_MULT
    node.HEAD_LR_MULT = 0.0  # 0: SOLVER.HEAD_LR_MULT
    node.SCHEDULE = ""  # empty: SOLVER.SCHEDULE
    node.HORIZON = 0  # 0: the stage's length
    node.STEPS = []
    node.WARMUP = 0


def _optimizer(kind: str, rate: float, decay: float) -> Node:
    node = Node()
    node.TYPE = kind  # sgd | adam
    node.LR = rate
    node.MOMENTUM = 0.9  # of sgd
    node.BETAS = [0.9, 0.99]  # of adam
    node.WEIGHT_DECAY = decay
    return node
