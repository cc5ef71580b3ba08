"""The tokenizer in a GGUF file: what of ours llama.cpp encodes to the same ids, and how the file says it.

llama.cpp knows byte-level BPE by the name of its pre-tokeniser ("gpt2" models), SentencePiece's BPE with bytes to fall
back on ("llama") and SentencePiece's Unigram ("t5"). Of the last it sums scores in double precision, as `tokenizers`
does, and `sentencepiece` in single: where two ways to cut a word score the same but for that, they may differ.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from ..core.errors import ConfigError
from ..models import ModelConfig
from ..tokenizers.bpe_model import ByteLevelBPE
from ..tokenizers.sentencepiece_file import Algorithm, Kind
from ..tokenizers.sentencepiece_model import SentencePiece

if TYPE_CHECKING:
    import gguf

    from ..tokenizers import Tokenizer

# (pattern, whether a word that is a token is left whole) -> llama.cpp's name of a pre-tokeniser that does the same
_PRE_TOKENIZERS = {
    ("gpt2", False): "gpt-2",
    ("llama3", True): "llama-bpe",
    ("llama3", False): "smaug-bpe",
    ("qwen2", False): "qwen2",
}
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = map(int, (Kind.NORMAL, Kind.CONTROL, Kind.USER_DEFINED, Kind.UNUSED))
_NO_TOKENIZER = "or write the file without a tokenizer (--no-tokenizer) and give llama.cpp ids"
_GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer | None, config: ModelConfig) -> None:
    """Say what `tokenizer` does, for a model of `config`.

    Raises: ConfigError where llama.cpp would cut some text otherwise; it says what to do.
    """
    if tokenizer is None:
        writer.add_tokenizer_model("none")
        return
    if tokenizer.vocab_size > config.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size:,} ids, and the model {config.vocab_size:,}",
            hint="Take the tokenizer that the model was trained with.",
        )
    model = tokenizer.specification.model
    if isinstance(model, ByteLevelBPE):
        _add_byte_level(writer, model)
    elif isinstance(model, SentencePiece):
        _add_sentencepiece(writer, model)
    else:
        _refuse(f"llama.cpp has no {type(model).__name__} tokenizer of this kind", "Train one with train_bpe,")
    _add_tokens(writer, tokenizer, config)
    _add_roles(writer, tokenizer, config)


def _refuse(problem: str, advice: str) -> NoReturn:
    raise ConfigError(problem, where="tokenizer", hint=f"{advice} {_NO_TOKENIZER}.")


def _add_byte_level(writer: gguf.GGUFWriter, model: ByteLevelBPE) -> None:
    pattern = model.pre_tokenizer.pattern
    name = _PRE_TOKENIZERS.get((pattern or "", model.ignore_merges))
    if name is None or model.pre_tokenizer.prefix_space:
        shown = f"'{pattern}'" if pattern else "its expressions"
        whole = ", words that are tokens left whole" if model.ignore_merges else ""
        space = ", a space put before the text" if model.pre_tokenizer.prefix_space else ""
        _refuse(
            f"llama.cpp has no pre-tokeniser that cuts text as this one does ({shown}{whole}{space})",
            "Train the tokenizer with the pattern gpt2, llama3 or qwen2,",
        )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_merges([f"{left} {right}" for left, right in model.merges])


def _add_sentencepiece(writer: gguf.GGUFWriter, model: SentencePiece) -> None:
    file, rules = model.file, model.file.normalization
    if file.whitespace_as_suffix or any(piece.kind == Kind.USER_DEFINED for piece in file.pieces):
        _refuse(
            "llama.cpp takes pieces that a user defined out of the text before all else, and spaces to stand before "
            "words, and this model does not",
            "Train one without user-defined symbols and with spaces before words,",
        )
    if file.algorithm == Algorithm.BPE:
        if rules.charsmap or rules.remove_extra_whitespaces or not file.byte_fallback:
            _refuse(
                "llama.cpp's SentencePiece BPE changes no text and falls back on bytes, and this model does otherwise",
                "Train one with the normalisation 'identity', all white space kept, and byte_fallback,",
            )
        writer.add_tokenizer_model("llama")
    else:
        if file.byte_fallback or not (rules.add_dummy_prefix and rules.remove_extra_whitespaces):
            _refuse(
                "llama.cpp's Unigram joins spaces, puts one before the text and has no bytes to fall back on, and this "
                "model does otherwise",
                "Train one with the normaliser's defaults and without byte_fallback,",
            )
        writer.add_tokenizer_model("t5")
        writer.add_remove_extra_whitespaces(True)
        if rules.charsmap:
            writer.add_precompiled_charsmap(rules.charsmap)
    writer.add_tokenizer_pre("default")
    writer.add_add_space_prefix(rules.add_dummy_prefix)


def _add_tokens(writer: gguf.GGUFWriter, tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Every id's text, kind and score; ids that no token has get a text that is nowhere else."""
    model = tokenizer.specification.model
    names = [tokenizer.id_to_token(number) for number in range(config.vocab_size)]
    kinds = [_UNUSED if name is None else _NORMAL for name in names]
    if isinstance(model, SentencePiece):
        kinds[: len(model.file.pieces)] = [int(piece.kind) for piece in model.file.pieces]
        writer.add_token_scores(
            [piece.score for piece in model.file.pieces] + [0.0] * (len(names) - len(model.file.pieces))
        )
    for token in tokenizer.specification.added:
        if token.lstrip or token.rstrip or token.single_word or token.normalized:
            _refuse(
                f"the token {token.content!r} takes white space with it or stands alone only, and llama.cpp's do not",
                "Take a tokenizer whose added tokens do not,",
            )
        kinds[token.id] = _CONTROL if token.special else _USER_DEFINED
    taken = {name for name in names if name is not None}
    for number, name in enumerate(names):
        if name is None:
            empty = f"[PAD{number}]"
            while empty in taken:
                empty = f"[{empty}]"
            names[number] = empty
            taken.add(empty)
    writer.add_token_list([name or "" for name in names])
    writer.add_token_types(kinds)


def _add_roles(writer: gguf.GGUFWriter, tokenizer: Tokenizer, config: ModelConfig) -> None:
    """The tokens that begin, end and pad a text, whether they stand around every text, and how a chat is written."""
    roles = tokenizer.roles
    ends = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else config.eos_token_id
    if ends is None:
        raise ConfigError(
            "neither tokenizer nor model says which token ends a text, and llama.cpp would end at some other",
            where="tokenizer",
            hint="Name it: tokenizer.with_roles(eos_token=...).",
        )
    writer.add_eos_token_id(ends)
    begins = None if roles.bos_token is None else tokenizer.token_to_id(roles.bos_token)
    begins = config.bos_token_id if begins is None else begins
    around = [piece.ids for piece in tokenizer.specification.post_processor.single]
    place = around.index(())
    before, behind = (sum(part, ()) for part in (around[:place], around[place + 1 :]))
    if before not in ((), (begins,)) or behind not in ((), (ends,)):
        _refuse(
            "llama.cpp puts at most the tokens that begin and end a text around it, and this tokenizer puts others",
            "Take another post-processor,",
        )
    if begins is not None:
        writer.add_bos_token_id(begins)
    writer.add_add_bos_token(bool(before))
    writer.add_add_eos_token(bool(behind))
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    unknown = tokenizer.specification.model.unknown_id
    if unknown is not None:
        writer.add_unk_token_id(unknown)
    if roles.chat_template is not None:
        # Its readers do not know the marks around what the assistant says; a block that is always there is the same.
        writer.add_chat_template(_GENERATION.sub(_plain_block, roles.chat_template))


def _plain_block(mark: re.Match[str]) -> str:
    return f"{{%{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}%}}"
