"""GeoCLIP's image side: a CLIP, and the trained head that takes its features to those of places.

The feature of a picture is CLIP's projected one, not normalised; the head is applied to it as it
is, as in training. Texts go through the same CLIP's text tower and then the same head.

The towers compute in ``precision``; their layer norms, embeddings and the head are float32 in all.
Against float32, measured on a CLIP of ViT-L/14's size with random weights (no trained ones could be
had), photographs and texts, values up to 0.92, on a CPU:

- ``"bfloat16"``: cosine at least 0.9998, values off by at most 0.012;
- ``"float16"``: cosine at least 0.99999, values off by at most 0.0017;
- ``channels_last`` and ``compile``: rounding, 3e-7 at most.

Half precision is for accelerators: on a CPU without units for it, it is slower than float32.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from geoembed import weights
from geoembed.devices import PRECISIONS
from geoembed.errors import OptionError
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.images.backbone import ClipTensors, build_image_tower, build_text_tower
from geoembed.images.base import ImageEncoder
from geoembed.images.checkpoints import files_stamp, open_checkpoint
from geoembed.images.finding import find_clip
from geoembed.images.head import build_head, load_temperature
from geoembed.images.shapes import architecture_shape
from geoembed.images.texts import tokenize
from geoembed.images.towers import Tower

__all__ = ["ClipImageEncoder", "load"]


class ClipImageEncoder(ImageEncoder):
    """A CLIP, with a trained head if its spec has one, behind the common interface.

    Made by `geoembed.images.load_image_encoder`, not directly. Further CLIPs are registered with
    this module's ``load`` as their factory: ``architecture`` and ``pretrained`` name what open_clip
    knows, an empty ``architecture`` takes what the folder given as ``weights=`` declares.

    Parameters
    ----------
    spec : ImageEncoderSpec
        What it is called and which CLIP it needs.
    **options
        Those of `geoembed.images.load_image_encoder`.
    """

    supports_precision = True

    def __init__(self, spec: ImageEncoderSpec, **options: Any) -> None:
        super().__init__(spec, **options)
        path = find_clip(
            spec, self.options["weights"], allow_download=self.options["allow_download"]
        )
        self._towers = _shared_towers(
            spec.architecture,
            spec.preprocessing,
            str(path),
            files_stamp(path),
            self.precision,
            self.device,
            self.options["channels_last"],
            self.options["compile"],
        )
        self._head = build_head(spec, self._towers.tensors.shape.dimension).to(self.device)
        self._temperature = load_temperature(spec)

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by in the loss; that of the CLIP where there is no head."""
        if self._temperature is None:
            return float(self._towers.tensors["logit_scale"].exp())
        return self._temperature

    @property
    def weights_sha256(self) -> str:
        """Digest of the image tower, as in its file in float32, and of the head; made when asked.

        The same weights have the same digest in every layout and precision.
        """
        return self._towers.digest(self._head)

    @property
    def network(self) -> nn.Module:
        """The image tower itself: pixels (n, 3, size, size) to features, head not applied."""
        tower: nn.Module = self._towers.image
        return tower

    @property
    def tower(self) -> Tower:
        """The CLIP without the head; its digest does not depend on the head."""
        return replace(
            super().tower,
            compute=self._towers.features,
            patches=self._towers.patches,
            dimension=self._towers.tensors.shape.dimension,
            digest=lambda: self._towers.digest(nn.Identity()),
            texts=self._text_features if self.spec.reads_text else None,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
        )

    def _encode_pixels(self, pixels: Tensor) -> Tensor:
        head: Tensor = self._head(self._towers.features(pixels).float())
        return head

    def _encode_texts(self, texts: list[str]) -> Tensor:
        head: Tensor = self._head(self._text_features(texts))
        return head

    def _text_features(self, texts: list[str]) -> Tensor:
        tower, context = self._towers.text()
        tokens = tokenize(texts, context).to(self.device)
        return torch.cat([tower(block).float() for block in torch.split(tokens, self.batch_rows)])


def load(spec: ImageEncoderSpec, **options: Any) -> ClipImageEncoder:
    """Make the encoder of a spec; the factory of ``geoclip.v1`` and of any other CLIP.

    Parameters
    ----------
    spec : ImageEncoderSpec
        What it is called and which CLIP it needs.
    **options
        Those of `geoembed.images.load_image_encoder`.

    Returns
    -------
    ClipImageEncoder
        With the image tower loaded, the text tower not yet.
    """
    return ClipImageEncoder(spec, **options)


class _Towers:
    """The towers of one checkpoint in one precision on one device; the text tower when asked."""

    def __init__(
        self,
        tensors: ClipTensors,
        precision: str,
        device: torch.device,
        channels_last: bool,
        compiled: bool,
    ) -> None:
        self.tensors = tensors
        self._dtype = PRECISIONS[precision]
        self._device = device
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._lock = Lock()
        self._text: nn.Module | None = None
        self._digests: dict[str, str] = {}
        tower: Any = build_image_tower(tensors, self._dtype)
        self.image: Any = tower.to(device=device, memory_format=self._format)
        # The same weights, and tokens beside features; what others call stays as it is.
        self._twin: Any = copy(self.image)
        self._twin.output_tokens = True
        # Compiled when it is first called; tokens, computed once a data set, are not.
        self._call: Callable[[Tensor], Tensor] = (
            torch.compile(self.image) if compiled else self.image
        )
        self._compiled = compiled

    def features(self, pixels: Tensor) -> Tensor:
        """Return the projected features of pixels on the device."""
        try:
            return self._call(pixels.contiguous(memory_format=self._format))
        except Exception as error:
            if self._compiled and type(error).__module__.startswith("torch._"):
                reason = (str(error).strip().splitlines() or ["no reason given"])[0]
                raise OptionError(
                    f"compile=True: torch cannot compile the tower here ({reason}). On a CPU it "
                    "needs a C++ compiler. Leave compile=False."
                ) from error
            raise

    def patches(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return projected features, and patch tokens after the last norm, not projected."""
        features, tokens = self._twin(pixels.contiguous(memory_format=self._format))
        return features, tokens

    def text(self) -> tuple[nn.Module, int]:
        """Return the text tower, loaded on first use from the same file, and its context."""
        with self._lock:
            if self._text is None:
                self._text = build_text_tower(self.tensors, self._dtype).to(self._device)
        return self._text, self.tensors.shape.text.context

    def digest(self, head: nn.Module) -> str:
        """Return the digest of the image tower and a head, computed once for each head."""
        own = weights.digest_tensors(head.state_dict())
        with self._lock:
            if own not in self._digests:
                self._digests[own] = weights.digest_tensors(_Joined(self.tensors, head))
        return self._digests[own]


class _Joined(Mapping[str, Tensor]):
    """Tensors of the image tower, read from the file one at a time, and of the head."""

    def __init__(self, tensors: ClipTensors, head: nn.Module) -> None:
        self._tensors = tensors
        self._head = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}

    def __getitem__(self, name: str) -> Tensor:
        return self._head[name] if name in self._head else self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._tensors if name.startswith("visual."))
        yield from self._head

    def __len__(self) -> int:
        return sum(1 for _ in self)


# Towers that some encoder uses, and the last two, used or not: one is 1.2 GB in float32.
_TOWERS: Final["WeakValueDictionary[tuple[Any, ...], _Towers]"] = WeakValueDictionary()
_RECENT: Final[deque[_Towers]] = deque(maxlen=2)
_TOWERS_LOCK: Final = Lock()


def _shared_towers(*key: Any) -> _Towers:
    """Return the towers of `_load_towers`, loaded once a process for each set of arguments."""
    with _TOWERS_LOCK:
        towers = _TOWERS.get(key)
        if towers is None:
            towers = _TOWERS[key] = _load_towers(*key)
        if towers not in _RECENT:
            _RECENT.append(towers)
    return towers


def _load_towers(
    architecture: str,
    preprocessing: Preprocessing,
    source: str,
    stamp: tuple[tuple[str, int, int], ...],
    precision: str,
    device: torch.device,
    channels_last: bool,
    compiled: bool,
) -> _Towers:
    # The stamp is there for the key: a file that was replaced is another one.
    del stamp
    expected = architecture_shape(architecture) if architecture else None
    tensors = ClipTensors(open_checkpoint(Path(source)), expected, preprocessing)
    return _Towers(tensors, precision, device, channels_last, compiled)
