"""Loading is strict, and says what does not fit."""

import re

import pytest
import torch
from checkpoints import KERNEL, golden, refused, saved, without
from published_models import PUBLISHED

from hf_faceenh.convert import ConversionError, load_published


def test_half_precision_file_becomes_float32(tmp_path):
    state = {key: value.half() for key, value in golden("srvgg_x4").items()}
    assert load_published(saved(state, tmp_path / "half.pth")).dtype == torch.float32


@pytest.mark.parametrize("name", ["gpen_generator", "gpen_discriminator", "rrdb_x2", "srvgg_x4"])
def test_every_key_is_needed_and_no_other_allowed(name, tmp_path):
    state = golden(name)
    for key in list(state)[::9]:
        with pytest.raises(ConversionError, match=key):
            load_published(saved(without(state, key), tmp_path / "short.pth"))
    extra = saved(state | {"extra.weight": torch.zeros(1)}, tmp_path / "extra.pth")
    refused(extra, tmp_path / "out", "left over: extra.weight")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: without(s, "generator.convs.3.noise.weight"), "GPEN, but keys are missing: generator.convs.3"),
        (lambda s: without(s, "generator.convs.3.conv.weight"), "the key generator.convs.3.conv.weight is missing"),
        (lambda s: s | {"generator.convs.3.activate.bias": torch.zeros(5)}, r"has the shape \[5\], expected \[32\]"),
        (lambda s: s | {"generator.conv1.conv.weight": torch.zeros(5)}, "GPEN, but its shapes make no such network"),
        (lambda s: {k: v for k, v in s.items() if "to_rgbs.3" not in k}, "GPEN, but its shapes make no such network"),
        (lambda s: {k: v for k, v in s.items() if "style.2" not in k}, "the key generator.style.2.weight is missing"),
        (lambda s: s | {"ecd1.0.0.kernel": KERNEL * 4}, "ecd1.0.0.kernel is not the"),
        (lambda s: s | {"ecd1.0.0.kernel": KERNEL[:3]}, "ecd1.0.0.kernel is not the"),
        (lambda s: {"a.weight": torch.zeros(1)}, "unknown network, with keys a.weight; known are GPEN, "),
        (lambda s: {}, "unknown network, with keys none"),
        (lambda s: {"epoch": 3}, "holds no state dict"),
        (lambda s: [1, 2], "holds no state dict"),
        (lambda s: torch.zeros(3), "holds no state dict"),
    ],
)  # fmt: skip
def test_names_what_is_wrong(change, match, tmp_path):
    refused(saved(change(golden()), tmp_path / "damaged.pth"), tmp_path / "out", match)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_key_of_a_family_is_needed_and_no_other_allowed(name, tmp_path):
    architecture, make = PUBLISHED[name]
    state = make()
    for key in list(architecture.places(architecture.load(state)))[::29]:
        with pytest.raises(ConversionError, match=re.escape(key)):
            architecture.load(without(state, key))
    extra = saved(state | {"extra.weight": torch.zeros(1)}, tmp_path / "extra.pth")
    refused(extra, tmp_path / "out", "left over: extra.weight")


def test_foreign_network(tmp_path):
    state = {f"layers.0.residual_group.blocks.0.{name}": torch.zeros(1) for name in ("norm1.weight", "norm1.bias")}
    refused(saved(state, tmp_path / "swinir.pth"), tmp_path / "out", "unknown network")
