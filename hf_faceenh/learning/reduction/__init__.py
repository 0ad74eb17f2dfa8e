"""A smaller enhancer: reduction ratios, trials judged by the quality after each layer, removal of channels.

What belongs together, what matters and when to cut are three places: a layer's channels are named and removed by
`hf_faceenh.models.channels`, ranked by `importance`, and `reducer` decides, with the `ratios` that it asks for and the
`trials` that judge them. `optimizer` takes along what is trained with the network. Faces are `[B, 3, S, S]` RGB in
[-1, 1]; a *ratio* is the share of a layer's channels that is removed.
"""

from hf_faceenh.learning.reduction.config import ReductionConfig
from hf_faceenh.learning.reduction.importance import importance
from hf_faceenh.learning.reduction.optimizer import carry_optimizer, follow_channels, reduce_adapters
from hf_faceenh.learning.reduction.ratios import check_target, fitting_ratio, macs
from hf_faceenh.learning.reduction.reducer import Reducer, Reduction
from hf_faceenh.learning.reduction.trials import Quality, Trials, images_after
from hf_faceenh.models.channels import reduce_tensors

__all__ = [
    "Quality",
    "Reducer",
    "Reduction",
    "ReductionConfig",
    "Trials",
    "carry_optimizer",
    "check_target",
    "fitting_ratio",
    "follow_channels",
    "images_after",
    "importance",
    "macs",
    "reduce_adapters",
    "reduce_tensors",
]
