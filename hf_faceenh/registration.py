"""transformers' Auto classes know our recognizer as soon as this package is imported, although that imports no torch.

`AutoModel.register` needs transformers, torch and the class: seconds that a mistake on the command line should not
cost. transformers knows no other way to add a package's model: it has no entry points, and a folder's `auto_map` asks
for `trust_remote_code`. So we watch for the import of the Auto classes, and register right after it.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder

AUTO = "transformers.models.auto.modeling_auto"


class AutoClassesFinder:
    """Finds the module of the Auto classes where it always is, and has our recognizer imported right after it."""

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
