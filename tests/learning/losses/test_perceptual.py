import pytest
import torch
from tiny import tiny_enhancer
from torch import nn
from training_pieces import (
    blurred,
    random_faces,
    recognizer,
    resnet,
    untouched,
)
from transformers import BertConfig, BertModel, MobileNetV2Config, MobileNetV2Model, ViTConfig, ViTModel

from hf_faceenh.learning.losses import (
    EnhancerLoss,
    LossConfig,
    PerceptualLoss,
)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.25, image_size=64))


def test_perceptual_loss_is_zero_for_equal_faces_and_grows_with_blur(backbone):
    loss = PerceptualLoss(backbone)
    hq = random_faces()
    assert loss(hq, hq).item() == 0
    assert 0 < loss(blurred(hq, 3), hq) < loss(blurred(hq, 7), hq)


def test_perceptual_loss_trains_the_faces_not_the_backbone(backbone):
    loss = PerceptualLoss(backbone)
    enhanced = torch.zeros(1, 3, 64, 64, requires_grad=True)
    loss(enhanced, random_faces(1)).backward()
    assert enhanced.grad.abs().sum() > 0
    assert untouched(loss)


def test_training_mode_does_not_reach_the_backbone(backbone):
    loss = EnhancerLoss(LossConfig(perceptual_weight=1), perceptual=backbone).train()
    statistics = {name: value.clone() for name, value in backbone.named_buffers()}
    loss.perceptual(random_faces(), random_faces(seed=1))
    assert not any(module.training for module in loss.modules())
    assert all(torch.equal(value, statistics[name]) for name, value in backbone.named_buffers())


def vit():
    """Made for 32 px, so that other sizes need its positions interpolated."""
    return ViTModel(
        ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32,
            patch_size=8,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("make", "channels"), [(resnet, 8), (vit, 16)])
def test_other_vision_models_can_be_the_backbone(make, channels):
    torch.manual_seed(0)
    loss = PerceptualLoss(make(), layers=(1, 2))
    hq = random_faces()
    enhanced = blurred(hq, 5).requires_grad_(True)
    value = loss(enhanced, hq)
    value.backward()
    assert loss(hq, hq).item() == 0 < value.item() <= 4  # of two vectors of length 1
    assert all(feature.shape[1] == channels for feature in loss.features(hq))
    assert enhanced.grad.abs().sum() > 0


def bert():
    return BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))


@pytest.mark.parametrize("make", [bert, recognizer, lambda: nn.Linear(1, 1), tiny_enhancer])
def test_what_is_no_backbone_is_refused_in_one_line(make):
    with pytest.raises(ValueError, match="is no perceptual backbone") as caught:
        PerceptualLoss(make())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layers", [(2, 3), ()])
def test_hidden_states_that_the_backbone_has_not_are_refused(layers):
    with pytest.raises(ValueError, match=r"ResNetModel has the hidden states 0 to 2; .* loss.perceptual_layers"):
        PerceptualLoss(resnet(), layers)
