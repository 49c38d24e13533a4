"""The keys of Detectron2 that both engines read, with Detectron2's defaults.

An experiment file, and the config of a run of either engine, is thus readable by both.
"""

KEYS = {
    "VERSION": 2,
    "MODEL.DEVICE": "cuda",  # cuda | cpu
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",  # SAPRCNN: with the target domain
    "MODEL.WEIGHTS": "",  # what it may be: shared/weights.py
    "MODEL.MASK_ON": False,
    "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],  # in INPUT.FORMAT's order, of 0 to 255
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    # | build_resnet_fpn_backbone | build_timm_fpn_backbone | build_vgg16_backbone
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 2,  # stages that are not trained; 0: none
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.OUT_FEATURES": ["res4"],
    "MODEL.RESNETS.NORM": "FrozenBN",
    "MODEL.RESNETS.NUM_GROUPS": 1,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 64,
    "MODEL.RESNETS.STRIDE_IN_1X1": True,  # False: torchvision's weights
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    # up to stride 32: [res2, res3, res4, res5] gives p2 to p6; of timm's, []: strides 4 to 32
    "MODEL.FPN.IN_FEATURES": [],
    "MODEL.FPN.OUT_CHANNELS": 256,
    "MODEL.FPN.NORM": "",  # | GN, BN, FrozenBN
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32, 64, 128, 256, 512]],  # pixels of the resized image
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],  # height / width
    "MODEL.ANCHOR_GENERATOR.OFFSET": 0.0,
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": 0,  # pixels of the resized image that a side must exceed
    "MODEL.RPN.IN_FEATURES": ["res4"],  # also what the pyramid pools; of p2 to p6: SAP.FEATURES
    "MODEL.RPN.CONV_DIMS": [-1],  # width of its 3x3 convolution; -1: that of the map
    "MODEL.RPN.BOUNDARY_THRESH": -1,  # anchors further outside, in pixels, are left out; -1: none
    "MODEL.RPN.IOU_THRESHOLDS": [0.3, 0.7],
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.RPN.POSITIVE_FRACTION": 0.5,
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": 1.0,
    "MODEL.RPN.SMOOTH_L1_BETA": 0.0,  # 0: L1
    "MODEL.RPN.LOSS_WEIGHT": 1.0,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.NMS_THRESH": 0.7,
    "MODEL.ROI_HEADS.NAME": "Res5ROIHeads",  # | StandardROIHeads
    "MODEL.ROI_HEADS.NUM_CLASSES": 80,
    "MODEL.ROI_HEADS.IN_FEATURES": ["res4"],
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.5],
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.05,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": 0.5,
    "MODEL.ROI_HEADS.PROPOSAL_APPEND_GT": True,
    "MODEL.ROI_BOX_HEAD.NAME": "",  # FastRCNNConvFCHead, of StandardROIHeads
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": 1.0,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.0,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlignV2",  # | ROIAlign (not aligned), ROIPool
    "MODEL.ROI_BOX_HEAD.NUM_FC": 0,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 1024,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": 14,
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 0,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlignV2",  # | ROIAlign, ROIPool
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 0,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 256,
    "INPUT.FORMAT": "BGR",  # the order of channels that the weights expect; RGB: torchvision's
    "INPUT.MIN_SIZE_TRAIN": (800,),  # pixels of the short side; a tuple: one of them is drawn
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",  # | range
    "INPUT.MAX_SIZE_TRAIN": 1333,  # of the long side, which may shrink the short one
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "INPUT.RANDOM_FLIP": "horizontal",  # | none
    "INPUT.MASK_FORMAT": "polygon",  # without effect here: masks are bitmaps
    "DATASETS.TRAIN": (),  # the labeled source; several names: all of them together
    "DATASETS.TEST": (),  # what is scored, the first in full; never used to choose anything
    "DATALOADER.NUM_WORKERS": 4,  # per domain
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": True,  # of the source; the target is never filtered
    "DATALOADER.ASPECT_RATIO_GROUPING": True,  # without effect: images are drawn by number
    "SOLVER.MAX_ITER": 40000,
    "SOLVER.IMS_PER_BATCH": 16,  # per domain, over all processes
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.MOMENTUM": 0.9,  # of SGD
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.BIAS_LR_FACTOR": 1.0,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.STEPS": (30000,),
    "SOLVER.WARMUP_FACTOR": 0.001,
    "SOLVER.WARMUP_ITERS": 1000,
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.CHECKPOINT_PERIOD": 5000,
    "SOLVER.CLIP_GRADIENTS.ENABLED": False,  # these four: shared/gradients.py
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "value",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 1.0,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 2.0,
    "SOLVER.AMP.ENABLED": False,
    "TEST.EVAL_PERIOD": 0,  # iterations; 0: only at the end
    "TEST.DETECTIONS_PER_IMAGE": 100,
    "OUTPUT_DIR": "./output",
    "SEED": -1,  # source and target draw from separate streams of it; negative: 0
}

# Detectron2 reads and draws images by these; here, neither engine lets it.
WITHOUT_EFFECT = (
    "MODEL.LOAD_PROPOSALS",
    "INPUT.CROP.",
    "DATASETS.PROPOSAL_FILES_",
    "DATASETS.PRECOMPUTED_PROPOSAL_",
    "DATALOADER.SAMPLER_TRAIN",
    "DATALOADER.REPEAT_",
    "SOLVER.REFERENCE_WORLD_SIZE",
    "TEST.EXPECTED_RESULTS",
    "TEST.AUG.",
    "TEST.PRECISE_BN.",
    "VIS_PERIOD",
)
