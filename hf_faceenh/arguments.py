"""What can be asked of a call of the pipeline."""

from numbers import Real
from typing import get_args

from hf_faceenh.fusion import Regions
from hf_faceenh.strength import Strength
from hf_faceenh.upscaling import UPSCALES

SMALLEST_TILE = 64  # px


def check_call(
    upscale: int,
    strength: Strength,
    min_face_size: float,
    max_faces: int | None,
    detection_threshold: float,
    face_batch_size: int,
    tile_size: int,
    identity_limit: float | None,
    grain: float | None,
    denoise: float | None,
    fidelity: float | None,
    regions: str,
    aligned: bool,
) -> None:
    """Checks the arguments of `FaceEnhancePipeline.__call__` that have a range.

    Raises:
        ValueError: with one line that says which is wrong and what was expected.
    """
    if upscale not in UPSCALES:
        raise ValueError(f"upscale must be 1, 2 or 4; got {upscale!r}.")
    if not callable(strength) and not (isinstance(strength, Real) and 0 <= strength <= 1):
        raise ValueError(f"strength must lie in [0, 1], or be a function of a face; got {strength!r}.")
    if not 0 <= detection_threshold <= 1:
        raise ValueError(f"detection_threshold must lie in [0, 1]; got {detection_threshold!r}.")
    if min_face_size < 0:
        raise ValueError(f"min_face_size must be 0 or more px; got {min_face_size!r}.")
    if max_faces is not None and max_faces < 0:
        raise ValueError(f"max_faces must be 0 or more, or None for all; got {max_faces!r}.")
    if face_batch_size < 1:
        raise ValueError(f"face_batch_size must be at least 1; got {face_batch_size!r}.")
    if tile_size < SMALLEST_TILE:
        raise ValueError(f"tile_size must be at least {SMALLEST_TILE} px; got {tile_size!r}.")
    if identity_limit is not None and not identity_limit >= 0:
        raise ValueError(f"identity_limit must be 0 or more, or None for the default; got {identity_limit!r}.")
    if grain is not None and not 0 <= grain <= 1:
        raise ValueError(f"grain must lie in [0, 1], or be None for as much as there is; got {grain!r}.")
    if grain is not None and aligned:
        raise ValueError("Aligned crops get no grain. Leave grain out, or pass aligned=False for photographs.")
    if denoise is not None and not 0 <= denoise <= 1:
        raise ValueError(f"denoise must lie in [0, 1], or be None for the default; got {denoise!r}.")
    if denoise is not None and aligned:
        raise ValueError("Aligned crops are not denoised. Leave denoise out, or pass aligned=False for photographs.")
    if fidelity is not None and not 0 <= fidelity <= 1:
        raise ValueError(f"fidelity must lie in [0, 1], or be None for the enhancer's own; got {fidelity!r}.")
    if regions not in get_args(Regions):
        raise ValueError(f'regions must be "head" or "face"; got {regions!r}.')
