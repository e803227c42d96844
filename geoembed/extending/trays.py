"""The callback a plugin registers through: it checks each spec and stamps its owner on it."""

from collections.abc import Mapping
from dataclasses import replace

from geoembed.errors import DuplicateNameError, PluginError
from geoembed.extending.gallery_specs import GallerySpec, IndexSpec
from geoembed.extending.image_specs import ImageEncoderSpec
from geoembed.extending.specs import HeadSpec, LocationEncoderSpec, WeightsSpec

__all__ = ["Spec", "Tray"]

Spec = LocationEncoderSpec | ImageEncoderSpec | GallerySpec | IndexSpec | HeadSpec


class Tray:
    """What one plugin puts down in one hook call. The host takes it over if all went well.

    Parameters
    ----------
    kind : str
        What is registered, in field terms, for messages.
    spec_type : type
        The class of the specs that are accepted.
    owner : str
        Name and version of the distribution.
    taken : mapping of str to spec
        What others have registered.
    """

    def __init__(
        self, kind: str, spec_type: type[Spec], owner: str, taken: Mapping[str, Spec]
    ) -> None:
        self.kind = kind
        self.specs: dict[str, Spec] = {}
        self._spec_type = spec_type
        self._owner = owner
        self._taken = taken
        self._open = True

    def __call__(self, spec: Spec) -> None:
        """Accept `spec`, or say why not (see `geoembed.extending.hookspecs`)."""
        if not self._open:
            raise PluginError(
                f"{self._owner} called register() after its hook had returned. "
                "Call it inside the hook."
            )
        if not isinstance(spec, self._spec_type):
            raise PluginError(
                f"register() was given {_short(spec)}; a {self.kind} is registered as a "
                f"{self._spec_type.__name__}"
            )
        other = self._taken.get(spec.name) or self.specs.get(spec.name)
        if other is not None:
            raise self._duplicate(self.kind, spec.name, other.owner)
        if isinstance(spec, LocationEncoderSpec):
            self._check_weights(spec.weights)
        self.specs[spec.name] = replace(spec, owner=self._owner)

    def close(self) -> None:
        """Refuse everything from now on."""
        self._open = False

    def _check_weights(self, weights: WeightsSpec | None) -> None:
        # Encoders may share weights, but nobody may put other files under a name that is taken.
        if weights is None:
            return
        for other in [*self._taken.values(), *self.specs.values()]:
            if not isinstance(other, LocationEncoderSpec):
                continue
            if other.weights is not None and other.weights.name == weights.name:
                if other.weights == weights:
                    return
                raise self._duplicate("weights", weights.name, other.owner)

    def _duplicate(self, kind: str, name: str, other: str) -> DuplicateNameError:
        if other == self._owner:
            return DuplicateNameError(f"{self._owner} registers the {kind} name {name!r} twice")
        return DuplicateNameError(
            f"the {kind} name {name!r} belongs to {other}, and {self._owner} wants it too; "
            "choose another name"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
