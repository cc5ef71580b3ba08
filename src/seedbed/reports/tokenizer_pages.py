"""The audit of a tokenizer as a page, its JSON and its charts; and its part of a run's report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.artifacts import write_atomically
from ..core.errors import disk_errors
from ..evaluation.languages import well_known
from ..evaluation.tokenizer_audit import Materials, TokenizerAudit, audit_model
from ..tokenizers import Tokenizer
from ..tokenizers.audit import GlitchReport, Parity
from ..tokenizers.glitches import INDICATORS
from ..tokenizers.token_kinds import token_text
from . import charts, numbers
from .evidence import Evidence
from .images import write_image
from .page import Block, Card, Figure, Page, Section, Table
from .text_sections import fertility_table

_BARS = 36  # languages that bars can show
_LISTED = 24  # hardly learnt ids in the table
_POINTS = 1500  # ids in the chart: those that training met are sampled
_UNREACHABLE = 30
_NEVER, _RARELY, _OFTEN = "never trained on", "fewer than 10 times", "10 times or more"
_RARE = 10


def write_audit(result: TokenizerAudit, out: Path) -> None:
    """Write audit.json, index.html and the charts as SVG and PNG into the folder `out`."""
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(out / "audit.json", text.encode("utf-8", errors="backslashreplace"))
        audit_page(result).write(out / "index.html")
        pictures = {}
        if result.parity is not None:
            pictures["premium"] = premium_chart(result.parity)
        if result.glitches is not None and result.counts is not None:
            pictures["trained"] = trained_chart(result.glitches, result.counts)
        for name, chart in pictures.items():
            for suffix in (".svg", ".png"):
                write_image(chart, out / f"{name}{suffix}")


def audit_page(result: TokenizerAudit) -> Page:
    sections = [_costs(result), _languages(result.parity), _ids(result), _learning(result)]
    return Page(
        "Audit of a tokenizer",
        "What text costs in its tokens, which of its ids are good for nothing, and which ones a model hardly learnt.",
        _cards(result),
        [section for section in sections if section is not None],
        "Premiums after Petrov et al. 2023, Rényi efficiency after Zouhar et al. 2023, under-trained ids after Land "
        "and Bartolo 2024.",
        {"Vocabulary": f"{numbers.count(result.tokenizer.vocab_size)} ids",
         "Algorithm": type(result.tokenizer.specification.model).__name__,
         "Fingerprint": result.tokenizer.fingerprint[:16]},
    )  # fmt: skip


def _cards(result: TokenizerAudit) -> list[Card]:
    kinds = result.kinds.counts()
    lost = kinds["unreachable"] + kinds["unreachable, split"]
    cards = [Card("Unreachable ids", numbers.count(lost), f"of {numbers.count(result.tokenizer.vocab_size)}")]
    if result.fertility:
        name, found = list(result.fertility.items())[-1]
        cards.append(Card("Bytes per token", numbers.fixed(found["bytes_per_token"]), f"on {name}"))
        cards.append(Card("Rényi efficiency", numbers.percent(found["renyi_efficiency"]), f"on {name}"))
    if result.parity is not None:
        worst = next(iter(result.parity.languages))
        note = f"{worst.language}, against {result.parity.reference}"
        cards.append(Card("Highest premium", f"{numbers.fixed(worst.premium)}×", note))
        cards.append(Card("Gini over languages", numbers.fixed(result.parity.gini, 3), "0: all pay the same"))
    if result.glitches is not None and result.glitches.never_occurred is not None:
        auroc = result.glitches.auroc.get(result.glitches.indicator)
        note = f"AUROC of the indicator {numbers.fixed(auroc, 3)}" if auroc is not None else ""
        cards.append(Card("Ids never trained on", numbers.count(result.glitches.never_occurred), note))
    return cards


def _costs(result: TokenizerAudit) -> Section | None:
    if not result.fertility:
        return None
    lead = (
        "What a word and a byte cost, on the texts that were given; held-out text tells how well a vocabulary carries."
    )
    return Section("texts", "Texts", lead, [fertility_table({**result.fertility}, wide=True)])


def _languages(found: Parity | None) -> Section | None:
    if found is None:
        return None
    worst, median = found.languages[0], found.languages[len(found.languages) // 2]
    lead = (
        f"The same text in {numbers.count(len(found.languages), 'language')}. {worst.language} pays "
        f"{numbers.fixed(worst.premium)} times the tokens of {found.reference}, the language in the middle "
        f"({median.language}) {numbers.fixed(median.premium)} times. Whoever pays by the token, or has a window of so "
        f"many tokens, pays this factor. The Gini coefficient over languages is {numbers.fixed(found.gini, 3)}."
    )
    blocks: list[Block] = [Figure(
        "Premium by language", [("", premium_chart(found))],
        f"Tokens of the same text, {found.reference} = 1."
        + (" Well-known languages; the table has all." if len(found.languages) > _BARS else ""),
        wide=True,
    )]  # fmt: skip
    if len(found.languages) > _BARS:
        rows = [{"language": one.language, "premium": one.premium} for one in found.languages]
        blocks.append(Figure(
            "All languages", [("", charts.ranking(rows, "language", "premium", "premium", _marked(found)))],
            "One point a language, from the costliest to the cheapest.", wide=True,
        ))  # fmt: skip
    blocks.append(_language_table(found))
    if found.left_out:
        rows_out = [(name, reason) for name, reason in found.left_out.items()]
        blocks.append(Table("Left out", ("Language", "Why"), rows_out, wide=True))
    return Section("languages", "Languages", lead, blocks)


def premium_chart(found: Parity, most: int = _BARS) -> charts.Chart:
    """Bars of the premium, the costliest first: of all languages, or of the well-known ones where there are many."""
    shown = list(found.languages)
    if len(shown) > most:
        chosen = {*well_known(one.language for one in shown), found.reference}
        shown = [one for one in shown if one.language in chosen]
        if len(shown) < 2:  # none is known by name: evenly through the ranking
            step = len(found.languages) / most
            shown = [found.languages[int(place * step)] for place in range(most)]
    rows = [{"language": one.language, "premium": one.premium} for one in shown[: most + 8]]
    return charts.bars(rows, "language", "premium", f"tokens, {found.reference} = 1", numbers.fixed)


def _marked(found: Parity) -> list[str]:
    """The languages that the ranking names: the costliest, some well-known ones and the reference."""
    known = well_known(one.language for one in found.languages)
    ranked = [one.language for one in found.languages if one.language in known]
    return [found.languages[0].language, *ranked[:: max(len(ranked) // 8, 1)], found.reference]


def _language_table(found: Parity) -> Table:
    rows = [
        (
            place, one.language, f"{numbers.fixed(one.premium)}", one.tokens,
            "—" if one.tokens_per_word is None else numbers.fixed(one.tokens_per_word),
            numbers.fixed(one.bytes_per_token), numbers.fixed(one.characters_per_token),
            numbers.percent(one.unknown_share),
        )
        for place, one in enumerate(found.languages, 1)
    ]  # fmt: skip
    columns = ("", "Language", "Premium", "Tokens", "Tokens per word", "Bytes per token", "Characters per token",
               "Unknown")  # fmt: skip
    return Table(
        "Languages by premium", columns, rows,
        "No tokens per word where white space parts no words. Languages with more than a tenth of their tokens unknown "
        "stand last: their premium means nothing. Far below 1 the text is most likely not translated in full.",
        wide=True,
    )  # fmt: skip


def _ids(result: TokenizerAudit) -> Section:
    counts = result.kinds.counts()
    lost = counts["unreachable"] + counts["unreachable, split"]
    parts = counts["byte"] + counts["undecodable"]
    lead = (
        f"Of {numbers.count(result.tokenizer.vocab_size, 'id')}, {numbers.count(parts)} are bytes or parts of "
        f"characters, which is no fault, and {numbers.count(lost)} cannot come out of any text tried: they take up a "
        "row of the embedding and a place of the vocabulary for nothing."
    )
    blocks: list[Block] = [
        Table("Ids by kind", ("Kind", "Ids"), [(name, number) for name, number in counts.items()],
              "Each id is decoded, and encoded again alone and within a few contexts.")
    ]  # fmt: skip
    if result.kinds.becomes:
        rows = [
            (number, _quoted(result, number), " ".join(_quoted(result, one) for one in ids))
            for number, ids in list(result.kinds.becomes.items())[:_UNREACHABLE]
        ]
        caption = f"The first {_UNREACHABLE}; audit.json has all." if lost > _UNREACHABLE else ""
        blocks.append(Table("Unreachable ids", ("Id", "Token", "Its text becomes"), rows, caption))
    return Section("ids", "Ids", lead, blocks)


def _quoted(result: TokenizerAudit, number: int) -> str:
    return f"“{token_text(result.tokenizer, number)}”"


def _learning(result: TokenizerAudit) -> Section | None:
    if result.glitches is None:
        return None
    return Section("learning", "Under-trained ids", learning_lead(result.glitches),
                   learning_blocks(result.glitches, result.counts))  # fmt: skip


def learning(run: Evidence) -> Section | None:
    """Of a run: the ids that its base model hardly learnt."""
    materials = Materials.found(run.path) if "tokenizer" in run.artifacts else None
    if materials is None or materials.model is None or not (materials.model / "model.safetensors").exists():
        return None
    tokenizer = Tokenizer.load(materials.tokenizer)
    counts = materials.token_counts(tokenizer)
    found = audit_model(materials.model, tokenizer, counts)
    return Section("learning", "Under-trained tokens", learning_lead(found), learning_blocks(found, counts))


def learning_lead(found: GlitchReport) -> str:
    """What the indicator says, and how far it can be trusted."""
    lead = f"Ids by the {INDICATORS[found.indicator]}, which tells how little a model learnt of them. "
    if found.never_occurred is not None:
        lead += (
            f"Of {numbers.count(len(found.candidates), 'id')} that were ranked, {numbers.count(found.never_occurred)} "
            "never stood in the training tokens. "
        )
        if found.indicator in found.auroc:
            lead += (
                f"Such an id ranks before one that occurred with probability "
                f"{numbers.fixed(found.auroc[found.indicator], 4)} (AUROC), from the weights alone. "
            )
    if found.control_probability is not None and found.separation is not None:
        lead += (
            f"Prompts that ask for well-trained ids get {numbers.value(found.control_probability)} at the median, "
            f"and a listed id is less sayable than one of those with probability {numbers.fixed(found.separation, 3)}."
        )
    return lead.strip()


def learning_blocks(found: GlitchReport, counts: NDArray[np.int64] | None) -> list[Block]:
    """The ids that the model hardly learnt, and where training counts are known the indicator against them."""
    blocks: list[Block] = []
    if counts is not None:
        blocks.append(Figure(
            "What the weights know of the training", [("", trained_chart(found, counts))],
            "One point an id. The indicator reads the embedding alone; it has not seen the counts.",
        ))  # fmt: skip
    columns = ["Id", "Token", "Indicator"]
    columns += [] if counts is None else ["Trained on"]
    columns += [] if not found.controls else ["Probability", "Verdict"]
    rows = []
    for one in found.tokens[:_LISTED]:
        row: list[object] = [one.id, f"“{one.token}”", numbers.value(one.indicator)]
        row += [] if one.count is None else [one.count]
        row += [] if one.probability is None else [numbers.value(one.probability), one.verdict]
        rows.append(row)
    caption = ""
    if found.controls:
        caption = (
            "Probability: the highest that the model gives the id where three prompts ask for it. Confirmed is below a "
            "thousandth, likely below a tenth of what well-trained ids get."
        )
    blocks.append(Table("Ids that the model hardly learnt", columns, rows, caption))
    return blocks


def trained_chart(found: GlitchReport, counts: NDArray[np.int64]) -> charts.Chart:
    """The indicator of each id over its count."""
    ids = found.candidates
    rare = ids[counts[ids] < _RARE]
    often = ids[counts[ids] >= _RARE]
    step = max(len(often) // max(_POINTS - len(rare), 200), 1)
    rows = [
        {
            "count": int(counts[number]), "value": round(float(found.values[number]), 5),
            "token": str(int(number)),
            "group": _NEVER if counts[number] == 0 else _RARELY if counts[number] < _RARE else _OFTEN,
        }
        for number in (*rare[:_POINTS], *often[::step])
    ]  # fmt: skip
    return charts.training_counts(
        rows, INDICATORS[found.indicator], (_NEVER, _RARELY, _OFTEN), (_OFTEN, _NEVER, _RARELY)
    )
