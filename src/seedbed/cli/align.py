"""`seedbed align`: on a run's artifacts, or on a model and data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.artifacts import Changed
from ..core.config import parse_overrides
from ..core.console import show
from ..core.errors import ConfigError
from .road import ChangedOption, OverridesOption, StageCommand
from .train import ModelOption, OutOption, RecipeOption, RunOption, own_inputs, refuse_beside_run

align_app = typer.Typer(
    help="Alignment: reward models, PPO and GRPO against a reward, DPO and its kin from pairs.", no_args_is_help=True
)

PreferencesOption = Annotated[
    Path | None,
    typer.Option("--data", help='JSONL: {"prompt", "chosen", "rejected"} a row.', show_default=False),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option("--data", help='JSONL: {"prompt"} a row, with "answer" if it is to be checked.', show_default=False),
]
RewardOption = Annotated[
    str | None,
    typer.Option(
        "--reward",
        help="Folder of a reward model, or arithmetic, json, format:EXPRESSION, length:WORDS, added like "
        "arithmetic+0.2*length:40.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    app.add_typer(align_app, name="align", rich_help_panel="The road")
    for command in (reward, ppo, grpo, dpo, measure):
        align_app.command(command.__name__, cls=StageCommand)(command)


def reward(
    run: RunOption = None,
    model: ModelOption = None,
    data: PreferencesOption = None,
    out: OutOption = None,
    recipe: RecipeOption = None,
    overrides: OverridesOption = None,
    changed: ChangedOption = "refuse",
) -> None:
    """Train a reward model on preferences; a run makes them from its own answers, ranked by the gold reward."""
    from ..pipeline import reward_alone, run_stage

    values = parse_overrides(overrides or [])
    if run is not None:
        refuse_beside_run(model, data, out)
        found = run_stage("reward", run, recipe, values, changed=changed)
    else:
        found = reward_alone(*own_inputs(model, data, out), recipe or "demo", values, changed=changed)
    show(
        f"right in {found.metrics['accuracy']:.1%} of {found.metrics['held_out_pairs']:,} held-out pairs, calibration "
        f"error {found.metrics['calibration_error']:.1%}. Model: {found.path}"
    )


def ppo(
    run: RunOption = None,
    model: ModelOption = None,
    data: PromptsOption = None,
    reward: RewardOption = None,
    out: OutOption = None,
    recipe: RecipeOption = None,
    overrides: OverridesOption = None,
    changed: ChangedOption = "refuse",
) -> None:
    """Train a policy by PPO against a reward, with a KL penalty to where it began. A run has its own reward model."""
    from ..pipeline import run_stage

    if run is not None and reward is None and out is None:
        refuse_beside_run(model, data)
        run_stage("policy", run, recipe, parse_overrides(overrides or []), changed=changed)
    else:
        _align("ppo", run, model, data, reward, out, recipe, overrides, changed)


def grpo(
    run: RunOption = None,
    model: ModelOption = None,
    data: PromptsOption = None,
    reward: RewardOption = None,
    out: OutOption = None,
    recipe: RecipeOption = None,
    overrides: OverridesOption = None,
    changed: ChangedOption = "refuse",
) -> None:
    """Train a policy by GRPO (Dr. GRPO, DAPO, GSPO, RLOO, REINFORCE++): answers to one prompt against each other."""
    _align("grpo", run, model, data, reward, out, recipe, overrides, changed)


def dpo(
    run: RunOption = None,
    model: ModelOption = None,
    data: PreferencesOption = None,
    reward: RewardOption = None,
    out: OutOption = None,
    recipe: RecipeOption = None,
    overrides: OverridesOption = None,
    changed: ChangedOption = "refuse",
) -> None:
    """Train a policy from pairs by DPO (IPO, ORPO, SimPO; KTO from labelled answers); a reward only judges it."""
    _align("dpo", run, model, data, reward, out, recipe, overrides, changed)


def _align(
    method: str,
    run: Path | None,
    model: Path | None,
    data: Path | None,
    reward: str | None,
    out: Path | None,
    recipe: str | None,
    overrides: list[str] | None,
    changed: Changed,
) -> None:
    """What a run has already stands in for what was not given."""
    from ..pipeline import align_alone

    if run is not None:
        refuse_beside_run(model)
        model, out = run / "sft", out or run / method
        reward = reward or str(run / "reward")
        if method == "dpo":
            data = data or run / "reward/preferences/train.jsonl"
    if model is None or out is None:
        raise ConfigError("--model or --out not given", hint="Give both, or --run.")
    values = parse_overrides(overrides or [])
    metrics = align_alone(method, model, data, out, reward, recipe or "demo", values, changed=changed).metrics
    before, after = metrics["before"], metrics["after"]
    show(
        f"proxy {before['proxy']:.3f} to {after['proxy']:.3f}, gold reward {before['gold']:.3f} to {after['gold']:.3f} "
        f"(error {metrics['gold_gain_error']:.3f}), {after['divergence']:.2f} nats per answer from the start"
    )


def measure(
    run: Annotated[Path, typer.Option("--run", help="The run; its sft and reward stages must be there.")],
    out: Annotated[
        Path | None, typer.Option(help="Where policies and report go [default: the run's limits].", show_default=False)
    ] = None,
    recipe: RecipeOption = None,
    overrides: OverridesOption = None,
    changed: ChangedOption = "refuse",
) -> None:
    """Train policies against the reward model; measure over-optimisation, remedies, lost variety and hacks."""
    from ..lab.alignment_limits import measure_alignment
    from ..recipes import load_recipe
    from ..reports.alignment_page import show_alignment, write_alignment
    from ..run import recall

    out = run / "limits" if out is None else out
    chosen = load_recipe(recipe or recall(run)["recipe"], parse_overrides(overrides or []))
    study = measure_alignment(run, out, chosen, changed)
    show_alignment(study)
    write_alignment(study, out)
    show(f"Report: {out / 'index.html'}", style="bold")
