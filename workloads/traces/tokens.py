"""How many tokens a text has: by a tokenizer, or by a rule of thumb that says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from estimator.lengths import IntArray
from workloads.traces.stream import WorkloadFileError

BYTES_A_TOKEN = 4


class TokenCounter(Protocol):
    """Counts the tokens of texts."""

    @property
    def how(self) -> str:
        """How it counts, in words."""
        ...

    def count(self, texts: Sequence[str], *, prompt: bool) -> IntArray:
        """Return the tokens of each text, shape ``(n,)``; a prompt has what the tokenizer puts around it too."""
        ...


class ApproximateCounter:
    """One token for every four bytes of UTF-8, rounded up: about right for English, wrong for code and other scripts.

    >>> ApproximateCounter().count(["", "word", "words"], prompt=True).tolist()
    [0, 1, 2]
    """

    how = "approximated: 1 token per 4 bytes of UTF-8, rounded up; no tokenizer was given"

    def count(self, texts: Sequence[str], *, prompt: bool) -> IntArray:
        """Return the approximate counts, the same for prompts and answers."""
        return np.array([-(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN) for text in texts], dtype=np.int64)


class TokenizerCounter:
    """The counts of a Hugging Face tokenizer: prompts with its special tokens, such as a first one, answers without."""

    def __init__(self, path: Path) -> None:
        """Load a ``tokenizer.json`` or the folder it lies in; raises ``WorkloadFileError`` if that is not possible."""
        from tokenizers import Tokenizer

        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            self._tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise WorkloadFileError(f"cannot read the tokenizer {file}: {error.strerror or error}") from error
        except Exception as error:  # the library raises nothing narrower
            raise WorkloadFileError(f"{file} is not a tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.how = f"counted with the tokenizer {path}; no chat template"

    def count(self, texts: Sequence[str], *, prompt: bool) -> IntArray:
        """Return the counts; half of a surrogate pair, which is no character, counts as a question mark."""
        sound = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encodings = self._tokenizer.encode_batch_fast(sound, add_special_tokens=prompt)
        empty = np.array([not text for text in texts], dtype=np.bool_)
        counts = np.array([len(encoding) for encoding in encodings], dtype=np.int64)
        return np.where(empty, 0, counts)
