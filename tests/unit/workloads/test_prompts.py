import hashlib
import re

import numpy as np
import pytest

from workloads.prompts import MIN_TEXT_TOK, RANDOM, TextPrompts, read_prompt_text
from workloads.tiny_model import VOCABULARY_SIZE
from workloads.traces import WorkloadFileError

TEXT = TextPrompts(np.arange(5_000, 6_000), "text: slices of numbers")
LENGTHS = [1, 3, 4, 5, 500, 2_500]


@pytest.mark.parametrize("prompts", [RANDOM, TEXT], ids=["random", "text"])
@pytest.mark.parametrize("length_tok", LENGTHS)
def test_a_prompt_has_the_length_asked_for_in_whole_numbers(prompts, length_tok):
    prompt = prompts.draw(np.random.default_rng(0), length_tok)
    assert prompt.shape == (length_tok,)
    assert all(type(token) is int for token in prompt.tolist())


@pytest.mark.parametrize(("prompts", "start_tok"), [(RANDOM, 8), (TEXT, 5)], ids=["random", "text"])
def test_no_two_prompts_start_alike(prompts, start_tok):
    rng = np.random.default_rng(1)
    starts = {tuple(prompts.draw(rng, 12)[:start_tok]) for _ in range(5_000)}
    assert len(starts) == 5_000


def test_token_ids_lie_above_byte_and_control_tokens_and_within_the_smallest_vocabulary():
    ids = RANDOM.draw(np.random.default_rng(2), 200_000)
    assert min(ids) >= 3 + 256
    assert max(ids) < VOCABULARY_SIZE


@pytest.mark.parametrize("prompts", [RANDOM, TEXT], ids=["random", "text"])
def test_the_same_seed_gives_the_same_prompt(prompts):
    first, second = (prompts.draw(np.random.default_rng(7), 50).tolist() for _ in range(2))
    assert first == second


def test_a_text_prompt_is_a_passage_of_the_text_that_goes_on_at_its_beginning_behind_tokens_of_the_text():
    rng = np.random.default_rng(3)
    for _ in range(20):
        prompt = TEXT.draw(rng, 1_200).tolist()
        start = prompt[4] - 5_000
        assert prompt[4:] == [5_000 + (start + place) % 1_000 for place in range(1_196)]
        assert all(5_000 <= token < 6_000 for token in prompt[:4])


def test_a_text_too_short_to_be_sliced_is_refused():
    with pytest.raises(ValueError, match=f"255 tokens; at least {MIN_TEXT_TOK}"):
        TextPrompts(np.arange(255), "text")


def test_a_text_file_is_known_by_its_hash_and_length(tmp_path):
    (tmp_path / "book.txt").write_text("größer\n" * 10, encoding="utf-8")
    text = read_prompt_text(tmp_path / "book.txt")
    digest = hashlib.sha256((tmp_path / "book.txt").read_bytes()).hexdigest()
    assert text.definition() == {"kind": "text: slices of book.txt", "characters": 70, "sha256": digest}


@pytest.mark.parametrize(("content", "says"), [(None, "cannot read"), (b"\xff\xfe\x00", "not a text in UTF-8")])
def test_a_file_that_is_no_text_is_refused(tmp_path, content, says):
    path = tmp_path / "book.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WorkloadFileError, match=f"{says}|{re.escape(str(path))} is {says}"):
        read_prompt_text(path)
