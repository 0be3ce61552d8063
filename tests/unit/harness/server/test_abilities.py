import numpy as np
import pytest

from harness.errors import ServerError
from harness.server import abilities
from harness.server.abilities import parse_prefix_caching, prefix_caching, returns_token_ids, tokenized
from harness.server.api import new_session
from tests.fakes.scripted_engine import Script
from tests.fakes.scripted_server import scripted_server
from tests.fakes.waiting import in_loop
from workloads.prompts import PromptText

INFO = 'vllm:cache_config_info{{block_size="16",enable_prefix_caching="{said}",engine="{engine}"}} 1.0\n'
NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INFO.format(said="True", engine=0), True),
        (INFO.format(said="False", engine=0), False),
        (INFO.format(said="True", engine=0) + INFO.format(said="True", engine=1), True),
        (INFO.format(said="True", engine=0) + INFO.format(said="False", engine=1), None),
        (INFO.format(said="None", engine=0), None),
        ('vllm:cache_config_info{block_size="16"} 1.0\n', None),
        ("vllm:num_requests_running 3.0\n", None),
        ("", None),
    ],
)
def test_prefix_caching_is_what_the_server_says_of_its_cache(text, expected):
    assert parse_prefix_caching(text) is expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [(Script(prefix_caching=True), True), (Script(), False), (Script(metrics=False), None)],
    ids=["on", "off", "not told"],
)
@in_loop
async def test_a_server_is_asked_for_its_prefix_caching(script, expected):
    async with scripted_server(script) as server:
        assert await prefix_caching(server.url) is expected
    assert await prefix_caching(NOWHERE) is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [(Script(), True), (Script(token_ids=False), False), (Script(fault="http_500"), False),
     (Script(fault="not_json"), False)],
    ids=["told", "ignored", "refused", "no JSON"],
)  # fmt: skip
@in_loop
async def test_whether_token_ids_come_back_is_found_out_by_asking(script, expected):
    async with scripted_server(script) as server, new_session() as session:
        assert await returns_token_ids(session, server.url, "scripted") is expected


@in_loop
async def test_a_text_longer_than_a_piece_is_tokenised_whole_and_in_order(monkeypatch):
    monkeypatch.setattr(abilities, "_PIECE_CHARACTERS", 100)
    words = [f"w{number:03}" for number in range(400)]  # four characters and a blank: pieces end between words
    text = PromptText("book.txt", "".join(f"{word} " for word in words), "0")
    async with scripted_server() as server, new_session() as session:
        prompts = await tokenized(session, server.url, "scripted", text)
        assert [server.words[word] for word in words] == prompts.ids.tolist() == list(range(300, 700))
    assert prompts.kind == "text: slices of book.txt"
    assert prompts.draw(np.random.default_rng(0), 50).size == 50


@in_loop
async def test_a_text_too_short_or_a_server_without_a_tokenizer_is_refused():
    async with scripted_server() as server, new_session() as session:
        with pytest.raises(ServerError, match="cannot be sliced"):
            await tokenized(session, server.url, "scripted", PromptText("book.txt", "three short words", "0"))
        with pytest.raises(ServerError, match="does not tokenise the text"):
            await tokenized(session, NOWHERE, "scripted", PromptText("book.txt", "words", "0"))
