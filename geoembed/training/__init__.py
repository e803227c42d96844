"""The training pipeline: from geotagged pictures to encoders of places and pictures."""

from typing import TYPE_CHECKING

from geoembed.lazy import resolver

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
    from geoembed.training.supervised import SupervisedModel as SupervisedModel
    from geoembed.training.supervised import SupervisedTask as SupervisedTask
    from geoembed.training.tasks import TrainingTask as TrainingTask

# Resolved when first used: their modules import torch.
_HOME = {
    "RunResult": "loop",
    "SupervisedModel": "supervised",
    "SupervisedTask": "supervised",
    "TrainingSettings": "settings",
    "TrainingTask": "tasks",
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


__getattr__ = resolver(__name__, {name: f"{__name__}.{home}" for name, home in _HOME.items()})
