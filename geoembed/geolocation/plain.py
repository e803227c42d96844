"""Dataclasses that become dicts of what JSON can hold, and are made of them again."""

from dataclasses import fields
from typing import Any, ClassVar, Self

from geoembed.errors import OptionError

__all__ = ["Plain"]


class Plain:
    """What small frozen dataclasses of numbers share.

    A subclass says in `_called` what messages call it.
    """

    _called: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold.

        Returns
        -------
        dict
            For `from_dict`.
        """
        return {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make it again.

        Parameters
        ----------
        values : dict
            From `to_dict`.

        Returns
        -------
        Plain
            Equal to the one that they were taken from.

        Raises
        ------
        OptionError
            If a value is missing, unknown or does not fit.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise OptionError(f"No {cls._called} can be made of {values!r}: {error}.") from error
