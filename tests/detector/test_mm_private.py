"""Every private name of the mm* packages that the project calls is there."""

from pathlib import Path

from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor
from mmengine.config import Config

from sparsevit3d.detector import mm_private
from tests.support.private_names import private_names

HOMES = {"_cfg_dict": Config({}), "_channel_conversion": Det3DDataPreprocessor()}


def test_every_private_name_is_named_here_and_is_there():
    assert private_names(Path(mm_private.__file__)) == HOMES.keys()
    for name, home in HOMES.items():
        assert hasattr(home, name), f"these packages have no {name}"


def test_the_tree_of_a_config_is_the_config_itself():
    config = Config({"model": {"type": "A"}})
    mm_private.tree_of(config)["model"]["type"] = "B"
    assert config.model.type == "B"


def test_colours_are_swapped_where_the_config_says_so():
    assert mm_private.swaps_colours(Det3DDataPreprocessor(bgr_to_rgb=True))
    assert not mm_private.swaps_colours(Det3DDataPreprocessor())
