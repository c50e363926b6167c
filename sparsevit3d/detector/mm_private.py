"""All private names of the mm* packages that the project uses.

``tests/detector/test_mm_private.py`` names every one.
"""

from __future__ import annotations

from typing import Any

from mmengine.config import Config, ConfigDict


def tree_of(config: Config) -> ConfigDict:
    """The config's values as nested dictionaries, to be changed in place."""
    return config._cfg_dict


def swaps_colours(preprocessor: Any) -> bool:
    """Whether a data preprocessor of mmdet reverses the order of an image's colours."""
    return bool(preprocessor._channel_conversion)
