"""The ways from images to boxes that the benchmark times, in four parts each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sparsevit3d.backbone import backbone_of
from sparsevit3d.detector.decode import decode
from sparsevit3d.detector.deform import DeformConv
from sparsevit3d.stages.openvino_rival import converted
from sparsevit3d.stages.rivals import mmdet3d_head, mmdet_swin
from sparsevit3d.swin.plan import SparsityPlan
from sparsevit3d.swin.sparse_swin import SparseSwin

PARTS = ("backbone", "neck", "head", "decode")


class Subject(NamedTuple):
    """What is timed.

    Args:
        model (Any): A detector on SparseSwin.
        images (Tensor): (B, 3, H, W), as the backbone gets them, on its device.
        metas (list of dict): What the decoder has to know of each image.
        origin (str): Where weights and images come from.
    """

    model: Any
    images: Tensor
    metas: list[dict[str, Any]]
    origin: str


class Way(Protocol):
    """Four parts. Each is given the result of the one before it, and ``decode`` finds the boxes."""

    def backbone(self, _: Any) -> Any: ...

    def neck(self, features: Any) -> Any: ...

    def head(self, levels: Any) -> Any: ...

    def decode(self, outputs: Any) -> Any: ...


class Rival:
    """mmdet3d's own detector: neck, head and decoding everywhere.

    Args:
        subject (Subject): What is timed.
        backbone (callable): Runs a backbone on the subject's images.
        decode_as_ours (bool): Whether our decoding takes the place of mmdet3d's.
    """

    def __init__(self, subject: Subject, backbone: Callable[[], Any], decode_as_ours: bool) -> None:
        self.subject = subject
        self.run = backbone
        self.own_head = mmdet3d_head(subject.model)
        self.decode_as_ours = decode_as_ours

    def backbone(self, _: Any) -> Any:
        return self.run()

    def neck(self, features: Any) -> Any:
        return self.subject.model.neck(features)

    def head(self, levels: Any) -> Any:
        return self.own_head(levels)

    def decode(self, outputs: Any) -> Any:
        metas = self.subject.metas
        if self.decode_as_ours:
            return decode(self.subject.model.bbox_head, outputs, metas)
        # mmdet3d's decoding writes into the maps, which nobody reads again
        return self.own_head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=False)


class Ours:
    """The subject's detector as it predicts, under a plan and with another dtype's backbone.

    Args:
        subject (Subject): What is timed.
        plan (SparsityPlan): The plan of the backbone.
        net (SparseSwin): The backbone, in any dtype.
    """

    def __init__(self, subject: Subject, plan: SparsityPlan, net: SparseSwin) -> None:
        self.subject = subject
        self.plan = plan
        self.net = net
        self.images = subject.images.to(next(net.parameters()).dtype)
        self.computed: Any = ()

    def backbone(self, _: Any) -> Any:
        self.net.plan = self.plan
        if not self.subject.model.carry or self.plan.is_dense:
            return [one.float() for one in self.net(self.images)]
        features, self.computed = self.net.forward_computed(self.images)
        return [one.float() for one in features]

    def neck(self, features: Any) -> Any:
        return self.subject.model.neck_maps(features, self.computed)

    def head(self, levels: Any) -> Any:
        return self.subject.model.head_outputs(levels, self.computed)

    def decode(self, outputs: Any) -> Any:
        return decode(self.subject.model.bbox_head, outputs, self.subject.metas)


class Converted:
    """mmdet3d's detector as one function, from images to what its head says, and our decoding.

    Args:
        subject (Subject): What is timed.
        run (callable): Maps the subject's images to all maps of the head, kind by kind.
    """

    def __init__(self, subject: Subject, run: Callable[[Tensor], list[Tensor]]) -> None:
        self.subject = subject
        self.run = run

    def backbone(self, _: Any) -> Any:
        return self.run(self.subject.images)

    def neck(self, features: Any) -> Any:
        return features

    def head(self, levels: Any) -> Any:
        count = len(self.subject.model.bbox_head.strides)
        return [levels[first : first + count] for first in range(0, len(levels), count)]

    def decode(self, outputs: Any) -> Any:
        return decode(self.subject.model.bbox_head, outputs, self.subject.metas)


class _Dense(nn.Module):
    """Images to all maps of the head, kind by kind, level by level."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.swin = mmdet_swin(backbone_of(model))
        self.neck = model.neck
        self.head = model.bbox_head

    def forward(self, images: Tensor) -> list[Tensor]:
        return [one for kind in self.head(self.neck(self.swin(images))) for one in kind]


def converted_detectors(subject: Subject, kinds: list[str]) -> dict[str, Way]:
    """OpenVINO's ways by kind of number. Empty: ``kinds`` is, or it knows not all of the head."""
    head = subject.model.bbox_head
    if not kinds or any(isinstance(one, DeformConv) for one in head.modules()):
        return {}
    with torch.no_grad():
        found = converted(_Dense(subject.model).eval(), subject.images, kinds)
    return {kind: Converted(subject, run) for kind, run in found.items()}
