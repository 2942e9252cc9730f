"""A prompt becomes BPE ids, and what certain weights cannot read of it becomes a sentence.

Beside model.py: every prompt passes here before the network reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from clipcount_cli.config import ModelConfig
from clipcount_cli.counting.clip import tokenizer
from clipcount_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

ENDS = 2  # [SOS] and [EOT]
# Before another word; a capital letter within a prompt is a name: vitamin A pills.
_ARTICLE = re.compile(r"(^\s*(?i:an?|the)|(?<=\s)(an?|the))\s+(?=\S)")

_PLURALS = (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"))  # and the singular


def bpe_ids(text: str) -> list[int]:
    """CLIP's BPE ids of `text`, without [SOS] and [EOT]."""
    return list(tokenizer().encode(text))


def refuse_empty(prompts: Iterable[str], hint: str) -> None:
    """Raise UsageError if one of `prompts` is empty."""
    if not all(prompt.strip() for prompt in prompts):
        raise UsageError("a prompt is empty", hint)


def text_of(ids: Sequence[int]) -> str:
    """The text of BPE ids, in lower case."""
    return str(tokenizer().decode(ids)).strip()


def prompt_length(config: ModelConfig) -> int:
    """How many BPE tokens a prompt may have."""
    # With readout "released", [EOT] is looked for before the learned context takes its places.
    context = config.context_tokens if config.readout == "eot" else 0
    return config.clip.context_length - context - ENDS


def worded(prompt: str, config: ModelConfig) -> str:
    """The text that a network reads for `prompt`.

    Weights trained here learn nouns without articles, so articles are left out for them. The
    authors' weights read every word as it is.
    """
    if config.readout != "released":
        prompt = _ARTICLE.sub("", prompt)
    return config.template.format(prompt)


def tokenize(prompts: Sequence[str], config: ModelConfig) -> Tensor:
    """BPE ids (B, L) with [SOS] and [EOT]; what is too long is cut before [EOT].

    L is the length of the longest, shorter rows are padded with zeros.
    """
    texts = [worded(prompt, config) for prompt in prompts]
    tokens: Tensor = tokenizer()(texts, prompt_length(config) + ENDS)
    return tokens[:, : int(tokens.argmax(dim=-1).max()) + 1]  # [EOT] has the highest id


def unread_part(prompt: str, config: ModelConfig) -> str | None:
    """What a network cannot read of `prompt`, in a sentence; None if it reads everything."""
    ids = bpe_ids(worded(prompt, config))
    length = prompt_length(config)
    if len(ids) > length:
        return f'"{prompt}" has {len(ids)} BPE tokens: only the first {length} are read'
    if config.readout == "released" and config.context_tokens > 1:
        read = tokenizer().decode(ids[: 1 - config.context_tokens]).strip()
        if not read:
            return f'the prompt has no effect: "{prompt}" is one token, and its last is never read'
        return f'"{prompt}" is read as "{read}"'
    if not (words := untaught(config, [prompt])):
        return None
    names = ", ".join(f'"{word}"' for word in words)
    return f"these weights were never taught {names}: the count may be near zero, or wrong"


def disjoint_prompts(prompt: str, other: str) -> bool:
    """Whether neither names what the other names too, as "beads" are there if "Red beads" are.

    Case, articles and hyphens do not matter, nor does the plural of the last word.
    """
    *words, last = _words(prompt)
    *others, other_last = _words(other)
    if _contain([*words, last], [*others, other_last]):
        return False
    same_kind = bool(_singulars(last) & _singulars(other_last))
    return not (same_kind and _contain(words, others))


def _words(prompt: str) -> list[str]:
    """At least one word."""
    return _ARTICLE.sub("", prompt).lower().replace("-", " ").split() or [""]


def _singulars(word: str) -> set[str]:
    """What a noun may be in the singular, as far as its ending tells; itself included."""
    fitting = [ends for ends in _PLURALS if word.endswith(ends[0])]
    return {word, *(word.removesuffix(plural) + singular for plural, singular in fitting)}


def _contain(words: list[str], others: list[str]) -> bool:
    return {*words} <= {*others} or {*others} <= {*words}


def untaught(config: ModelConfig, prompts: Sequence[str]) -> list[str]:
    """The words of `prompts` that a network did not learn to count, in their order.

    None of a compact network's: it knows all words, by their likeness to others.
    """
    if config.clip.compact:
        return []
    if config.readout != "released":
        prompts = [_ARTICLE.sub("", prompt) for prompt in prompts]
    if config.taught:
        found = [word for prompt in prompts for word in _beside(set(config.taught), prompt)]
    else:
        known = set(config.clip.vocabulary)
        words = [word for prompt in prompts for word in prompt.split() if known]
        found = [word for word in words if not known.issuperset(bpe_ids(word))]
    return list(dict.fromkeys(found))


def _beside(phrases: set[str], prompt: str) -> Iterator[str]:
    """The words of `prompt` that belong to none of `phrases`: a bottle is no bottle cap."""
    words = prompt.split()
    longest = max(len(phrase.split()) for phrase in phrases)
    while words:
        lengths = range(min(longest, len(words)), 0, -1)
        fits = (n for n in lengths if " ".join(words[:n]).lower() in phrases)
        length = next(fits, 0)
        if not length:
            yield words[0]
        words = words[max(length, 1) :]
