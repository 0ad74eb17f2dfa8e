"""A results.json in small, as training/evaluate.py writes it."""


def figures(mean, difference):
    spread = {"mean": mean, "interval": [mean - 1, mean + 1], "missing": 0}
    return spread | {"difference": {"mean": difference, "interval": [difference - 0.5, difference + 0.5]}}


def results_of(enhancer, **others):
    """As training/evaluate.py writes them, for one enhancer and others measured beside it."""
    sizes = {"run/enhancer": sum(p.numel() for p in enhancer.parameters()), **others}
    rows = [
        {"model": model, "level": level, "pictures": 48, "metrics": {"psnr": figures(psnr, 1.25)}}
        for level in ("mild", "severe")
        for model, psnr in (("input", 20.0), *((name, 21.25) for name in sizes))
    ]
    none = {"mean": None, "interval": None, "missing": 48}
    rows[1]["metrics"]["landmarks"] = none | {"difference": none}
    models = {name: {"parameters": size, "macs": 1, "seconds_per_face": 0.0625} for name, size in sizes.items()}
    notes = {"psnr": "over all channels"}
    machine = {"size": 256, "device": "cpu", "threads": 2, "batch_size": 8}
    return {**machine, "models": models, "notes": notes, "rows": rows}
