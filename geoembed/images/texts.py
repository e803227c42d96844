"""Texts to CLIP's tokens, by open_clip's tokenizer, whose vocabulary lies in its wheel."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from geoembed.errors import OptionError
from geoembed.optional import import_optional

__all__ = ["check_texts", "tokenize"]

# Enough of a text to recognise it by.
_SHOWN: Final = 60


def check_texts(texts: Sequence[str] | str) -> list[str]:
    """Return texts as a list, or say which one is none.

    Parameters
    ----------
    texts : sequence of str, or str
        One text counts as a list of one.

    Returns
    -------
    list of str
        In the same order.

    Raises
    ------
    OptionError
        If one is not a text, or is empty; the message says which.

    Examples
    --------
    >>> check_texts("a fjord in winter")
    ['a fjord in winter']
    """
    listed: list[Any] = [texts] if isinstance(texts, str) else list(texts)
    for row, text in enumerate(listed):
        if not isinstance(text, str):
            raise OptionError(f"texts[{row}] is {type(text).__name__}, expected text.")
        if not text.strip():
            raise OptionError(f"texts[{row}] is empty: there is nothing to look for.")
    return listed


def tokenize(texts: Sequence[str] | str, context: int = 77) -> Tensor:
    """Turn texts into CLIP's tokens.

    Texts are cleaned as CLIP's own code does it: broken characters mended, HTML entities resolved,
    spaces joined, lower case.

    Parameters
    ----------
    texts : sequence of str, or str
        One text counts as a list of one.
    context : int
        How many tokens the tower reads, start and end included.

    Returns
    -------
    Tensor of shape (n, context), int64
        Start, tokens, end, then zeros.

    Raises
    ------
    MissingExtraError
        If open_clip is not installed.
    OptionError
        If a text is empty, longer than `context` (it is not cut), or spells a token that stands
        for the start or end of a text.

    Examples
    --------
    >>> tokenize("a desert road")[0, :6].tolist()
    [49406, 320, 7301, 1759, 49407, 0]
    """
    listed = check_texts(texts)
    tokenizer = _tokenizer()
    start, end = tokenizer.sot_token_id, tokenizer.eot_token_id
    tokens = torch.zeros(len(listed), context, dtype=torch.long)
    for row, text in enumerate(listed):
        found = tokenizer.encode(text)
        shown = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
        if not found:
            raise OptionError(f"texts[{row}], {shown}, holds nothing that CLIP reads.")
        if len(found) + 2 > context:
            raise OptionError(
                f"texts[{row}], {shown}, has {len(found) + 2} tokens with start and end; CLIP "
                f"reads {context}. Shorten it: nothing is cut silently."
            )
        if {start, end} & {*found}:
            raise OptionError(
                f"texts[{row}], {shown}, spells CLIP's mark for the start or end of a text."
            )
        tokens[row, : len(found) + 2] = torch.tensor([start, *found, end])
    return tokens


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    module = import_optional("open_clip", extra="image", purpose="Encoding texts")
    return module.SimpleTokenizer()
