"""Short runs of the detection command on toy pairs, by the torchvision engine."""

import commands

from det_adapt import train_net
from shared.config import CONFIGS

TINY = [
    *("INPUT.MIN_SIZE_TRAIN", "[32]", "INPUT.MIN_SIZE_TEST", "32", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.MAX_ITER", "4", "SOLVER.STEPS", "[3]", "SOLVER.CHECKPOINT_PERIOD", "2"),
    *("SOLVER.IMS_PER_BATCH", "1", "SOLVER.WARMUP_ITERS", "0", "SAP.LEVELS", "[1, 3, 6]"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "16", "SAP.EMBED_CHANNELS", "8", "SAP.GUIDE_CHANNELS", "8"),
]


def command(name):
    return train_net.main, "--config-file", CONFIGS / f"{name}.yaml", "--engine", "torchvision"


def run(name, *arguments):
    return commands.run(*command(name), *arguments)


def fails(capsys, name, *arguments):
    return commands.fails(capsys, *command(name), *arguments)
