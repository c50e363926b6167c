"""What the whole detector costs under a plan, neck, head and decoding included.

With windows carried on, that depends on where windows were computed, and so on the images. A plan
is therefore run on some keyframes.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from data_tools.info_file import read_infos
from sparsevit3d.backbone import backbone_of
from sparsevit3d.cost.latency import time_calls
from sparsevit3d.cost.macs import count_macs
from sparsevit3d.search.objective import Question
from sparsevit3d.stages.benchmark import trained_subject
from sparsevit3d.stages.config import use_split
from sparsevit3d.stages.ways import Ours, Subject
from sparsevit3d.swin.plan import SparsityPlan

KEYFRAMES = 4
RUNS = 11  # timed, of one keyframe


class DetectorCost:
    """Counts and times a detector on keyframes of the split that plans are judged on.

    Args:
        question (Question): The detector, its data and its split. It is timed with the threads that
            torch uses in this process.
    """

    def __init__(self, question: Question) -> None:
        config = copy.deepcopy(question.config)
        use_split(config, question.split)
        count = len(read_infos(Path(config.test_evaluator.ann_file)).keyframes)
        spread = sorted({number * count // KEYFRAMES for number in range(KEYFRAMES)})
        subject = trained_subject(config, question.weights, question.split, spread)
        self.net = backbone_of(subject.model)
        cameras = len(subject.images) // len(spread)
        # A batch is a keyframe: its images may share a budget of windows.
        self.moments = [
            Subject(
                subject.model,
                subject.images[first : first + cameras],
                subject.metas[first : first + cameras],
                subject.origin,
            )
            for first in range(0, len(subject.images), cameras)
        ]

    @torch.no_grad()
    def gmacs(self, plan: SparsityPlan) -> float:
        """Count the GMACs of one image, on average over the keyframes.

        The backbone is counted by :func:`count_macs`. Neck and head are counted as torch counts
        what ran.
        """
        flops = 0
        for moment in self.moments:
            way = Ours(moment, plan, self.net)
            features = way.backbone(None)
            with FlopCounterMode(display=False) as counter:
                way.head(way.neck(features))
            flops += counter.get_total_flops()
        count, _, height, width = self.moments[0].images.shape
        backbone = count_macs(self.net, (height, width), plan)
        return (backbone + flops / 2 / count / len(self.moments)) / 1e9

    def ms(self, plan: SparsityPlan) -> float:
        """Time a keyframe from images to boxes: the median, in milliseconds."""
        moment = self.moments[0]
        way = Ours(moment, plan, self.net)

        def call() -> None:
            way.decode(way.head(way.neck(way.backbone(None))))

        return time_calls({"detector": call}, moment.images, RUNS, 2)["detector"].p50_ms
