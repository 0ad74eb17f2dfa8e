"""From pictures anywhere to training batches and evaluation sets.

`load_faces`, `check_sizes` and `weighed` (sources), then `training_loader` (loader), whose workers make `FacePairs`
(pairs) under the `Coefficients` of the round (coefficients), or `fixed_pairs` for evaluation.
"""

from hf_faceenh.learning.data.coefficients import Coefficients
from hf_faceenh.learning.data.decoded import DecodedPictures
from hf_faceenh.learning.data.loader import training_loader
from hf_faceenh.learning.data.pairs import FacePairs, fixed_pairs
from hf_faceenh.learning.data.relighting import Relighting
from hf_faceenh.learning.data.sources import (
    check_sizes,
    decode,
    load_faces,
    load_pictures,
    picture_column,
    picture_files,
    pictures_of,
    size_in_header,
    source_of,
    undecoded,
    weighed,
)

__all__ = [
    "Coefficients",
    "DecodedPictures",
    "FacePairs",
    "Relighting",
    "check_sizes",
    "decode",
    "fixed_pairs",
    "load_faces",
    "load_pictures",
    "picture_column",
    "picture_files",
    "pictures_of",
    "size_in_header",
    "source_of",
    "training_loader",
    "undecoded",
    "weighed",
]
