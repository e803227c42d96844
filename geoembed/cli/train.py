"""``geoembed train``: from a recipe to a trained pair of encoders, alone or under torchrun."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from geoembed.cli.output import print_json, table
from geoembed.cli.runs import notes_told, terminable
from geoembed.errors import OptionError, TrainingError

if TYPE_CHECKING:
    from geoembed.training.loop import RunResult
    from geoembed.training.plan import Plan
    from geoembed.training.settings import TrainingSettings

__all__ = ["train"]

FLAGS = {"resume": "--resume"}
_SHARES = ("1", "25", "200", "750", "2500")


def train(
    config: str | None = typer.Argument(
        None,
        metavar="RECIPE|FILE",
        help="Name of a recipe, see --list, or a TOML file. Not needed to resume a run.",
    ),
    folder: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        metavar="FOLDER",
        help="Folder of the run, or of the matrix; by default runs/NAME.",
    ),
    overrides: list[str] = typer.Option(
        [], "--set", metavar="SECTION.FIELD=VALUE", help="Change a setting; give it once for each."
    ),
    resume: bool = typer.Option(
        False, "--resume", help="Go on from the last checkpoint in FOLDER, if there is one."
    ),
    dry_run: bool = typer.Option(
        False,
        "--dry-run",
        help="Open the data, build the model, print the plan: steps, parameters, memory, time.",
    ),
    processes: int = typer.Option(
        1, "--processes", min=1, help="With --dry-run: processes that will share a batch."
    ),
    matrix: str | None = typer.Option(
        None,
        "--matrix",
        metavar="NAME|FILE",
        help="Train a matrix of runs in place of one, and compare them. Started again, it goes on.",
    ),
    listing: bool = typer.Option(False, "--list", help="List the recipes and matrices."),
    show: bool = typer.Option(
        False, "--show", help="Print all settings as TOML, to start a file of one's own from."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
) -> None:
    """Train encoders of pictures and places.

    The run's folder gets its settings, checkpoints, metrics.csv and curves.png. SIGTERM and Ctrl-C
    write a checkpoint first; --resume goes on from it. Several GPUs: torchrun --nproc-per-node 8
    -m geoembed train ...

    Example:
        geoembed train bluemarble -o runs/bluemarble --dry-run
        geoembed train bluemarble -o runs/bluemarble --set loop.epochs=5
        geoembed train geoclip-mp16 --set data.path=mp16-shards --set loop.precision=bfloat16
        geoembed train --resume -o runs/bluemarble
        geoembed train --matrix matrix-bluemarble -o ablations
    """
    with terminable(), notes_told(FLAGS):
        _check_flags(config, matrix, listing=listing, resume=resume, folder=folder)
        if processes > 1 and not dry_run:
            raise typer.BadParameter(
                "--processes belongs to --dry-run. To train with several: torchrun "
                f"--nproc-per-node {processes} -m geoembed train ..."
            )
        if matrix is not None and (show or processes > 1):
            raise typer.BadParameter("--show and --processes are about one run, not a matrix.")
        if listing:
            _list(as_json)
        elif matrix is not None:
            _run_matrix(matrix, overrides, folder, dry_run=dry_run, as_json=as_json, quiet=quiet)
        else:
            settings = _settings(config, overrides, folder)
            if show:
                from geoembed.training.settings_text import settings_toml

                print(settings_toml(settings), end="")
            elif dry_run:
                _plan(settings, processes, as_json)
            else:
                _run(settings, folder, resume=resume, as_json=as_json, quiet=quiet)


def _check_flags(
    config: str | None, matrix: str | None, *, listing: bool, resume: bool, folder: Path | None
) -> None:
    if listing:
        return
    if config is not None and matrix is not None:
        raise typer.BadParameter("Give one of RECIPE|FILE and --matrix.")
    if matrix is None and config is None and not (resume and folder is not None):
        raise typer.BadParameter(
            "Give RECIPE|FILE, see --list; or --matrix; or --resume and -o FOLDER."
        )


def _settings(config: str | None, overrides: list[str], folder: Path | None) -> "TrainingSettings":
    from geoembed.training.config import load_settings

    if config is not None:
        return load_settings(config, overrides)
    assert folder is not None
    file = folder.expanduser() / "config.toml"
    if not file.is_file():
        raise OptionError(f"{folder} holds no run to resume: there is no {file}.")
    return load_settings(file, overrides)


def _list(as_json: bool) -> None:
    from geoembed.training.config import list_recipes, load_settings
    from geoembed.training.matrix import list_matrices, load_matrix

    recipes = [(name, load_settings(name).summary) for name in list_recipes()]
    recipes += [(name, load_matrix(name).summary) for name in list_matrices()]
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in recipes])
    else:
        print(table(["name", "summary"], recipes))


def _plan(settings: "TrainingSettings", processes: int, as_json: bool) -> "Plan":
    """Print the plan of a run."""
    from geoembed.training.opening import open_data
    from geoembed.training.plan import plan_run
    from geoembed.training.splitting import split_rows

    data = open_data(settings.data)
    plan = plan_run(settings, data, split_rows(data.lonlat, settings.data), processes)
    if as_json:
        print_json(plan.to_dict())
    else:
        print(plan.to_text())
    return plan


def _run(
    settings: "TrainingSettings", folder: Path | None, *, resume: bool, as_json: bool, quiet: bool
) -> None:
    from geoembed.training.loop import train as train_run

    progress = False if quiet or as_json else None
    done = train_run(
        settings, folder or Path("runs") / settings.name, resume=resume, progress=progress
    )
    # Of several processes one speaks.
    if int(os.environ.get("RANK", "0")):
        return
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "step": done.step,
                "ended": done.ended,
                "best": done.best,
                "metrics": done.metrics,
            }
        )
    elif not quiet:
        _print(done, settings)


def _print(done: "RunResult", settings: "TrainingSettings") -> None:
    why = "" if done.ended == "steps" else ", as validations were no better"
    print(f"{done.step:,} steps{why}. The run is in {done.folder}.")
    rows = [["last", done.step, *_cells(done.metrics)]] if done.metrics else []
    if done.best is not None:
        best = done.best
        rows.append([f"best {settings.validation.metric}", best["step"], *_cells(best["scores"])])
    if rows:
        print("\nHeld-out pictures, percent within")
        header = ["", "step", *(f"{km} km" for km in _SHARES), "median km", "loss"]
        print(table(header, rows))
    print(f"\nUse it:  geoembed export {done.folder} -o MODEL")


def _cells(scores: dict[str, float]) -> list[str]:
    shares = [f"{scores[f'within_{km}']:.1f}" for km in _SHARES]
    return [*shares, f"{scores['median_km']:,.0f}", f"{scores['loss']:.3f}"]


def _run_matrix(
    name: str,
    overrides: list[str],
    folder: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    from geoembed.training.matrix import load_matrix
    from geoembed.training.matrix_running import run_matrix

    matrix = load_matrix(name, overrides)
    trained = [variant for variant in matrix.variants if not variant.gallery]
    runs = len(trained) * len(matrix.seeds)
    if dry_run:
        if not as_json:
            print(f"{runs:,} runs, {len(trained):,} variants with {len(matrix.seeds)} seeds each:")
            rows = [[variant.name, "; ".join(variant.changed)] for variant in matrix.variants]
            print(f"{table(['variant', 'changes'], rows)}\n\nThe base:")
        plan = _plan(trained[0].settings, 1, as_json)
        if not as_json:
            hours = runs * plan.seconds / 3600.0
            print(f"\nAll runs, if each takes as long: about {hours:,.2g} h")
        return
    where = folder or Path("runs") / matrix.name
    tell = None if quiet or as_json else print
    results = run_matrix(matrix, where, progress=False if quiet or as_json else None, tell=tell)
    if as_json:
        print((where.expanduser() / "results.json").read_text(encoding="utf-8"), end="")
    elif not quiet:
        print(f"Tables and picture are in {where}: results.md, results.csv, matrix.png.")
    failed = [result for result in results if result.failed]
    if failed:
        first = failed[0]
        raise TrainingError(
            f"{len(failed)} of {len(results)} failed, such as {first.variant}, seed {first.seed}: "
            f"{first.failed} Start it again to try those once more; the others are kept."
        )
