"""Makes our recognizer known to transformers' Auto classes when this package is imported, without importing torch.

`AutoModel.register` needs transformers, torch and the class. Importing these takes seconds, and a mistake on the
command line should not have to wait for them. transformers offers no other way to add a model: it has no entry points,
and the `auto_map` of a model's folder requires `trust_remote_code`. So this module watches for the import of the Auto
classes, and registers the recognizer right after it.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder

AUTO = "transformers.models.auto.modeling_auto"


class AutoClassesFinder:
    """Finds the module of the Auto classes where it is, and has ours imported right after it."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == AUTO else None
        if spec is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (execute(module), _register())
        return spec


def register_when_needed() -> None:
    """Registers the recognizer now if the Auto classes are there, else when they are imported."""
    if AUTO in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, AutoClassesFinder())


def _register() -> None:
    importlib.import_module("hf_faceenh.models.recognizer")
