"""What systems share whose network learns by the core's training loop."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoembed.devices import resolve_device
from geoembed.errors import OptionError
from geoembed.training.loop import RunResult
from geoembed_systems.cells.nesting import Hierarchy, nested_partitions
from geoembed_systems.learning.task import Answer, ClassHead
from geoembed_systems.learning.training import TrainingOptions, train_heads
from geoembed_systems.pictures.features import PictureFeatures
from geoembed_systems.shared.base import System
from geoembed_systems.shared.naming import named, under

__all__ = ["LearningSystem", "check_cells", "nested_cells"]

Floats = NDArray[np.float64]

# Of the places, what a given partition must hold: with less it was made of others.
_LEAST_HELD = 0.5


class LearningSystem(System):
    """A system with a network that is trained.

    A subclass writes `_build` beside what `System` asks for.

    Parameters
    ----------
    epochs : float
        Passes over the pictures.
    batch_size : int
        Pictures a step.
    learning_rate : float
        At the start; it falls to 0 along a cosine.
    weight_decay : float
        Of AdamW.
    smooth_km : float
        If above 0, cells near the true one share its target, exp(-(d_i - d_true) / smooth_km);
        75 is PIGEON's.
    precision : {"float32", "bfloat16", "float16"}
        Of the network while it learns.
    run_folder : str or Path, optional
        Of the run: log, curves, checkpoints; none of it is kept if not given.
    resume : bool
        Go on from the last checkpoint in `run_folder`.
    training : mapping, optional
        Settings of the core's training loop, such as ``{"optimiser.schedule": "constant"}``.

    Attributes
    ----------
    network_ : nn.Module
        Trained.
    run_ : RunResult
        What the run has come to; only after `fit`.
    """

    epochs: float
    batch_size: int
    learning_rate: float
    weight_decay: float
    smooth_km: float
    precision: str
    run_folder: str | Path | None
    resume: bool
    training: Mapping[str, Any] | None

    network_: Any
    run_: RunResult

    @abstractmethod
    def _build(self) -> nn.Module:
        """Build the network with new weights, from what is learned beside it and `layout_`."""

    def _learn(
        self,
        name: str,
        features: PictureFeatures,
        lonlat: Floats,
        heads: Sequence[ClassHead],
        *,
        answer: Answer,
        facts: Mapping[str, Any],
        network: Callable[[], nn.Module] | None = None,
    ) -> None:
        """Train `network_` by the core's loop; sets `layout_`, which `_build` may look at."""
        self.layout_ = features.layout
        self.network_, self.run_ = train_heads(
            name,
            network or self._build,
            features,
            lonlat,
            heads,
            answer=answer,
            facts=facts,
            options=self._options(),
        )

    def _options(self) -> TrainingOptions:
        return TrainingOptions(
            epochs=self.epochs,
            batch=self.batch_size,
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            smooth_km=self.smooth_km,
            seed=self.random_state,
            device=self.device,
            precision=self.precision,
            folder=self.run_folder,
            resume=self.resume,
            progress=self.progress,
            overrides=dict(self.training or {}),
        )

    def _ready(self, features: PictureFeatures) -> tuple[Any, Tensor]:
        """Return the network and rows (n V, width) on the device, for use without gradients."""
        device = resolve_device(self.device)
        rows = features.flat()
        return (
            self.network_.eval().to(device),
            torch.from_numpy(rows.reshape(-1, rows.shape[2])).to(device),
        )

    def _network_state(self) -> dict[str, Any]:
        return named("network.", self.network_.state_dict())

    def _restore_network(self, tensors: Mapping[str, Any]) -> None:
        network = self._build()
        network.load_state_dict(
            {
                name: torch.from_numpy(np.array(value))
                for name, value in under("network.", tensors).items()
            }
        )
        self.network_ = network.eval()


def nested_cells(given: Any, lonlat: Floats, *, t_max: Any, t_min: Any) -> Hierarchy:
    """Return the nested partitions that a system was given, or make them of its places.

    Parameters
    ----------
    given : Hierarchy or None
        The option ``hierarchy=``.
    lonlat : array of shape (n, 2), float64
        Places to learn from, degrees, WGS 84.
    t_max, t_min : int, sequence of int or "auto"
        As `geoembed_systems.cells.nesting.nested_partitions` takes them.

    Returns
    -------
    Hierarchy
        Of those places.

    Raises
    ------
    OptionError
        If what was given is no hierarchy, or was made of other places; or as `nested_partitions`.

    Examples
    --------
    >>> places = np.random.default_rng(0).uniform(0, 30, (500, 2))
    >>> len(nested_cells(None, places, t_max=(300, 100), t_min=10))
    2
    """
    if given is None:
        return nested_partitions(lonlat, t_max=t_max, t_min=t_min)
    if not isinstance(given, Hierarchy):
        raise OptionError(f"hierarchy={given!r} is no Hierarchy: see nested_partitions.")
    check_cells(given.finest.locate(lonlat) >= 0, "hierarchy")
    return given


def check_cells(held: NDArray[np.bool_], name: str) -> None:
    """Refuse cells that were made of other places than those to learn from.

    Parameters
    ----------
    held : array of bool, shape (n,)
        Which places lie in a cell.
    name : str
        Of the option that the cells were given by.

    Raises
    ------
    OptionError
        If it is fewer than half of them.

    Examples
    --------
    >>> check_cells(np.array([True, True, False]), "partition")
    """
    share = float(held.mean())
    if share < _LEAST_HELD:
        raise OptionError(
            f"{name}= is a partition of other data: only {int(held.sum()):,} of {len(held):,} "
            "places lie in its cells. Give one that was made of places like these, or leave it out."
        )
