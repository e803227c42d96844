"""A head for geoembed: regression kriging."""

from collections.abc import Callable

from geoembed.extending import HeadSpec, hookimpl


@hookimpl
def register_heads(register: Callable[[HeadSpec], None]) -> None:
    """Tell geoembed what the head is called and where its code is."""
    register(
        HeadSpec(
            name="kriging",
            task="regression",
            factory="geoembed_kriging.head:KrigingRegressor",
            summary="Numbers at places: a trend on the embedding, and kriging of what it leaves",
            output_columns=(
                "predicted_{target}",
                "predicted_{target}_lower",
                "predicted_{target}_upper",
            ),
        )
    )
