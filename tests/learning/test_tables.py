from huggingface_hub import ModelCardData

from hf_faceenh.learning.tables import model_index_results


def test_model_index_results_fill_a_model_cards_metadata():
    metrics = {"psnr": {"mean": 28.61234}, "landmarks": {"mean": None}}
    rows = [{"model": model, "level": "medium", "pictures": 48, "metrics": metrics} for model in ("input", "enhancer")]
    (result,) = model_index_results(rows)
    (entry,) = ModelCardData(model_name="enhancer", eval_results=[result]).to_dict()["model-index"]
    assert entry["results"][0]["task"]["type"] == "image-to-image"
    assert entry["results"][0]["dataset"]["name"] == "poor faces, medium"
    assert entry["results"][0]["metrics"][0] == {
        **{"type": "psnr", "value": 28.612, "name": "PSNR in dB", "args": {"pictures": 48}}
    }
