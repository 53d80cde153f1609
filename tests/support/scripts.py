"""The scripts of k8s/striv, as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[2] / "k8s" / "striv" / "scripts"


def load_script(name: str) -> ModuleType:
    """Import k8s/striv/scripts/NAME.py, which no package holds because pods mount it as a file."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
