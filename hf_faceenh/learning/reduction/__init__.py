"""A smaller enhancer: reduction ratios, trials judged by the quality after each layer, removal of channels.

What belongs together, what matters and what to cut are three places: a layer's channels are named and removed by
`hf_faceenh.models.channels`, ranked by `importance`, and `settlement` cuts layer after layer, as far as the `trials`
allow; `reducer` puts them together. `optimizer` takes along what is trained with the network. Faces are
`[B, 3, S, S]` RGB in [-1, 1]; a *ratio* is the share of a layer's channels that is removed.
"""

from hf_faceenh.learning.reduction.config import ReductionConfig
from hf_faceenh.learning.reduction.importance import importance
from hf_faceenh.learning.reduction.optimizer import carry_optimizer, follow_channels, reduce_adapters
from hf_faceenh.learning.reduction.ratios import check_target, fitting_ratio, macs
from hf_faceenh.learning.reduction.reducer import Reducer, Reduction
from hf_faceenh.learning.reduction.settlement import Settlement
from hf_faceenh.learning.reduction.trials import Outcome, Quality, Trials
from hf_faceenh.models.channels import reduce_tensors

__all__ = [
    "Outcome",
    "Quality",
    "Reducer",
    "Reduction",
    "ReductionConfig",
    "Settlement",
    "Trials",
    "carry_optimizer",
    "check_target",
    "fitting_ratio",
    "follow_channels",
    "importance",
    "macs",
    "reduce_adapters",
    "reduce_tensors",
]
