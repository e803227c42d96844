"""The training pipeline: from geotagged pictures to encoders of places and pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoembed.training.config import list_recipes as list_recipes
    from geoembed.training.config import load_settings as load_settings
    from geoembed.training.export import export_run as export_run
    from geoembed.training.feature_store import open_features as open_features
    from geoembed.training.features import write_features as write_features
    from geoembed.training.fine_tuning import fine_tune as fine_tune
    from geoembed.training.loop import RunResult as RunResult
    from geoembed.training.loop import train as train
    from geoembed.training.onnx_export import export_onnx as export_onnx
    from geoembed.training.packing import pack as pack
    from geoembed.training.plan import plan_run as plan_run
    from geoembed.training.program_export import export_program as export_program
    from geoembed.training.settings import TrainingSettings as TrainingSettings
    from geoembed.training.splitting import split_rows as split_rows

# Resolved when first used: their modules import torch.
_HOME = {
    "RunResult": "loop",
    "TrainingSettings": "settings",
    "export_onnx": "onnx_export",
    "export_program": "program_export",
    "export_run": "export",
    "fine_tune": "fine_tuning",
    "list_recipes": "config",
    "load_settings": "config",
    "open_features": "feature_store",
    "pack": "packing",
    "plan_run": "plan",
    "split_rows": "splitting",
    "train": "loop",
    "write_features": "features",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"geoembed.training.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'geoembed.training' has no attribute {name!r}")
