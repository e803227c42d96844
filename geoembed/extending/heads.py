"""The heads that geoembed itself registers, through the hook that everybody uses."""

from collections.abc import Callable
from typing import Final

from geoembed.extending.hookspecs import hookimpl
from geoembed.extending.specs import HeadSpec

__all__ = ["HEADS", "register_heads"]

HEADS: Final = (
    HeadSpec(
        name="regress",
        task="regression",
        factory="geoembed.heads.location:LocationRegressor",
        summary="Numbers at places: ridge regression on the embedding, conformal intervals",
        output_columns=(
            "predicted_{target}",
            "predicted_{target}_lower",
            "predicted_{target}_upper",
        ),
    ),
    HeadSpec(
        name="classify",
        task="classification",
        factory="geoembed.heads.location:LocationClassifier",
        summary="Labels at places: multinomial logistic regression on the embedding",
        output_columns=("predicted_{target}", "predicted_{target}_probability"),
    ),
    HeadSpec(
        name="landcover",
        task="fractions",
        factory="geoembed.heads.landcover:LandCoverRegressor",
        summary="Shares that sum to 1, such as land-cover fractions, with conformal intervals",
        output_columns=(
            "predicted_{target}",
            "predicted_{target}_lower",
            "predicted_{target}_upper",
        ),
    ),
    HeadSpec(
        name="region",
        task="classification",
        factory="geoembed.heads.regions:RegionClassifier",
        summary="Regions with calibrated probabilities, label sets and consistent hierarchies",
        output_columns=(
            "predicted_{target}",
            "predicted_{target}_probability",
            "predicted_{target}_set",
        ),
    ),
)


@hookimpl
def register_heads(register: Callable[[HeadSpec], None]) -> None:
    """Register the heads that come with geoembed."""
    for spec in HEADS:
        register(spec)
