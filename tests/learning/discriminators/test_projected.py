import pytest
import torch
import torch.nn.functional as F
from training_pieces import blurred, projected, random_faces, resnet
from transformers import ViTConfig, ViTModel

from hf_faceenh.alignment import FFHQ_TEMPLATE
from hf_faceenh.learning.discriminators import DiscriminatorConfig, make_discriminator
from hf_faceenh.learning.discriminators.projected import face_parts
from hf_faceenh.learning.losses import GAMES, DiscriminatorLoss, LossConfig
from hf_faceenh.models import FaceDiscriminator


def trained(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(("parts", "views"), [(False, 1), (True, 4)])
def test_every_scale_and_view_has_as_many_logits(parts, views):
    output = projected(parts=parts)(random_faces(3, 64))
    assert output.logits.shape == (3, views * 4 * 16)
    assert len(output.features) == (3 if parts else 1) * 4 * 2


def test_only_the_heads_are_trained_and_saved():
    network = projected(parts=True)
    assert all(name.startswith("heads.") for name in trained(network))
    before = {name: value.clone() for name, value in network.named_buffers()}
    network.train()
    network(random_faces(2, 64)).logits.sum().backward()
    changed = {name for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("heads.") for name in changed)  # no statistics of the backbone's
    parameters = sum(value.numel() for name, value in network.named_parameters() if name in trained(network))
    assert parameters <= sum(value.numel() for value in network.state_dict().values()) < 2 * parameters


@torch.no_grad()
def test_with_the_heads_it_is_the_same_discriminator_again():
    network = projected(parts=True).eval()
    again = projected(seed=1, parts=True).eval()
    faces = random_faces(2, 64)
    assert not torch.equal(again(faces).logits, network(faces).logits)
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(faces).logits, network(faces).logits, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="Missing key"):
        again.load_state_dict({})


@torch.no_grad()
def test_the_mixing_shows_coarse_scales_to_the_fine_ones():
    network = projected()
    maps = network.vision(random_faces(1, 64))
    changed = [scale.clone() for scale in maps]
    changed[-1] += 1
    finest = [network.mixing(scales)[0] for scales in (maps, changed)]
    assert (finest[0] - finest[1]).abs().max() > 1e-3


def test_it_learns_to_tell_blurred_from_sharp_faces_it_has_not_seen():
    network, loss = projected(), DiscriminatorLoss(LossConfig(), GAMES["projected"])
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 2e-3, betas=(0.0, 0.99))
    for step in range(30):
        hq = random_faces(4, 64, seed=step)
        terms = loss(network, hq, blurred(hq, 3), blurred(hq, 3), step)
        assert terms.keys() == {"discriminator"}  # spectral normalisation, no R1
        optimizer.zero_grad()
        loss.total(terms).backward()
        optimizer.step()
    others = random_faces(4, 64, seed=100)
    with torch.no_grad():
        sharp, soft = (network(faces).logits.mean(dim=1) for faces in (others, blurred(others, 3)))
    assert sharp.min() > soft.max()


def test_the_parts_are_eyes_and_mouth():
    """Dots at the landmarks come to the middle; the right eye is mirrored, so that both look outwards alike."""
    faces = torch.zeros(1, 3, 256, 256)
    left, right, _, *corners = ((round(256 * x), round(256 * y)) for x, y in FFHQ_TEMPLATE)
    for x, y in (left, right, *corners):
        faces[..., y - 2 : y + 2, x - 2 : x + 2] = 1
    faces[..., right[1], right[0] + 20] = 2  # outwards of the right eye
    parts = face_parts(faces, 128)
    assert all(part.shape == (1, 3, 128, 128) for part in parts)
    for eye in parts[:2]:
        assert eye[0, 0, 64, 64] == 1
    y, x = divmod(parts[1][0, 0].argmax().item(), 128)
    assert abs(y - 64) <= 2 and x < 50
    columns = parts[2][0, 0].amax(dim=0).nonzero()
    assert (columns.min() + columns.max()).item() / 2 == pytest.approx(63.5, abs=2)


@torch.no_grad()
def test_a_grey_one_sees_no_colours():
    faces = random_faces(2, 64)
    tinted = faces + torch.tensor([0.2, 0.1, -0.3])[:, None, None]
    for grey in (False, True):
        network = projected(parts=True, grey=grey).eval()
        assert torch.allclose(network(tinted).logits, network(faces).logits, atol=1e-4) == grey


@torch.no_grad()
def test_larger_faces_are_looked_at_reduced_to_the_side():
    network, faces = projected(side=32).eval(), random_faces(2, 64)
    reduced = F.avg_pool2d(faces, 2)
    torch.testing.assert_close(network(faces).logits, network(reduced).logits)
    assert not torch.allclose(projected().eval()(faces).logits, network(reduced).logits)


def test_autocast_keeps_logits_and_gradients_near_those_of_float32():
    network, faces = projected(parts=True).eval(), random_faces(2, 64).requires_grad_(True)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = network(faces).logits
        (gradient,) = torch.autograd.grad(GAMES["projected"].generator(logits).mean(), faces)
        gradients.append(gradient.flatten())
    assert torch.cosine_similarity(*gradients, dim=0) > 0.7


def test_a_config_makes_the_kind_that_it_names():
    assert isinstance(make_discriminator(DiscriminatorConfig(narrow=1 / 64), 16, None), FaceDiscriminator)
    network = make_discriminator(DiscriminatorConfig(kind="projected", layers=(0, 1)), 64, resnet())
    assert network(random_faces(1, 64)).logits.shape == (1, 32)


def tokens():
    return ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32)
    )


@pytest.mark.parametrize(
    ("backbone", "changes", "message"),
    [
        (lambda: None, {}, "discriminator.kind is projected, but there is no perceptual_backbone; give one"),
        (resnet, {}, "has the hidden states 0 to 2; .* Choose others with discriminator.layers"),
        (tokens, {"layers": (0, 1)}, "ViTModel returns tokens; a projected discriminator needs maps"),
    ],
)
def test_a_backbone_that_does_not_do_is_one_clear_line(backbone, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        make_discriminator(DiscriminatorConfig(kind="projected", **changes), 64, backbone())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "patch"}, "discriminator.kind must be gpen or projected; got 'patch'"),
        ({"width": 0}, "discriminator.width must be at least 1; got 0"),
        ({"narrow": 0}, "discriminator.narrow must be above 0; got 0"),
        ({"parts": True}, "discriminator.parts must be false, but for the kind projected; got True"),
        ({"grey": True}, "discriminator.grey must be false, but for the kind projected; got True"),
        ({"side": 16}, "discriminator.side must be at least 32; got 16"),
    ],
)
def test_a_mistaken_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DiscriminatorConfig(**changes)
