"""Commands that use a finished run: chat, generate, search, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.console import console, show, table
from ..core.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from ..generation import Sampling
    from ..run import Run

RunOption = Annotated[
    Path | None, typer.Option("--run", help="The run to use.", show_default="the newest one below runs/")
]
StageOption = Annotated[str, typer.Option(help="Which model speaks: base, sft or policy.")]
TemperatureOption = Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")]
TopPOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Sample from the fewest likeliest tokens that hold this much.")
]
LengthOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the sampling.")]


def register(app: typer.Typer) -> None:
    for command in (chat, generate, search, report):
        app.command(rich_help_panel="Use a run")(command)


def newest_run(path: Path | None) -> Run:
    """The run at `path`, or the one below runs/ that was written to last."""
    from ..run import RUN_FILE, open_run

    if path is None:
        found = sorted(Path("runs").glob(f"*/{RUN_FILE}"), key=lambda file: file.stat().st_mtime)
        if not found:
            raise ArtifactError(
                "there is no run below runs/ here", hint="Grow one: seedbed grow --python-docs, or name it with --run."
            )
        path = found[-1].parent
    return open_run(path)


def _sampling(temperature: float, top_p: float, max_new_tokens: int, seed: int) -> Sampling:
    from ..generation import Sampling

    return Sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed)


def generate(
    prompt: Annotated[str, typer.Argument(help="What the model goes on from, or is asked.")],
    run: RunOption = None,
    stage: StageOption = "policy",
    temperature: TemperatureOption = 0.8,
    top_p: TopPOption = 0.95,
    max_new_tokens: LengthOption = 96,
    seed: SeedOption = 0,
) -> None:
    """Continue a text (stage base) or answer it (sft, policy)."""
    opened = newest_run(run)
    for piece in opened.stream(prompt, stage=stage, sampling=_sampling(temperature, top_p, max_new_tokens, seed)):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def chat(
    run: RunOption = None,
    stage: StageOption = "policy",
    temperature: TemperatureOption = 0.3,
    top_p: TopPOption = 0.95,
    max_new_tokens: LengthOption = 96,
    seed: SeedOption = 0,
) -> None:
    """Talk with the run's model. An empty line or Ctrl-D ends it; /reset forgets what was said."""
    if stage not in ("sft", "policy"):
        raise ConfigError(f"stage '{stage}' was not taught to chat", hint="Take --stage sft or --stage policy.")
    opened = newest_run(run)
    sampling = _sampling(temperature, top_p, max_new_tokens, seed)
    show(f"{opened.path.name} · {stage} · Ask, for example: What does `json.dumps` do?  (empty line ends)", style="dim")
    messages: list[dict[str, str]] = []
    while True:
        try:
            question = console.input("[bold]you>[/bold] " if sys.stdin.isatty() else "").strip()
        except EOFError:
            break
        if not question:
            break
        if question == "/reset":
            messages = []
            continue
        messages.append({"role": "user", "content": question})
        answer = ""
        for piece in opened.stream(messages, stage=stage, sampling=sampling):
            answer += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        messages.append({"role": "assistant", "content": answer})


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    run: RunOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many results.")] = 5,
    mode: Annotated[str, typer.Option(help="hybrid, dense or bm25.")] = "hybrid",
    width: Annotated[int, typer.Option(min=40, help="Characters of each text to show.")] = 240,
) -> None:
    """Search the run's documents."""
    hits = newest_run(run).search(query, k=k, mode=mode)
    if not hits:
        show("Nothing found.")
    for rank, hit in enumerate(hits, 1):
        text = " ".join(hit.text.split())
        show(f"{rank}. {hit.title or hit.source}  ({hit.score:.4f}, {hit.source})", style="bold")
        show(f"   {text[: width - 1] + '…' if len(text) > width else text}")


def report(run: RunOption = None) -> None:
    """Say where the run's report is and show its key figures."""
    opened = newest_run(run)
    show(f"{opened.report}")
    table(("figure", "value"), opened.key_figures())
