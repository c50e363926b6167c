"""SparseSwin in mmengine's root registry, where all configs find it.

Configs of mmdet, mmsegmentation and mmdet3d can name SparseSwin. There it takes the place of
``SwinTransformer``. Its weights have to be a local file::

    custom_imports = dict(imports="sparsevit3d.backbone")
    model = dict(
        backbone=dict(
            type="SparseSwin",
            plan="0.3|0|0.1,0.2,0.2|0",
            init_cfg=dict(type="Pretrained", checkpoint="local/swin.pth"),
        )
    )
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS
from torch import Tensor

from sparsevit3d.swin.plan import agreed_plan, plan_of_state
from sparsevit3d.swin.sparse_swin import SparseSwin
from sparsevit3d.swin.weights import load_swin_weights

# Arguments of mmdet's SwinTransformer that SparseSwin lacks, and the values they may have.
_FOREIGN: dict[str, tuple[Any, ...]] = {
    "qk_scale": (None,),
    "drop_rate": (0,),
    "attn_drop_rate": (0,),
    "patch_norm": (True,),
    "use_abs_pos_embed": (False,),
    "act_cfg": ({"type": "GELU"},),
    "norm_cfg": ({"type": "LN"}, {"type": "LN", "requires_grad": True}),
    "pretrained": (None,),
}
# Layouts are recognised, and there is no absolute position embedding.
_WITHOUT_EFFECT = ("convert_weights", "pretrain_img_size")


@MODELS.register_module(name="SparseSwin")
class ConfiguredSparseSwin(SparseSwin):
    """SparseSwin as a config asks for it, with mmdet's arguments.

    SparseSwin lacks some of mmdet's arguments. A config may give them only values that change
    nothing. A ``plan`` in the config stays in force when dense weights are loaded. Weights that
    carry another plan are refused.

    Args:
        init_cfg (dict or None): ``dict(type="Pretrained", checkpoint="local/file.pth")``, in any
            layout that :func:`load_swin_weights` knows. The file is read when the model's
            ``init_weights`` is called, as mmengine's Runner does. Default: None.
        **arguments: Arguments of SparseSwin.

    Raises:
        ValueError: An argument has a value that SparseSwin does not support.
    """

    def __init__(self, *, init_cfg: Mapping[str, Any] | None = None, **arguments: Any) -> None:
        for name in arguments.keys() & _FOREIGN.keys():
            value = arguments.pop(name)
            if (tuple(value) if isinstance(value, list) else value) not in _FOREIGN[name]:
                raise ValueError(
                    f"SparseSwin does not support {name}={value!r}. Leave it out, or set it to "
                    f"{_FOREIGN[name][0]!r}."
                )
        for name in _WITHOUT_EFFECT:
            arguments.pop(name, None)
        strides = tuple(arguments.pop("strides", ()))
        expected = (arguments.get("patch_size", 4), 2, 2, 2)
        if strides != expected[: len(strides)]:
            raise ValueError(
                f"SparseSwin does not support strides={strides!r}. Leave it out, or set it to "
                f"{expected!r}."
            )
        if init_cfg is not None and (
            set(init_cfg) != {"type", "checkpoint"} or init_cfg["type"] != "Pretrained"
        ):
            raise ValueError(
                f"SparseSwin does not support init_cfg={dict(init_cfg)!r}. Leave it out, or say "
                "dict(type='Pretrained', checkpoint=FILE)."
            )
        super().__init__(**arguments)
        self.init_cfg = init_cfg
        self.configured_plan = self.plan

    def init_weights(self) -> None:
        if self.init_cfg is not None:
            report = load_swin_weights(self, self.init_cfg["checkpoint"])
            print_log(f"SparseSwin: {self.init_cfg['checkpoint']}: {report}", logger="current")

    def set_extra_state(self, state: Tensor) -> None:
        self.plan = agreed_plan(plan_of_state(state), self.configured_plan)


def backbone_of(model: Any) -> SparseSwin:
    """The SparseSwin of a detector, wrapped for distributed training or not."""
    model = model.module if is_model_wrapper(model) else model
    if not isinstance(model.backbone, SparseSwin):
        raise TypeError(
            f"this detector's backbone is {type(model.backbone).__name__}. Plans need a SparseSwin"
        )
    return model.backbone
