import pytest

from hf_faceenh.learning.reduction import (
    ReductionConfig,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", 0),
        ("target", 1.1),
        ("rounds", 0),
        ("index_psnr", 0),
        ("index_identity", -1),
        ("index_features", 0),
        ("total_psnr", 0),
        ("total_identity", -0.1),
        ("importance", "random"),
        ("multiple", 0),
        ("largest_ratio", 1),
        ("calibration", 0),
    ],
)
def test_bad_settings_are_refused_in_one_line(name, value):
    with pytest.raises(ValueError, match=f"reduction.{name} must be .*; got {value!r}.$"):
        ReductionConfig(**{name: value})
