from hf_faceenh.learning.parsing import CELEBAMASK_HQ, LABELS, to_label_ids


def test_regions_are_mapped_by_name():
    table = to_label_ids()
    names = {name: LABELS[table[i]] for i, name in enumerate(CELEBAMASK_HQ)}
    assert {name for name, ours in names.items() if name == ours} == set(LABELS)
    assert names["eye_g"] == "skin"
    assert names["hat"] == names["l_ear"] == names["r_ear"] == names["ear_r"] == "hair"
    assert LABELS[to_label_ids(head_id=CELEBAMASK_HQ.index("neck"))[CELEBAMASK_HQ.index("neck")]] == "hair"
    assert names["neck"] == names["neck_l"] == names["cloth"] == "background"
