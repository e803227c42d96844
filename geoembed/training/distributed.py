"""Several processes that train one model: what they exchange, and how they end together."""

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from geoembed.devices import resolve_device
from geoembed.errors import OptionError, TrainingError

__all__ = ["Processes", "start_processes", "sum_gradients"]

# Longer than rank 0 validates or writes while the others wait. That a process has died is noticed
# at once where its connections close; this is for the case that they do not.
_TIMEOUT: Final = timedelta(minutes=30)

# What torchrun sets, and a cluster's own launcher has to.
_ENVIRONMENT: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Processes:
    """One process among those that train together; alone by default.

    Every method is called by all processes, in the same order. Alone they change nothing.

    Parameters
    ----------
    rank : int
        Number of this process, from 0.
    world : int
        How many there are.
    device : torch.device
        Where this one computes.

    Raises
    ------
    TrainingError
        By every method, if another process has ended or does not answer.

    Examples
    --------
    >>> alone = Processes()
    >>> alone.gather(torch.ones(2), 2).tolist(), alone.any(False)
    ([1.0, 1.0], False)
    >>> Processes(rank=1, world=2).share(5)
    slice(2, 5, None)
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def share(self, count: int, rank: int | None = None) -> slice:
        """Which of `count` rows a process has.

        Parameters
        ----------
        count : int
            Rows of all processes together.
        rank : int, optional
            Of the process; this one when left out.

        Returns
        -------
        slice
            From ``rank * count // world`` on.
        """
        rank = self.rank if rank is None else rank
        return slice(rank * count // self.world, (rank + 1) * count // self.world)

    def gather(self, tensor: Tensor, count: int) -> Tensor:
        """Collect the rows of all processes.

        Parameters
        ----------
        tensor : Tensor of shape (n, ...)
            This process's rows: n as `share` says. Without gradient.
        count : int
            Rows of all processes together.

        Returns
        -------
        Tensor of shape (count, ...)
            The same in every process; `tensor` itself where there is only one.
        """
        if self.world == 1:
            return tensor
        parts = [self.share(count, rank) for rank in range(self.world)]
        sizes = [part.stop - part.start for part in parts]
        # Processes exchange equally many rows; the last ones of shorter slices are padding.
        rows = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
        rows[: len(tensor)] = tensor
        plain = rows.view(torch.uint8) if rows.dtype == torch.bool else rows
        collected = [torch.empty_like(plain) for _ in sizes]
        with _together():
            dist.all_gather(collected, plain)
        whole = torch.cat([rows[:size] for rows, size in zip(collected, sizes, strict=True)])
        return whole.view(torch.bool) if tensor.dtype == torch.bool else whole

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes.

        Parameters
        ----------
        tensors : sequence of Tensor
            Contiguous, of the same shapes in every process.
        """
        if self.world == 1:
            return
        with _together():
            for tensor in tensors:
                dist.all_reduce(tensor)

    def any(self, flag: bool) -> bool:
        """Tell whether a flag is set in any process.

        Parameters
        ----------
        flag : bool
            This process's.

        Returns
        -------
        bool
            The same in every process.
        """
        if self.world == 1:
            return flag
        set_ = torch.tensor(int(flag))
        with _together():
            dist.all_reduce(set_, dist.ReduceOp.MAX)
        return bool(set_)

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.any(flag=False)

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of process 0.

        Parameters
        ----------
        tensors : sequence of Tensor
            Contiguous, of the same shapes in every process.
        """
        if self.world == 1:
            return
        with _together():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


def sum_gradients(weights: Sequence[nn.Parameter], processes: Processes) -> list[Tensor]:
    """Sum the gradients of all processes, in one exchange for each number format.

    Parameters
    ----------
    weights : sequence of Parameter
        Whose ``grad`` is replaced; one that has none gets zeros.
    processes : Processes
        Those that sum.

    Returns
    -------
    list of Tensor
        The gradients.

    Examples
    --------
    >>> weight = nn.Parameter(torch.ones(2))
    >>> sum_gradients([weight], Processes())
    [tensor([0., 0.])]
    """
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    if processes.world > 1:
        for dtype in dict.fromkeys(weight.dtype for weight in weights):
            alike = [weight for weight in weights if weight.dtype == dtype]
            flat = _flatten(alike)
            processes.sum_([flat])
            for weight, piece in zip(alike, torch.split(flat, _sizes(alike)), strict=True):
                # In the order that it has in memory: convolutions may keep channels last.
                weight.grad = piece.as_strided(weight.size(), weight.stride())
    return [weight.grad for weight in weights if weight.grad is not None]


def _flatten(weights: Sequence[nn.Parameter]) -> Tensor:
    """Lay gradients into one tensor, each in the order that its weight has in memory."""
    flat = weights[0].new_zeros(sum(_sizes(weights)), requires_grad=False)
    for weight, piece in zip(weights, torch.split(flat, _sizes(weights)), strict=True):
        if weight.grad is not None:
            piece.as_strided(weight.size(), weight.stride()).copy_(weight.grad)
    return flat


def _sizes(weights: Sequence[nn.Parameter]) -> list[int]:
    return [weight.numel() for weight in weights]


@contextmanager
def start_processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun has started; alone where it has not.

    Parameters
    ----------
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``; each process takes the GPU of its local rank. Alone
        any name that `geoembed.devices.resolve_device` takes.

    Yields
    ------
    Processes
        This process and how it talks to the others: over gloo on CPUs, NCCL between GPUs.

    Raises
    ------
    OptionError
        If torchrun's environment is incomplete, or there are more processes than GPUs.
    TrainingError
        If the others cannot be reached.

    Examples
    --------
    >>> with start_processes("cpu") as processes:
    ...     processes.rank, processes.world
    (0, 1)
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        yield Processes(device=resolve_device(device))
        return
    missing = [name for name in _ENVIRONMENT if name not in os.environ]
    if missing:
        raise OptionError(
            f"WORLD_SIZE={world} says that {world} processes train together, and "
            f"{', '.join(missing)} is not set: start them with torchrun, or set "
            f"{', '.join(_ENVIRONMENT)} and LOCAL_RANK for each."
        )
    rank = _number("RANK", 0)
    chosen = _device_of(device, _number("LOCAL_RANK", rank))
    # Host tensors always go over gloo: what all processes must know needs no GPU.
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    with _together("could not be reached at the start"):
        dist.init_process_group(
            backend, store=_new_store(rank, world), rank=rank, world_size=world, timeout=_TIMEOUT
        )
    try:
        yield Processes(rank, world, chosen)
    except Exception:
        # Between GPUs it would wait for processes that may be gone, and nobody saw the error.
        if chosen.type != "cuda":
            dist.destroy_process_group()
        raise
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


# Where the processes first meet, kept until they end: torch would close it with the group, and a
# process that starts its next run sooner than rank 0 ends this one would wait at a closed door.
_MEETING: Final[dict[tuple[str, ...], Store]] = {}
_STARTS: Final = itertools.count()


def _new_store(rank: int, world: int) -> Store:
    """Give the processes a place of their own to meet at: nothing of an earlier start is in it."""
    where = tuple(os.environ[name] for name in _ENVIRONMENT)
    if where not in _MEETING:
        _MEETING[where] = next(rendezvous("env://", rank, world, timeout=_TIMEOUT))[0]
    return PrefixStore(f"geoembed/{next(_STARTS)}", _MEETING[where])


def _device_of(name: str, local_rank: int) -> torch.device:
    """Device of one of several processes on a machine."""
    device = resolve_device(name)
    if device.type == "mps":
        if name == "auto":
            return torch.device("cpu")
        raise OptionError("device='mps' cannot be shared by several processes: use device='cpu'.")
    if device.type != "cuda":
        return device
    if local_rank >= torch.cuda.device_count():
        raise OptionError(
            f"This is process {local_rank} of its machine, which has "
            f"{torch.cuda.device_count()} GPUs: start as many processes as GPUs "
            "(torchrun --nproc-per-node)."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise OptionError(f"{name}={text!r} in the environment is no whole number.") from error


@contextmanager
def _together(what: str = "has ended or does not answer") -> Iterator[None]:
    """Turn what torch raises when a process is gone into an error that says so."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            f"Another process of this run {what}, so that process {os.environ.get('RANK', '0')} of "
            f"{os.environ.get('WORLD_SIZE', '1')} ends too. Look for the first error in the output "
            "of all of them, then start again with --resume: checkpoints stay. "
            f"(torch says: {_first_sentence(error)})"
        ) from error


def _first_sentence(error: RuntimeError) -> str:
    """What torch says, without the place in its source and its guesses."""
    return re.sub(r"^\[\S*\] ", "", str(error).strip()).splitlines()[0].split(". ")[0]
