"""The ways from images to boxes that the benchmark times, in four parts each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from sparsevit3d.detector.decode import decode
from sparsevit3d.stages.rivals import mmdet3d_head
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
        if not self.subject.model.carry:
            return [one.float() for one in self.net(self.images)]
        features, self.computed = self.net.forward_computed(self.images)
        return [one.float() for one in features]

    def neck(self, features: Any) -> Any:
        return self.subject.model.neck_maps(features, self.computed)

    def head(self, levels: Any) -> Any:
        return self.subject.model.head_outputs(levels, self.computed)

    def decode(self, outputs: Any) -> Any:
        return decode(self.subject.model.bbox_head, outputs, self.subject.metas)
