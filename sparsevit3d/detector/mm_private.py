"""All private names of the mm* packages that the project uses.

``tests/detector/test_mm_private.py`` names every one.
"""

from __future__ import annotations

from mmengine.config import Config, ConfigDict


def tree_of(config: Config) -> ConfigDict:
    """The config's values as nested dictionaries, to be changed in place."""
    return config._cfg_dict
