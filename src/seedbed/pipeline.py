"""The road, from text to a model, a search engine and a report: one short function a stage, in order.

corpus -> tokenizer -> tokens -> forecast -> base -> sft -> reward -> policy -+
   |          |                                                              +-> report
   +----------+--------------------------------> encoder -> index ------------+
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core import processes
from .core.artifacts import (
    Artifact,
    Changed,
    Workspace,
    build_artifact,
    fingerprint_folder,
    open_artifact,
    sha256_file,
    write_atomically,
)
from .core.config import Config
from .core.console import show
from .core.devices import best_device, set_threads
from .core.errors import ConfigError, disk_errors
from .core.processes import is_first
from .recipes import ForecastConfig, Recipe, load_recipe
from .run import RUN_FILE, Run, recall

if TYPE_CHECKING:
    from .datasets.jsonl import Row
    from .evaluation.likelihood import Likelihood
    from .tokenizers import Tokenizer

LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class Road:
    """A run under way: its recipe, its sources and its folder of artifacts."""

    recipe: Recipe
    sources: tuple[str, ...]
    path: Path
    changed: Changed = "refuse"  # what to do with the checkpoints of an interrupted run of other settings

    def artifact(self, name: str) -> Artifact:
        return open_artifact(self.path / name, name)

    def build(
        self,
        name: str,
        config: Config,
        inputs: Sequence[str],
        produce: Callable[[Workspace], Mapping[str, Any]],
        **fingerprints: str,
    ) -> Artifact:
        """The artifact `name` from the artifacts `inputs`; nothing is done if it is there and nothing has changed."""
        set_threads(self.recipe.threads)
        skipped: list[Artifact] = []
        named = {one: self.artifact(one) for one in inputs} | fingerprints
        artifact = build_artifact(
            self.path / name, name, config, named, produce, on_skip=skipped.append, changed=self.changed
        )
        if skipped:
            show(f"{name}: nothing changed", style="dim")
        else:
            memory = artifact.manifest["peak_memory_bytes"] / (1 << 20)
            show(f"{name}: {artifact.manifest['seconds']:.1f} s, {memory:,.0f} MiB at most", style="green")
        return artifact

    def tokenizer(self) -> Tokenizer:
        from .tokenizers import Tokenizer

        return Tokenizer.load(self.path / "tokenizer")


def curate(road: Road) -> Artifact:
    from .curation import corpus_inputs, curate_corpus

    config = road.recipe.curation
    return road.build(
        "corpus", config, (), lambda work: curate_corpus(config, road.sources, work),
        **corpus_inputs(config, road.sources),
    )  # fmt: skip


def train_tokenizer(road: Road) -> Artifact:
    from .curation import Corpus
    from .tokenizers import train_bpe
    from .tokenizers.audit import fertility
    from .tokenizers.chat import CHATML, CHATML_TOKENS, END_OF_TEXT, PAD

    config = road.recipe.tokenizer

    def produce(work: Workspace) -> dict[str, Any]:
        corpus = Corpus.open(road.path / "corpus")
        tokenizer = train_bpe(
            corpus.texts("train"), config.vocab_size, config.pattern, CHATML_TOKENS, config.min_frequency,
            road.recipe.threads or None, eos_token=END_OF_TEXT, pad_token=PAD, chat_template=CHATML,
        )  # fmt: skip
        tokenizer.save(work.path)
        splits = {name: fertility(tokenizer, corpus.texts(name)) for name in ("train", "validation")}
        return {"vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint, "fertility": splits}

    return road.build("tokenizer", config, ("corpus",), produce)


def shard_tokens(road: Road) -> Artifact:
    from .datasets.shards import shard_corpus

    def produce(work: Workspace) -> dict[str, Any]:
        return shard_corpus(road.path / "corpus", road.tokenizer(), work.path, threads=road.recipe.threads or None)

    return road.build("tokens", Config(), ("corpus", "tokenizer"), produce)


def forecast(road: Road) -> Artifact:
    from .datasets.shards import TokenShards
    from .evaluation.likelihood import likelihood
    from .scaling.ladder import forecast as predict
    from .scaling.ladder import run_ladder
    from .scaling.ledger import record_forecast
    from .scaling.runs import write_runs

    # The forecast is of this main run: when the main run's keys change it is made anew.
    config = ForecastConfig(ladder=road.recipe.forecast, pretraining=road.recipe.pretraining)
    main = config.pretraining

    def produce(work: Workspace) -> dict[str, Any]:
        tokenizer = road.tokenizer()
        shape = main.model(tokenizer.vocab_size)
        train, validation = (
            TokenShards.open(road.path / "tokens" / split, tokenizer.fingerprint) for split in ("train", "validation")
        )
        runs = run_ladder(
            config.ladder, shape, main.training, train,
            lambda model: _validation(
                likelihood(model, validation, main.context_length, max_tokens=main.evaluation_tokens)
            ),
            scratch=work.scratch, seed=main.training.seed,
        )  # fmt: skip
        write_runs(work.path / "runs.csv", runs)
        tokens = main.training.steps * main.training.batch_size * main.context_length
        expected = predict(
            runs, shape.parameter_count(), tokens, len(train), level=config.ladder.level, seed=main.training.seed
        )
        return {"runs": [asdict(run) for run in runs], "forecast": expected.to_json()}

    artifact = road.build("forecast", config, ("tokens", "tokenizer"), produce)
    record_forecast(road.path / LEDGER, _ledger_entry(artifact))
    return artifact


def _validation(found: Likelihood) -> dict[str, float]:
    return {"validation_loss": found.loss, "bits_per_byte": found.bits_per_byte}


def _ledger_entry(forecast: Artifact) -> dict[str, Any]:
    return {**forecast.metrics["forecast"], "artifact": forecast.fingerprint}


def pretrain(road: Road) -> Artifact:
    from .core.randomness import torch_generator
    from .datasets.corruption import Corrupted, GivePrefix
    from .datasets.loader import Batch, Batches, PackedBatches
    from .datasets.shards import TokenShards
    from .evaluation.likelihood import likelihood
    from .evaluation.ngram import ngram_likelihood
    from .models import Decoder, save_model
    from .models.ngram import NGramModel
    from .scaling.ledger import record_forecast, record_score
    from .training import NextToken, Trainer
    from .training.memory import require_memory
    from .training.parallelism import Parallel

    config = road.recipe.pretraining

    def produce(work: Workspace) -> dict[str, Any]:
        tokenizer = road.tokenizer()
        shape = config.model(tokenizer.vocab_size)
        train, validation, test = (
            TokenShards.open(road.path / "tokens" / split, tokenizer.fingerprint)
            for split in ("train", "validation", "test")
        )
        if best_device().type == "cpu":
            require_memory(shape, config.training)
        parallel = Parallel(road.recipe.parallel, best_device().type)
        model = Decoder(shape, torch_generator(config.training.seed, "weights")).to(best_device())
        batches: Batches[Batch] = PackedBatches(
            train, config.training.batch_size, config.context_length, config.training.seed,
            document_masks=config.document_masks, vocab_size=shape.vocab_size,
        )  # fmt: skip
        if config.objective == "prefix":
            batches = Corrupted(batches, GivePrefix(), config.training.seed)
        trainer = Trainer(
            config.training, model, NextToken(config.z_loss), batches,
            scratch=work.scratch, metrics_path=work.path / "metrics.jsonl", name="pretrain",
            evaluate=lambda trained: _validation(
                likelihood(trained, validation, config.context_length, max_tokens=config.evaluation_tokens)
            ),
            parallel=parallel, accept_changes=work.accept_changes,
        )  # fmt: skip
        result = trainer.run()
        model = parallel.gather(model, lambda: Decoder(shape))
        if not is_first():
            return {}
        save_model(model.cpu(), work.path, tokenizer)
        work.measurements |= result.measurements
        ngram = NGramModel(train.tokens, train.vocab_size, train.end_of_text_id, config.ngram_order)
        held_out = {"validation": validation, "test": test}
        return {
            **result.metrics,
            "parameters": shape.parameter_count(),
            "tokens": int(result.metrics["counted"]),
            "unique_tokens": len(train),
            "epochs": result.metrics["counted"] / len(train),
            **{
                name: likelihood(
                    model, shards, config.context_length, stride=config.context_length // 2,
                    max_tokens=config.evaluation_tokens,
                ).metrics()
                for name, shards in held_out.items()
            },
            "ngram": {"order": config.ngram_order, **{
                name: ngram_likelihood(ngram, shards, config.evaluation_tokens).metrics()
                for name, shards in held_out.items()
            }},
        }  # fmt: skip

    # The forecast is an input: it stands in the ledger before the main run starts.
    artifact = road.build("base", config, ("tokens", "tokenizer", "forecast"), produce)
    if not is_first():
        return artifact
    entry = record_forecast(road.path / LEDGER, _ledger_entry(road.artifact("forecast")))
    record_score(road.path / LEDGER, entry, artifact.metrics["validation_loss"])
    return artifact


def finetune(road: Road) -> Artifact:
    from .curation import Corpus
    from .datasets.instructions import instruction_rows
    from .finetuning.instruct import finetune as tune
    from .generation import greedy

    config = road.recipe.finetuning

    def produce(work: Workspace) -> dict[str, Any]:
        corpus = Corpus.open(road.path / "corpus")
        train, held_out = (
            instruction_rows(corpus.rows(split), config.instructions, config.seed) for split in ("train", "validation")
        )
        texts = corpus.texts("train")
        return tune(config, road.path / "base", train, held_out, work, texts=texts, respond=greedy)

    return road.build("sft", config, ("base", "corpus"), produce)


def train_reward(road: Road) -> Artifact:
    from .alignment.reward_stage import train_reward_model

    config = road.recipe.reward
    return road.build("reward", config, ("sft",), lambda work: train_reward_model(config, road.path / "sft", work))


def align(road: Road) -> Artifact:
    from .alignment.policy_stage import align_ppo

    config = road.recipe.ppo
    return road.build(
        "policy", config, ("sft", "reward"),
        lambda work: align_ppo(config, road.path / "sft", road.path / "reward", work),
    )  # fmt: skip


def train_encoder(road: Road) -> Artifact:
    from .embeddings.build import train_encoder as train

    config = road.recipe.encoder
    return road.build(
        "encoder", config, ("corpus", "tokenizer"),
        lambda work: train(config, road.path / "corpus", road.tokenizer(), work),
    )  # fmt: skip


def build_index(road: Road) -> Artifact:
    from .embeddings import SentenceEncoder
    from .embeddings.build import build_search_index
    from .evaluation.retrieval import evaluate_search

    config = road.recipe.index

    def produce(work: Workspace) -> dict[str, Any]:
        encoder = SentenceEncoder.load(road.path / "encoder")
        built = build_search_index(config, road.path / "corpus", encoder, work)
        metrics, measured = evaluate_search(work.path, road.path / "corpus", encoder)
        work.measurements |= measured
        return {**built, "evaluation": metrics}

    return road.build("index", config, ("corpus", "encoder"), produce)


def write_report(road: Road) -> Artifact:
    from .reports.run import write_run_report

    def produce(work: Workspace) -> dict[str, Any]:
        write_run_report(road.path, work.path / "index.html")
        return {}

    return road.build("report", Config(), [name for name in STAGES if name != "report"], produce)


STAGES: dict[str, Callable[[Road], Artifact]] = {
    "corpus": curate,
    "tokenizer": train_tokenizer,
    "tokens": shard_tokens,
    "forecast": forecast,
    "base": pretrain,
    "sft": finetune,
    "reward": train_reward,
    "policy": align,
    "encoder": train_encoder,
    "index": build_index,
    "report": write_report,
}


def grow(
    sources: Sequence[str],
    recipe: str | Path | Mapping[str, Any] = "demo",
    out: str | Path = "runs/run",
    overrides: Mapping[str, Any] | None = None,
    *,
    changed: Changed = "refuse",
) -> Run:
    """Walk the whole road from `sources` to `out`; stages that are done are skipped, stages under way are resumed.

    Args:
        sources: folders and files; "--python-docs" is the documentation inside this Python.
        recipe: a name (demo, laptop, gpu), a YAML file or a mapping.
        overrides: dotted keys on top of the recipe, `{"pretraining.training.steps": 200}`.
        changed: what to do with checkpoints of an interrupted run of other settings: "refuse", "restart", "continue".
    """
    _require_one_process("the whole road")
    road = Road(load_recipe(recipe, overrides), tuple(str(one) for one in sources), Path(out), changed)
    _remember(road)
    for stage in STAGES.values():
        stage(road)
    return Run(road.path)


def run_stage(
    name: str, run: str | Path, recipe: str | None = None, overrides: Mapping[str, Any] | None = None,
    *, changed: Changed = "refuse",
) -> Artifact:  # fmt: skip
    """One stage of a run that `grow` (or an earlier stage) began, with the run's recipe unless another is named."""
    if name not in STAGES:
        raise ConfigError(f"there is no stage '{name}'", hint=f"There are: {', '.join(STAGES)}.")
    remembered = recall(Path(run))
    if name != "base":
        _require_one_process(f"the stage '{name}'")
    recipe_now = load_recipe(recipe or remembered["recipe"], overrides)
    artifact = STAGES[name](Road(recipe_now, tuple(remembered["sources"]), Path(run), changed))
    processes.leave()
    return artifact


def _require_one_process(what: str) -> None:
    if processes.count() > 1:
        raise ConfigError(
            f"{what} runs in one process, and there are {processes.count()}",
            hint="Start it without torchrun; pretrain with it.",
        )


def forecast_alone(
    sources: Sequence[str], recipe: str | Path | Mapping[str, Any], out: str | Path, share: float,
    overrides: Mapping[str, Any] | None = None,
) -> Artifact:  # fmt: skip
    """The road to the forecast, with a ladder designed to cost `share` of the main run's FLOPs.

    `run_stage("base", out)` then trains the main run, and the ledger scores the forecast.
    """
    from .scaling.design import design_ladder

    chosen = load_recipe(recipe, overrides)
    main = chosen.pretraining
    ladder = design_ladder(main.model(chosen.tokenizer.vocab_size), main.training, share, level=chosen.forecast.level)
    road = Road(chosen.replace(forecast=ladder), tuple(str(one) for one in sources), Path(out))
    _remember(road)
    for stage in ("corpus", "tokenizer", "tokens"):
        STAGES[stage](road)
    return forecast(road)


def finetune_alone(
    model: str | Path, data: str | Path, out: str | Path, method: str = "full", recipe: str | Path = "demo",
    overrides: Mapping[str, Any] | None = None, *, changed: Changed = "refuse",
) -> Artifact:  # fmt: skip
    """Fine-tune a model of one's own on a JSONL of instructions; a tenth of the rows is held out.

    Args:
        method: "full", or "lora", "dora", "qlora" (the adapter is then in `out/lora`).
    """
    from .datasets.instructions import hold_out, read_instructions
    from .datasets.jsonl import usable_rows
    from .finetuning.instruct import finetune as tune
    from .generation import greedy

    chosen = load_recipe(recipe, overrides)
    config = chosen.finetuning.by_method(method)
    set_threads(chosen.threads)
    train, held_out = hold_out(usable_rows(read_instructions(data)), 0.1, config.seed)

    def produce(work: Workspace) -> dict[str, Any]:
        return tune(config, Path(model), train, held_out, work, respond=greedy)

    inputs = {"model": fingerprint_folder(model), "data": sha256_file(Path(data))}
    return build_artifact(out, "sft", config, inputs, produce, changed=changed)


def reward_alone(
    model: str | Path, data: str | Path, out: str | Path, recipe: str | Path = "demo",
    overrides: Mapping[str, Any] | None = None, *, changed: Changed = "refuse",
) -> Artifact:  # fmt: skip
    """Train a reward model with the body of a fine-tuned model on a JSONL of preferences."""
    from .alignment.reward_stage import train_reward_model
    from .datasets.jsonl import usable_rows
    from .datasets.preferences import read_preferences

    chosen = load_recipe(recipe, overrides)
    set_threads(chosen.threads)
    rows = usable_rows(read_preferences(data))
    inputs = {"model": fingerprint_folder(model), "data": sha256_file(Path(data))}
    return build_artifact(
        out, "reward", chosen.reward, inputs,
        lambda work: train_reward_model(chosen.reward, Path(model), work, preferences=rows), changed=changed,
    )  # fmt: skip


def align_alone(
    method: str, model: str | Path, data: str | Path | None, out: str | Path, reward: str | None = None,
    recipe: str | Path = "demo", overrides: Mapping[str, Any] | None = None, *, changed: Changed = "refuse",
) -> Artifact:  # fmt: skip
    """Train a policy by "ppo", "grpo" or "dpo", beginning at a fine-tuned model of one's own.

    Args:
        data: ppo and grpo: prompts (`read_prompts`); none: the questions that fine-tuning left beside the model. dpo:
            preferences (`read_preferences`), or labelled answers where the loss is kto.
        reward: the folder of a reward model, or a verifiable reward like "arithmetic+0.2*length:40". dpo does without.
    """
    from .alignment.policy_stage import Judge, Questions, align_dpo, align_online
    from .alignment.questions import that_fit
    from .alignment.verifiable import verifiable
    from .datasets.jsonl import usable_rows
    from .datasets.preferences import prompt_of, read_labelled, read_preferences
    from .datasets.prompts import read_prompts

    chosen = load_recipe(recipe, overrides)
    set_threads(chosen.threads)
    model = Path(model)
    inputs = {"model": fingerprint_folder(model)}
    rows: list[Row] = []
    if data is not None:
        inputs["data"] = sha256_file(Path(data))
        read = read_prompts if method != "dpo" else read_labelled if chosen.dpo.loss == "kto" else read_preferences
        rows = usable_rows(read(data))
    judge = None
    if reward is not None and Path(reward).is_dir():
        judge = Judge.load(Path(reward))
        inputs["reward"] = fingerprint_folder(reward)
    elif reward is not None:
        judge = Judge(verifiable(reward, {prompt_of(row): row.get("answer") for row in rows}))
        inputs["reward"] = reward
    if method == "dpo":
        if data is None:
            raise ConfigError("--data not given", hint="dpo learns from preferences.")
        config: Config = chosen.dpo
        return build_artifact(
            out, method, config, inputs, lambda work: align_dpo(chosen.dpo, model, rows, judge, work), changed=changed
        )
    if judge is None:
        raise ConfigError("--reward not given", hint="Give the folder of a reward model, or a reward's name.")
    online = chosen.ppo if method == "ppo" else chosen.grpo
    rows = that_fit(rows, model, online.max_new_tokens) if rows else []
    questions = Questions.of_rows(rows, 0.1, online.seed) if rows else Questions.of_finetuning(model)
    return build_artifact(
        out, method, online, inputs, lambda work: align_online(online, model, judge, questions, work), changed=changed
    )


def _remember(road: Road) -> None:
    with disk_errors(road.path):
        road.path.mkdir(parents=True, exist_ok=True)
        values = {"sources": list(road.sources), "recipe": road.recipe.model_dump(mode="json")}
        write_atomically(road.path / RUN_FILE, (json.dumps(values, indent=2) + "\n").encode())
