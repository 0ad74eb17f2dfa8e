"""Trains a face enhancer by the whole method, in rounds, on any folder of sharp, aligned faces or `datasets` name.

    accelerate launch training/train.py --config training/configs/smoke.yaml --dataset FACES --output_dir OUT

A round: sharp faces are degraded with this round's coefficients, the enhancer restores them and is trained; then the
discriminator's means give the augmentation factor, which decides the next round's coefficients, and every layer's
channels are reduced by as much as the quality after it allows. `hf_faceenh/learning/trainer.py` is the method; here it
is wired to Accelerate and the command line. `--print_config` shows every setting with its default.

In OUT: rounds.jsonl (one line a round), samples/ (degraded | enhanced | sharp), checkpoints/, and enhancer/, the best
averaged weights of the smallest network so far, a `from_pretrained` folder. `--resume latest` goes on after any stop.
"""

import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed

from hf_faceenh.allocator import keep_freed_memory
from hf_faceenh.files import written_whole
from hf_faceenh.hub import push_enhancer
from hf_faceenh.learning.options import SAVED, TrainingOptions, check_run, flat
from hf_faceenh.learning.scripts import parse_options, run_script
from hf_faceenh.learning.trainer import Trainer
from hf_faceenh.models import load_enhancer


def main(arguments: list[str] | None = None) -> None:
    keep_freed_memory()
    options, text = parse_options(TrainingOptions, __doc__, arguments)
    check_run(options, text)
    accelerator = Accelerator(
        mixed_precision=options.mixed_precision,
        log_with=options.report_to or None,
        project_dir=options.output_dir if options.report_to else None,
    )
    accelerator.print(text)
    set_seed(options.seed)
    trainer = Trainer(options.in_effect(), accelerator)
    if accelerator.is_main_process:
        options.output_dir.mkdir(parents=True, exist_ok=True)
        with written_whole(options.output_dir / SAVED) as path:
            path.write_text(text)
    accelerator.wait_for_everyone()
    if options.report_to:
        settings = flat(yaml.safe_load(text)).items()
        plain = {name: value if isinstance(value, (int, float)) else str(value) for name, value in settings}
        accelerator.init_trackers("hf_faceenh", plain)
    reason = trainer.run()
    accelerator.print(f"Ended: {reason}.", flush=True)
    if options.push_to_hub and accelerator.is_main_process and not trainer.stopping:
        folder = options.output_dir / "enhancer"
        rows = trainer.validation.card_rows(load_enhancer(folder).to(accelerator.device))
        address = push_enhancer(folder, options.push_to_hub, rows, datasets=options.datasets)
        accelerator.print(f"Pushed: {address}", flush=True)
    accelerator.end_training()


if __name__ == "__main__":
    run_script(main)
