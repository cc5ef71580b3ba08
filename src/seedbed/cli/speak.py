"""Commands that let a model speak: generate, chat."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.config import build
from ..core.console import console, show
from ..core.errors import ConfigError, DataError, disk_errors
from ..core.files import write_atomically
from ..core.json_files import read_json
from .use import RunOption, newest_run

if TYPE_CHECKING:
    from ..generation import Sampling
    from ..generation.voice import Reply, Voice

StageOption = Annotated[str, typer.Option(help="Which model of the run speaks: base, sft or policy.")]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="A Hugging Face directory to speak instead of a run.", show_default=False)
]
CacheOption = Annotated[
    str, typer.Option(help="What is kept of the text: full, window or sinks (its first and latest tokens).")
]
TemperatureOption = Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")]
TopPOption = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Sample from the fewest likeliest tokens that hold this much.")
]
LengthOption = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the sampling.")]
LookupOption = Annotated[
    bool, typer.Option("--lookup", help="Guess at tokens by what stood before: the same answers, often sooner.")
]
StatsOption = Annotated[bool, typer.Option("--stats/--no-stats", help="Say how fast each answer came.")]


def register(app: typer.Typer) -> None:
    for command in (chat, generate):
        app.command(rich_help_panel="Use a run")(command)


def generate(
    prompt: Annotated[str, typer.Argument(help="What the model goes on from, or is asked.")],
    run: RunOption = None,
    model: ModelOption = None,
    stage: StageOption = "policy",
    temperature: TemperatureOption = 0.8,
    top_p: TopPOption = 0.95,
    max_new_tokens: LengthOption = 96,
    seed: SeedOption = 0,
    stop: Annotated[list[str] | None, typer.Option(help="A text that ends the answer; may be given again.")] = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="A file with the JSON schema that the answer follows.", show_default=False)
    ] = None,
    regex: Annotated[
        str | None, typer.Option(help="An expression that the whole answer matches.", show_default=False)
    ] = None,
    cache: CacheOption = "full",
    lookup: LookupOption = False,
    stats: StatsOption = False,
) -> None:
    """Continue a text (stage base) or answer it (sft, policy)."""
    schema = None if json_schema is None else read_json(json_schema)
    sampling = _sampling(
        temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed, stop=tuple(stop or ()),
        json_schema=schema, regex=regex,
    )  # fmt: skip
    reply = _voice(run, model, stage, cache, lookup).ask(prompt, sampling)
    _say(reply)
    if stats:
        show(str(reply.figures()), style="dim")


def chat(
    run: RunOption = None,
    model: ModelOption = None,
    stage: StageOption = "policy",
    temperature: TemperatureOption = 0.3,
    top_p: TopPOption = 0.95,
    max_new_tokens: LengthOption = 96,
    seed: SeedOption = 0,
    system: Annotated[str | None, typer.Option(help="What the model is told beforehand.", show_default=False)] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="A file that the chat goes on from and is kept in, as JSON.", show_default=False),
    ] = None,
    cache: CacheOption = "full",
    lookup: LookupOption = False,
    stats: StatsOption = True,
) -> None:
    """Talk with a model. An empty line or Ctrl-D ends it, Ctrl-C an answer; /reset forgets what was said, /undo the
    latest question and answer."""
    if model is None and stage not in ("sft", "policy"):
        raise ConfigError(f"stage '{stage}' was not taught to chat", hint="Take --stage sft or --stage policy.")
    voice = _voice(run, model, stage, cache, lookup)
    if not voice.chats:
        raise ConfigError("its tokenizer has no chat template", where=model, hint="Use generate.")
    sampling = _sampling(temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens, seed=seed)
    beginning = [{"role": "system", "content": system}] if system else []
    messages = [*beginning, *_read_history(history)]
    show("Ask, for example: What does `json.dumps` do?  (an empty line ends)", style="dim")
    while question := _question():
        if question == "/reset":
            messages = list(beginning)
        elif question == "/undo":
            del messages[max(len(beginning), len(messages) - 2) :]
        else:
            messages.append({"role": "user", "content": question})
            reply = voice.ask(messages, sampling)
            messages.append({"role": "assistant", "content": _say(reply)})
            if stats and reply.request.done:
                show(str(reply.figures()), style="dim")
        if history is not None:
            _write_history(history, messages[len(beginning) :])


def _voice(run: Path | None, model: Path | None, stage: str, cache: str, lookup: bool) -> Voice:
    from ..generation import Lookup
    from ..generation.voice import Voice

    options: dict[str, Any] = {"cache": cache, "draft": Lookup() if lookup else None}
    if model is None:
        return newest_run(run).voice(stage, **options)
    if run is not None:
        raise ConfigError("--run and --model exclude each other")
    return Voice.load(model, **options)


def _sampling(**values: Any) -> Sampling:
    from ..generation import Sampling

    return build(Sampling, values)


def _question() -> str:
    """ "" at the end."""
    try:
        return console.input("[bold]you>[/bold] " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _say(reply: Reply) -> str:
    """Write an answer as it comes; interrupted, what came so far is the answer."""
    said = ""
    try:
        for piece in reply:
            said += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    sys.stdout.write("\n")
    return said


def _read_history(path: Path | None) -> list[dict[str, str]]:
    """The messages of an earlier chat; none where there is no file yet."""
    if path is None or not path.exists():
        return []
    try:
        return [{"role": str(one["role"]), "content": str(one["content"])} for one in read_json(path, list)]
    except (TypeError, KeyError):
        raise DataError("this is no list of messages with role and content", where=path) from None


def _write_history(path: Path, messages: list[dict[str, str]]) -> None:
    with disk_errors(path):
        write_atomically(path, (json.dumps(messages, indent=2, ensure_ascii=False) + "\n").encode())
