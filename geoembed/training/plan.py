"""What a run will do and cost, before it starts: steps, parameters, memory, time."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import torch

from geoembed.errors import OptionError
from geoembed.training.amounts import size_text, time_text
from geoembed.training.assembling import check_features
from geoembed.training.batches import FeatureData, TrainingData
from geoembed.training.feeds import FeatureFeed
from geoembed.training.model import GeolocationModel, build_model
from geoembed.training.order import GlobalOrder
from geoembed.training.plan_measuring import Costs, measure_costs
from geoembed.training.schedule import count_validations, total_steps
from geoembed.training.settings import TrainingSettings
from geoembed.training.splitting import Split

__all__ = ["Plan", "plan_run"]

_FLOAT: Final = 4
# Logits, their softmax, and the gradient with respect to them.
_LOGITS: Final = 3
# What is kept for gradients, and for a moment about two thirds of it again on the way back:
# measured on the small convolutional tower on a CPU.
_BACKWARD: Final = 5 / 3
# A product forth, and two back.
_PRODUCTS: Final = 3
_LAND_KM2: Final = 149e6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do and cost.

    Parameters
    ----------
    name, summary : str
        Of the run.
    rows : mapping of str to int
        Places that are trained on, held out, left out and unused.
    batch, steps, validations : int
        Pictures a step; steps; how often held-out places are looked up.
    epochs : float
        Passes over the training places.
    parameters : mapping of str to mapping
        Part -> numbers ``"trained"`` and ``"frozen"``.
    memory : mapping of str to int
        Bytes of each process on its device, beside Python and torch themselves.
    step_s : mapping of str to float
        Seconds of a step by what they are spent on.
    reading_beside : bool
        Whether ``"reading"`` goes on beside the rest of a step, in workers on processors of their
        own.
    seconds : float
        Of the whole run, with validations.
    processes : int
        That share a batch, each on a device like this one.
    device : str
        That was measured.
    notes : tuple of str
        What the estimates leave out.
    """

    name: str
    summary: str
    rows: Mapping[str, int]
    batch: int
    steps: int
    validations: int
    epochs: float
    parameters: Mapping[str, Mapping[str, int]]
    memory: Mapping[str, int]
    step_s: Mapping[str, float]
    reading_beside: bool
    seconds: float
    processes: int
    device: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON holds them."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the plan as lines for a terminal."""
        rows, memory = self.rows, self.memory
        spent = ", ".join(f"{part} {1e3 * s:,.0f} ms" for part, s in self.step_s.items())
        parts = ", ".join(f"{part} {size_text(size)}" for part, size in memory.items())
        share = f"{self.batch // self.processes:,} of them on each of {self.processes} processes"
        lines = [
            ("run", f"{self.name}: {self.summary}" if self.summary else self.name),
            ("data", _sentence(rows)),
            (
                "steps",
                f"{self.steps:,} of {self.batch:,} pictures"
                + (f", {share}" if self.processes > 1 else "")
                + f"; {self.epochs:.4g} epochs, {_many(self.validations, 'validation')}",
            ),
            *((kind, self._counts(kind)) for kind in ("trained", "frozen")),
            ("memory", f"about {size_text(sum(memory.values()))}: {parts}"),
            ("step", f"about {1e3 * self.seconds_a_step:,.0f} ms on {self.device}: {spent}"),
            ("time", f"about {time_text(self.seconds)}"),
            *(("note", note) for note in self.notes),
        ]
        return "\n".join(f"{name:<8} {text}" for name, text in lines)

    @property
    def seconds_a_step(self) -> float:
        """Seconds of a step; reading counts as far as it does not go on beside the rest."""
        reading = self.step_s["reading"]
        rest = sum(self.step_s.values()) - reading
        return max(rest, reading) if self.reading_beside else rest + reading

    def _counts(self, kind: str) -> str:
        counts = {part: counted[kind] for part, counted in self.parameters.items()}
        parts = ", ".join(f"{p.replace('_', ' ')} {n:,}" for p, n in counts.items() if n)
        return f"{sum(counts.values()):,} parameters" + (f": {parts}" if parts else "")


def plan_run(
    settings: TrainingSettings, data: TrainingData, split: Split, processes: int = 1
) -> Plan:
    """Say what a run will do, and estimate its memory and time.

    Parameters
    ----------
    settings : TrainingSettings
        Of the run.
    data : PictureData or FeatureData
        As the run would open them.
    split : Split
        Rows of the data.
    processes : int
        That will share each batch.

    Returns
    -------
    Plan
        Its times are measured on a few rows, on the device of the settings as busy as it is now.

    Raises
    ------
    OptionError
        If the batch is larger than there are training places, or smaller than there are
        processes, or parts do not fit together, such as features of another tower or other views.
    WeightsError, MissingWeightsError
        If what the run starts from is not here.

    Examples
    --------
    >>> from geoembed.training.bluemarble import BlueMarble
    >>> from geoembed.training.config import load_settings
    >>> from geoembed.training.splitting import split_rows
    >>> settings = load_settings("bluemarble", ["data.crops=300", "loop.batch=64"])
    >>> data = BlueMarble(300, 48)
    >>> plan = plan_run(settings, data, split_rows(data.lonlat, settings.data))
    >>> plan.steps * 64 >= settings.loop.epochs * plan.rows["train"] > (plan.steps - 1) * 64
    True
    """
    from geoembed.devices import resolve_device

    batch = settings.loop.batch
    order = GlobalOrder(split.train, batch, settings.seed)
    if batch < processes:
        raise OptionError(
            f"loop.batch = {batch:,} pictures cannot be shared by {processes:,} processes: take a "
            "larger batch."
        )
    steps = total_steps(settings, order)
    features = getattr(data, "dimension", None)
    if features is not None:
        stored = cast("FeatureData", data)
        check_features(settings, stored)
        # It refuses views that were drawn otherwise, as it does in a run.
        FeatureFeed(stored, order, settings.views, seed=settings.seed)
    device = resolve_device(settings.loop.device)
    model = build_model(
        settings, device=device, feature_dimension=features, backbone=features is None
    )
    costs = measure_costs(model, settings, data, split.train)
    step_s = _step_seconds(settings, model, costs, processes)
    epochs = order.epoch(steps)
    validations, each_s, notes = _validation(settings, split, costs, order)
    notes += [*_copies(settings, len(split.train)), *getattr(data, "notes", ())]
    busy = torch.get_num_threads() if device.type == "cpu" else 1
    threads = f" with {busy} thread{'s' * (busy > 1)}" if device.type == "cpu" else ""
    plan = Plan(
        name=settings.name,
        summary=settings.summary,
        rows=split.sizes(),
        batch=batch,
        steps=steps,
        validations=validations,
        epochs=epochs,
        parameters=model.describe(),
        memory=_memory(settings, model, costs, processes),
        step_s=step_s,
        reading_beside=0 < settings.loop.workers <= _processors() - busy,
        seconds=0.0,
        processes=processes,
        device=f"{device}{threads}",
        notes=tuple(notes),
    )
    seconds = steps * plan.seconds_a_step + validations * each_s
    return Plan(**{**plan.__dict__, "seconds": seconds})


def _step_seconds(
    settings: TrainingSettings, model: GeolocationModel, costs: Costs, processes: int
) -> dict[str, float]:
    objective, loop = settings.objective, settings.loop
    pictures = loop.batch / processes
    views = pictures * settings.views.count
    places = (loop.batch + objective.queue + bool(objective.anchor) * objective.anchor_places) / (
        processes
    )
    # Parts are encoded once without gradients, so that all negatives are there, and once with.
    again = loop.accumulate > 1
    logits = 2.0 * views * (loop.batch + objective.queue) * model.architecture.output
    trained = sum(weight.numel() for _, weight in model.trained())
    anchor = bool(objective.anchor) * objective.anchor_places / processes
    return {
        "places": places * (costs.place_s + again * costs.place_forward_s)
        + anchor * costs.place_forward_s,
        "pictures": views * (costs.view_s + again * costs.view_forward_s),
        "logits": _PRODUCTS * logits / costs.product_flop_s,
        "weights": trained * costs.weight_s,
        "reading": pictures * costs.picture_s / max(1, min(loop.workers, _processors())),
    }


def _memory(
    settings: TrainingSettings, model: GeolocationModel, costs: Costs, processes: int
) -> dict[str, int]:
    objective, loop = settings.objective, settings.loop
    trained = sum(weight.numel() for _, weight in model.trained())
    held = sum(tensor.numel() for tensor in model.state_dict().values())
    backbone = model.describe().get("backbone", {}).get("frozen", 0)
    location = sum(t.numel() for t in model.location_encoder.state_dict().values())
    parts = processes * loop.accumulate
    places, views = loop.batch + objective.queue, loop.batch * settings.views.count
    half = settings.loop.precision != "float32" and model.device.type == "cuda"
    frozen = backbone * (_FLOAT // 2 if half else _FLOAT)
    extra = location * bool(objective.anchor) + held * bool(settings.optimiser.ema)
    return {
        "weights": held * _FLOAT + frozen + extra * _FLOAT,
        # Adam keeps two means of each.
        "gradients and optimiser": 3 * trained * _FLOAT,
        "activations": round(
            _BACKWARD * (places * costs.place_bytes + views * costs.view_bytes) / parts
        ),
        "pictures": views // processes * costs.view_size * _FLOAT,
        "logits": _LOGITS * views * places * _FLOAT // processes,
    }


def _validation(
    settings: TrainingSettings, split: Split, costs: Costs, order: GlobalOrder
) -> tuple[int, float, list[str]]:
    """How often there is one, what one takes, and what is not known of it."""
    asked = settings.validation
    queries = min(len(split.validation), asked.queries or len(split.validation))
    if not queries:
        return 0, 0.0, ["no places are held out: the run is not validated"]
    notes = []
    gallery = 0
    if asked.gallery == "train":
        gallery = min(len(split.train), asked.gallery_size or len(split.train))
    elif asked.gallery == "land":
        gallery = round(_LAND_KM2 / asked.spacing_km**2)
    else:
        notes.append(f"the time leaves out encoding the gallery {asked.gallery!r}")
    per_query = costs.view_forward_s + costs.picture_s
    count = count_validations(settings, order)
    return count, gallery * costs.place_forward_s + queries * per_query, notes


def _copies(settings: TrainingSettings, rows: int) -> list[str]:
    """What is to be said of pictures whose own places are among their negatives."""
    objective, batch = settings.objective, settings.loop.batch
    # Copies share the answer where it is spread.
    apart = objective.mask_own or objective.mask_km or objective.smooth_km
    if apart or not objective.queue or objective.queue + batch <= rows:
        return []
    return [
        f"queue and batch hold {objective.queue + batch:,} places, and there are {rows:,} to train "
        "on: the queue holds places of the batch's own pictures, which count as their negatives. "
        "Set objective.mask_own = true or objective.mask_km, or a smaller objective.queue"
    ]


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _processors() -> int:
    return os.cpu_count() or 1


def _sentence(rows: Mapping[str, int]) -> str:
    text = f"{rows['train']:,} training places, {rows['validation']:,} held out"
    if rows["left_out"]:
        text += f", {rows['left_out']:,} left out near those"
    if rows["unused"]:
        text += f", {rows['unused']:,} unused (data.fraction)"
    return text
