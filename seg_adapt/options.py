"""Every key of a segmentation experiment with its default, its meaning and its range.

Sizes are [width, height]. The keys of one method stand in its file, those of the pyramid in
shared/sap/options.py.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from shared.gradients import ClipOptions
from shared.options import (
    Decay,
    DecayPair,
    FloatPair,
    NonNegativeFloat,
    NonNegativeInt,
    NonNegativeInts,
    Options,
    PositiveInt,
    PositiveInts,
    Rule,
    Share,
    Size,
)

Width = Annotated[float, Rule(lambda value: 0 < value <= 16, "more than 0, at most 16")]

Schedule = Literal["poly", "multi_step", "constant"]
PartAboveZero = Annotated[float, Rule(lambda value: 0 < value <= 1, "above 0 and at most 1")]


@dataclass(frozen=True)
class DatasetOptions(Options, node="DATASETS"):
    root: str = ""  # empty: $DETECTRON2_DATASETS, or datasets/
    # several, with commas between them, are joined: "gta5, synthia"; each keeps its label format
    train: str = ""  # labeled; a name of the catalog, or a description (docs/own_data.md)
    target: str = ""  # a name, a folder or a description; its labels are never read
    test: str = ""  # what is scored; empty: nothing. Never used to choose anything
    label_space: str = "cityscapes19"  # or cityscapes16, synthia_seqs13, camvid11, a description
    cache: str = ""  # folder for copies resized once; empty: resize every time
    toy_count: PositiveInt = 400  # training images of a toy dataset that has to be made
    toy_val_count: PositiveInt = 60  # its test images


@dataclass(frozen=True)
class LoaderOptions(Options, node="DATALOADER"):
    num_workers: NonNegativeInt = 2  # loader processes per domain
    timeout: NonNegativeInt = 600  # seconds to wait for a batch of theirs; 0: for ever


@dataclass(frozen=True)
class InputSourceOptions(Options, node="INPUT.SOURCE"):
    resize: Size = ()  # []: the image's own size
    scales: FloatPair = (1.0, 1.0)  # range of the random scale on top of RESIZE


@dataclass(frozen=True)
class InputTargetOptions(InputSourceOptions, node="INPUT.TARGET"):
    """The same of the target's images."""


@dataclass(frozen=True)
class InputTestOptions(Options, node="INPUT.TEST"):
    resize: Size = ()  # predictions are brought back to the image's own size


@dataclass(frozen=True)
class InputOptions(Options, node="INPUT"):
    crop: Size = ()  # of the random crop; []: the whole image
    flip: Share = 0.0  # probability of a horizontal flip
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # of images; always antialiased
    source: InputSourceOptions = InputSourceOptions()
    target: InputTargetOptions = InputTargetOptions()
    test: InputTestOptions = InputTestOptions()


@dataclass(frozen=True)
class FrontendOptions(Options, node="MODEL.FRONTEND"):  # of vgg16_frontend
    # padded: convolutions; reflect: the image mirrored by 186 px, as published
    padding: Literal["padded", "reflect"] = "padded"


@dataclass(frozen=True)
class AsppOptions(Options, node="MODEL.ASPP"):
    rates: PositiveInts = (6, 12, 18, 24)  # dilations; [6, 12] reads AdaptSegNet's checkpoints
    bias: bool = True  # of the classifiers


@dataclass(frozen=True)
class TimmOptions(Options, node="MODEL.TIMM"):  # of timm:<name>
    # aspp: DeepLab-v2's, psp: PSPNet's, on the deepest level; fusion: DAFormer's, on all of LEVELS
    head: Literal["aspp", "psp", "fusion"] = "aspp"
    levels: NonNegativeInts = ()  # feature levels that are used, timm's out_indices; []: its choice
    channels: PositiveInt = 128  # of the hidden layers of psp and fusion


@dataclass(frozen=True)
class ModelOptions(Options, node="MODEL"):
    device: Literal["cpu", "cuda"] = "cpu"
    # resnet101 | pspnet_resnet101 (both also 18, 50) | vgg16 | vgg16_largefov | vgg16_fc7_d4 |
    # vgg16_frontend | timm:<name>, any network of timm that gives feature maps | one's own
    architecture: str = "resnet101"
    width: Width = 1.0  # channel multiplier of the backbone; timm's have their own names
    # input pixels per cell of the backbone's last map; 0: 8 where it can be dilated
    output_stride: NonNegativeInt = 0
    # where a bottleneck's stride is; torchvision: on the 3x3, caffe: on the first 1x1
    layout: Literal["torchvision", "caffe"] = "torchvision"
    weights: str = "torchvision"  # what it may be: shared/weights.py
    # belongs to the weights; timm's networks bring their own
    preprocessing: Literal["torchvision", "caffe"] = "torchvision"
    bn: Literal["frozen", "train"] = "frozen"  # frozen: running statistics; train: the batch's
    bn_affine: bool = False  # train BatchNorm's scale and shift
    align_corners: bool = True  # of the upsampling of logits
    freeze_stages: tuple[str, ...] = ()  # stages that are not trained, e.g. [stem, layer1]
    last_shortcut: bool = False  # True reads DAST's released ResNet checkpoints
    frontend: FrontendOptions = FrontendOptions()
    aspp: AsppOptions = AsppOptions()
    timm: TimmOptions = TimmOptions()


@dataclass(frozen=True)
class LossOptions(Options, node="LOSS"):
    lovasz_weight: NonNegativeFloat = 0.0  # of Lovász-softmax on the source, beside cross-entropy
    # input: logits are upsampled to the labels; output: labels are shrunk to the logits
    resolution: Literal["input", "output"] = "input"


@dataclass(frozen=True)
class OptimizerOptions(Options, node="SOLVER.MODEL"):
    type: Literal["sgd", "adam"] = "sgd"
    lr: NonNegativeFloat = 2.5e-4
    momentum: Decay = 0.9  # of sgd
    betas: DecayPair = (0.9, 0.99)  # of adam
    weight_decay: NonNegativeFloat = 5e-4


@dataclass(frozen=True)
class DiscriminatorOptimizerOptions(OptimizerOptions, node="SOLVER.DISCRIMINATOR"):
    type: Literal["sgd", "adam"] = "adam"
    lr: NonNegativeFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.0


@dataclass(frozen=True)
class AmpOptions(Options, node="SOLVER.AMP"):
    enabled: bool = False  # mixed precision by autocast
    precision: Literal["fp16", "bf16"] = "fp16"  # fp16: with a scaler of gradients


@dataclass(frozen=True)
class LayerRates(Options, node="SOLVER"):
    """What the learning rate and the weight decay of a layer are multiplied by."""

    backbone_lr_mult: NonNegativeFloat = 1.0  # 3.0: AdaptSegNet lists each parameter three times
    head_lr_mult: NonNegativeFloat = 10.0  # of new layers
    bias_lr_mult: NonNegativeFloat = 1.0
    bias_decay: bool = True  # weight decay on biases


@dataclass(frozen=True)
class SolverOptions(LayerRates, node="SOLVER"):
    max_iter: NonNegativeInt = 0  # optimizer steps; every experiment says how many
    horizon: NonNegativeInt = 0  # step at which poly reaches 0; 0: MAX_ITER
    ims_per_batch: int = 1  # images per domain of one forward
    accumulate: int = 1  # forwards per optimizer step, over all processes
    schedule: Schedule = "poly"
    power: float = 0.9  # of poly
    steps: NonNegativeInts = ()  # of multi_step; each divides the rate by 10
    warmup: NonNegativeInt = 0  # steps of linear warm-up
    checkpoint_period: PositiveInt = 500  # iterations between checkpoints
    checkpoint_keep: PositiveInt = 2  # of the last ones, the newest included
    amp: AmpOptions = AmpOptions()
    clip_gradients: ClipOptions = field(default=ClipOptions())
    model: OptimizerOptions = OptimizerOptions()
    discriminator: DiscriminatorOptimizerOptions = DiscriminatorOptimizerOptions()


@dataclass(frozen=True)
class StageOptions(Options):
    """What a stage of its own may change of SOLVER; steps count from the stage's beginning."""

    type: Literal["", "sgd", "adam"] = ""  # empty: SOLVER.MODEL.TYPE
    lr: NonNegativeFloat = 0.0  # of the optimizer `model`; 0: SOLVER.MODEL.LR
    weight_decay: float = -1.0  # negative: SOLVER.MODEL.WEIGHT_DECAY
    backbone_lr_mult: NonNegativeFloat = 0.0  # 0: SOLVER.BACKBONE_LR_MULT
    head_lr_mult: NonNegativeFloat = 0.0  # 0: SOLVER.HEAD_LR_MULT
    schedule: Literal["", "poly", "multi_step", "constant"] = ""  # empty: SOLVER.SCHEDULE
    horizon: NonNegativeInt = 0  # 0: the stage's length
    steps: NonNegativeInts = ()
    warmup: NonNegativeInt = 0


@dataclass(frozen=True)
class SourceStageOptions(StageOptions, node="SOURCE_STAGE"):
    """Before any method: the source alone."""

    iterations: NonNegativeInt = 0  # 0: no such stage


@dataclass(frozen=True)
class SelfTrainingOptions(StageOptions, node="SELF_TRAINING"):
    """After any method: rounds with pseudo-labels of the target."""

    rounds: NonNegativeInt = 0
    iterations: PositiveInt = 20000  # of each round
    quantile: float = 0.5  # share of each class's pixels that is labeled, q
    quantile_step: float = 0.0  # added to it from round to round
    cap: PartAboveZero = 0.9  # more confident pixels are labeled whatever q says
    weight: NonNegativeFloat = 1.0  # of the pseudo-labels' cross-entropy, mu
    bn: Literal["", "train", "frozen"] = ""  # empty: MODEL.BN


@dataclass(frozen=True)
class SelectionOptions(Options, node="SELECTION"):
    """Of the snapshot that each stage ends with, without target labels."""

    # none: the last one; fda: by the score on source images in target style
    method: Literal["none", "fda"] = "none"
    held_out: int = 500  # source images for it, which are not trained on
    betas: tuple[float, ...] = (0.05, 0.09)  # of FDA: how much of the spectrum is the target's
    interval: PositiveInt = 2000  # iterations between snapshots


@dataclass(frozen=True)
class EvaluationOptions(Options, node="TEST"):
    window: Size = ()  # of sliding windows; []: the image as a whole
    stride: PartAboveZero = 2 / 3  # distance of neighboring windows, a share of their size
    eval_period: NonNegativeInt = 0  # iterations between evaluations; 0: only at the end
    stages: bool = True  # score and picture the end of every stage
    official: bool = True  # score the last checkpoint with Cityscapes' own script as well
    pictures: NonNegativeInt = 4  # panels of test images


@dataclass(frozen=True)
class ExperimentOptions(Options):
    """The root: what has no node of its own, and all nodes but those of methods."""

    method: str = "source_only"  # a name of `train.py --help`
    # one's own networks, methods and data sets: modules, or .py files; --import adds to them
    imports: tuple[str, ...] = ()
    output_dir: str = ""  # the run's folder; empty: runs/<config name>/<method>
    # source and target draw from separate streams of it
    seed: Annotated[int, Rule(lambda n: 0 <= n < 2**63, "at least 0 and less than 2^63")] = 0
    log_period: int = 20  # iterations between log lines
    datasets: DatasetOptions = DatasetOptions()
    dataloader: LoaderOptions = LoaderOptions()
    input: InputOptions = InputOptions()
    model: ModelOptions = ModelOptions()
    loss: LossOptions = LossOptions()
    solver: SolverOptions = SolverOptions()
    source_stage: SourceStageOptions = SourceStageOptions()
    self_training: SelfTrainingOptions = SelfTrainingOptions()
    selection: SelectionOptions = SelectionOptions()
    test: EvaluationOptions = EvaluationOptions()
