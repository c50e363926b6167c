"""All private names of the mm* packages that the project uses.

``tests/detector/test_mm_private.py`` names every one.
"""

from __future__ import annotations

from typing import Any

from mmengine.config import Config, ConfigDict


def tree_of(config: Config) -> ConfigDict:
    """The config's values as nested dictionaries, to be changed in place."""
    return config._cfg_dict


def decode_candidates(head: Any, maps: list[Any], meta: dict[str, Any], config: Any) -> Any:
    """Let ``head``, mmdet3d's FCOS3D head, decode one image. ``maps`` go level by level."""
    return head._predict_by_feat_single(*maps, img_meta=meta, cfg=config)
