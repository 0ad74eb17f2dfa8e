"""The model card of a pipeline, with and without figures."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from measured import results_of
from tiny import tiny_enhancer, tiny_pipeline

from hf_faceenh import FaceEnhancePipeline, model_card
from hf_faceenh.results import read_results

ROOT = Path(__file__).parents[1]


def test_the_template_is_a_model_card_itself():
    assert (ROOT / "model_card.md").read_text() == (model_card.REPOSITORY / "model_card.md").read_text()
    data = ModelCard.load(ROOT / "model_card.md").data
    assert (data.library_name, data.pipeline_tag) == ("diffusers", "image-to-image")


def test_a_card_without_figures_says_so(tiny):
    card = ModelCard(str(model_card.model_card(tiny, repo_id="tiny-faces")))
    assert card.data.library_name == "diffusers" and card.data.eval_results is None
    assert (card.data.license, card.data.license_name) == ("other", "licences-of-the-components")  # tiny states none
    assert "None was measured" in card.text and "{{" not in card.text and "{%" not in card.text
    assert "do not use the results for forensics or to identify" in " ".join(card.text.split())
    assert 'from_pretrained("tiny-faces")' in card.text


def test_the_cards_figures_come_from_the_evaluation(tiny):
    results = results_of(tiny.enhancer)
    card = model_card.model_card(tiny, results, "org/faces", ["org/portraits", "org/people"])
    again = ModelCard(str(card))
    assert again.data.model_name == "faces" and again.data.metrics == ["psnr", "landmarks"]
    assert again.data.datasets == ["org/portraits", "org/people", model_card.WIDER_FACE]
    assert "not the package's own, trained on org/portraits and org/people." in card.text
    found = [(r.metric_type, r.metric_value, r.dataset_name, r.dataset_config) for r in again.data.eval_results]
    assert found == [("psnr", 21.25, f"poor faces, {level}", level) for level in ("mild", "severe")]
    expected = "| mild | PSNR in dB ↑ | 20.00 [19.00, 21.00] | 21.25 [20.25, 22.25] | +1.25 [+0.75, +1.75] |"
    assert expected in card.text and expected.replace("mild", "severe") in card.text
    assert "| mild | landmark error in eye distances ↓ | – | – | – |" in card.text
    assert "0.062 s per face on cpu" in card.text and "PSNR in dB: over all channels." in card.text
    assert "--lq DEGRADED/mild DEGRADED/severe --model" in card.text and "None was measured" not in card.text
    assert "trained on org/portraits" in card.text and "run/enhancer" not in card.text


def test_the_card_says_for_whom_the_enhancer_works(tiny):
    gain = {"level": "severe", "faces": 7, "psnr": {"mean": 1.5, "interval": [1.0, 2.0]}, "worse": 1, "identity": 0.75}
    gains = [{"model": model, "group": "children"} | gain for model in ("run/enhancer", "other")]
    card = model_card.model_card(tiny, results_of(tiny.enhancer, other=123) | {"gains": gains})
    assert card.text.count("| children | 7 | severe | +1.50 [+1.00, +2.00] | 1 | × 0.75 |") == 1


def test_figures_of_another_model_are_refused(tiny):
    side_by_side = results_of(tiny.enhancer, other=123)
    assert {row["model"] for row in model_card.own_rows(side_by_side, tiny.enhancer)} == {"input", "run/enhancer"}
    with pytest.raises(ValueError, match="figures of 0 models"):
        model_card.own_rows(results_of(tiny_enhancer(16)), tiny.enhancer)
    with pytest.raises(ValueError, match="figures of 2 models"):
        model_card.own_rows({"rows": side_by_side["rows"]}, tiny.enhancer)


@pytest.mark.parametrize(
    "text", ["{", "[]", "[" * 100_000, "{}", '{"rows": [1]}', '{"rows": [{"model": "a"}]}'], ids=range(6)
)
def test_what_is_no_evaluation_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match="not a results.json of training/evaluate.py"):
        read_results(tmp_path / "results.json")
    with pytest.raises(OSError, match="/dev/zero: this is a device or a pipe, not a file"):  # and would never end
        read_results("/dev/zero")


def test_the_card_tells_the_packages_own_weights_from_others(bundled):
    ours = model_card.model_card(bundled, repo_id="org/faces")
    assert ours.data.license == "apache-2.0" and "of old photographs (fading" in " ".join(ours.text.split())
    assert "mostly frontal and smiling" in ours.text and "not the package's own" not in ours.text
    fast = model_card.model_card(FaceEnhancePipeline.from_pretrained(variant="fast"))
    assert "This is `fast`" in fast.text and "not the package's own" not in fast.text
    mixed = model_card.model_card(tiny_pipeline(bundled, parser=bundled.parser))
    assert "**Enhancer**: not the package's own" in mixed.text and "**Parser**: trained" in mixed.text
