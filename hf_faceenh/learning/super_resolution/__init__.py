"""Training a `SuperResolver`: photographs in, a network that upscales them out.

`Crops` (samples) are drawn from `Photographs`; `make_super_resolver`, `as_cells` and `psnr_of` (network) are what is
trained; `evaluate` (evaluation) compares it with bicubic upscaling.
"""

from hf_faceenh.learning.super_resolution.evaluation import evaluate, table
from hf_faceenh.learning.super_resolution.network import as_cells, load_super_resolver, make_super_resolver, psnr_of
from hf_faceenh.learning.super_resolution.samples import Crops, Photographs

__all__ = [
    "Crops",
    "Photographs",
    "as_cells",
    "evaluate",
    "load_super_resolver",
    "make_super_resolver",
    "psnr_of",
    "table",
]
