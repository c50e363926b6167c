"""``--set``: a value that cannot run is refused by its name, before anything begins."""

from pathlib import Path

import pytest

from sparsevit3d.errors import InputError
from sparsevit3d.stages.config import read_config
from sparsevit3d.stages.options import set_option

CONFIG = Path(__file__).parents[2] / "configs/fcos3d_small_synthetic.py"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("image_size=[0,0]", r"image_size is \[0, 0\], too small.*at least 32 pixels"),
        ("image_size=[1,1]", r"image_size is \[1, 1\], too small"),
        ("image_size=[-64,64]", "too small"),
        ("image_size=[4000000,64]", "too large for any memory.*at most 8192 pixels"),
        ("regress_ranges_at=[1]", r"regress_ranges_at is \[1\]. Give it as \[width, height\]"),
        ("image_size=null", "null is not a list. image_size is a list"),
        ("train_dataloader.batch_size=0", "train_dataloader.batch_size cannot be 0.*at least 1"),
        ("train_dataloader.num_workers=-1", "num_workers cannot be -1.*at least 0"),
        ("train_cfg.max_epochs=0", "train_cfg.max_epochs cannot be 0.*at least 1"),
        ("train_cfg.max_epochs=true", "true is not a whole number"),
        ("randomness.seed=-1", "randomness.seed cannot be -1.*between 0 and 4.29497e"),
        ("train_cfg=null", "train_cfg is a group of values. Set one of them, such as train_cfg"),
        ("train_cfg={}", "train_cfg is a group of values"),
        ("model.backbone=null", "null is not a group of values"),
        ("model.type=null", "null is not text"),
        ("optim_wrapper.optimizer.lr=NaN", "NaN is not a number. optim_wrapper.optimizer.lr is a"),
        ("optim_wrapper.optimizer.lr=nan", 'nan" is not a number'),
        ("optim_wrapper.optimizer.lr=Infinity", "Infinity is not a number"),
        ("optim_wrapper.optimizer.lr=0", "lr cannot be 0. Give a value greater than 0"),
        ("optim_wrapper.optimizer.lr=-1", "lr cannot be -1"),
        ("model.test_cfg.score_thr=NaN", "NaN is not a number. model.test_cfg.score_thr is a"),
        ("model.test_cfg.score_thr=2", "score_thr cannot be 2. Give a value between 0 and 1"),
        ("model.test_cfg.max_per_img=0", "max_per_img cannot be 0"),
        (
            'train_dataloader.sampler={"type": null}',
            "null is not text. train_dataloader.sampler.type",
        ),
        ("param_scheduler=5", "5 is not a list"),
    ],
)
def test_a_value_that_cannot_run_is_refused_by_its_name(option, words):
    with pytest.raises(InputError, match=words) as caught:
        read_config(CONFIG, [option])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "found"),
    [
        ("a.rate=1", 1),
        ("a.rate=0.5", 0.5),
        ("a.name=2024", "2024"),
        ("a.clip_grad=null", None),
        ('a.clip_grad={"max_norm": 3}', {"max_norm": 3}),
        ("a.nothing=[1]", [1]),
        ("a.pair=[1,2,3]", [1, 2, 3]),
        ("a.flag=true", True),
    ],
)
def test_a_value_of_the_same_kind_is_taken(option, found):
    clip = {"max_norm": 10}
    group = {"rate": 0.1, "name": "x", "clip_grad": clip, "nothing": None, "pair": (1, 2)}
    tree = {"a": {**group, "flag": False}}
    set_option(tree, option)
    name = option.partition("=")[0].removeprefix("a.")
    assert tree["a"][name] == found
