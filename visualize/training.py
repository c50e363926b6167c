"""Pictures to watch while a detector trains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sparsevit3d.stages.views import Keyframe
from visualize.bird import bird_sheet
from visualize.frames import box_sheet, pixels
from visualize.masks import mask_sheet, stage_blocks


def training_pictures(keyframe: Keyframe) -> dict[str, NDArray[np.uint8]]:
    """Return RGB pictures by name.

    The pictures are boxes on the frames, boxes from above, and the windows of the second stage. A
    detector with one stage shows the windows of that stage.
    """
    trace = stage_blocks(keyframe.trace)[:2][-1]
    figures = {
        "boxes": box_sheet(keyframe, keyframe.name),
        "bird": bird_sheet(keyframe, keyframe.name),
        "windows": mask_sheet(keyframe.views, trace, f"{keyframe.name}, plan {keyframe.plan}"),
    }
    return {name: pixels(figure) for name, figure in figures.items()}
