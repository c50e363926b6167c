"""Where objects of the training split were: the rival that a learned importance has to beat."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from data_tools.info_file import InfoFile
from sparsevit3d.stages.views import CameraView
from sparsevit3d.swin.density import PlaceMap, window_density
from sparsevit3d.swin.windows import WindowTable


class Prior:
    """Score windows by how many objects of ``infos`` lay there, camera by camera.

    An instance is a SparseSwin's ``importance`` for whole keyframes of the same rig.

    Args:
        infos (InfoFile): The keyframes whose objects count.
        views (list of CameraView): How the network sees each camera of the rig.
        patch (int): Pixels of a token of the first stage.
    """

    def __init__(self, infos: InfoFile, views: list[CameraView], patch: int) -> None:
        self.places = PlaceMap(len(infos.cameras))
        width, height = views[0].network_size
        for keyframe in infos.keyframes:
            for place, (camera, view) in enumerate(zip(infos.cameras, views, strict=True)):
                boxes = network_boxes(keyframe["cam_instances"][camera], view)
                self.places.count([boxes], torch.tensor([place]), (height, width))
        tokens = torch.zeros(len(views), 1, 1)
        self.density = self.places(tokens, -(-height // patch), -(-width // patch)).exp()

    def __call__(self, x: Tensor, table: WindowTable) -> Tensor:
        return window_density(self.density.to(x.device), table)


def network_boxes(rows: list[dict[str, Any]], view: CameraView) -> Tensor:
    """(N, 4) boxes of an info file's objects, in the network's pixels."""
    boxes = torch.tensor([row["bbox"] for row in rows], dtype=torch.float32).reshape(-1, 2, 2)
    return (boxes * torch.tensor(view.scale) - torch.tensor(view.offset)).reshape(-1, 4)
