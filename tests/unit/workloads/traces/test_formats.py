import pytest

from tests.unit.workloads.traces import files
from tests.unit.workloads.traces.files import EVERY, INPUT_TOK, OUTPUT_TOK, TIMED, TIMES_S, USABLE, written
from workloads.spec import load_workload
from workloads.traces import WorkloadFileError, find_trace, recognised
from workloads.traces.formats import RECORDED


def everything(trace, *, times):
    """All requests of a trace as rows, and the rows left out by reason."""
    rows, unusable = [], {}
    for chunk in trace.chunks(times=times):
        assert (chunk.time_s is not None) == times
        time_s = [None] * chunk.input_tok.size if chunk.time_s is None else chunk.time_s.tolist()
        rows += zip(time_s, chunk.input_tok.tolist(), chunk.output_tok.tolist(), strict=True)
        for reason, number in chunk.unusable.items():
            unusable[reason] = unusable.get(reason, 0) + number
    return rows, unusable


@pytest.mark.parametrize(("kind", "text"), EVERY.values(), ids=EVERY)
def test_every_format_gives_the_lengths_of_its_usable_requests_and_counts_the_others(tmp_path, kind, text):
    trace = find_trace(f"{kind}:{written(tmp_path, text)}")
    rows, unusable = everything(trace, times=False)
    assert rows == [(None, INPUT_TOK[row], OUTPUT_TOK[row]) for row in USABLE]
    assert unusable == {"no_output_tok": 1, "no_input_tok": 1}


@pytest.mark.parametrize(("kind", "text"), TIMED.values(), ids=TIMED)
def test_a_recorded_time_counts_in_seconds_from_the_first_row(tmp_path, kind, text):
    trace = find_trace(f"{kind}:{written(tmp_path, text)}")
    rows, _ = everything(trace, times=True)
    assert trace.has_times
    assert [time_s for time_s, _, _ in rows] == pytest.approx([TIMES_S[row] for row in USABLE], abs=1e-6)


@pytest.mark.parametrize(("kind", "text"), EVERY.values(), ids=EVERY)
def test_a_multiplier_lengthens_the_outputs_of_every_format(tmp_path, kind, text):
    lengths = load_workload(f"{kind}:{written(tmp_path, text)}").lengths(1.5)
    assert lengths.input_tok.tolist() == [374, 91, 500]
    assert lengths.output_tok.tolist() == [66, 24, 1500]


@pytest.mark.parametrize(("kind", "text"), EVERY.values(), ids=EVERY)
def test_a_file_is_recognised_by_what_is_in_it(tmp_path, kind, text):
    assert recognised(written(tmp_path, text)).kind == kind


def test_a_file_of_no_known_form_is_not_guessed(tmp_path):
    with pytest.raises(WorkloadFileError, match="looks like no trace"):
        recognised(written(tmp_path, "when,tokens\n1,2\n"))


@pytest.mark.parametrize(("kind", "_"), files.OF_TEXTS.values(), ids=files.OF_TEXTS)
def test_texts_have_no_times_and_their_counts_say_how_they_came_about(tmp_path, kind, _):
    trace = find_trace(f"{kind}:{tmp_path / 'x'}")
    assert not trace.has_times
    assert "approximated" in trace.token_counts
    assert find_trace("azure:x").token_counts == RECORDED


@pytest.mark.parametrize("text", ["azure:", "sharegpt:", "vllm:@tokenizer.json", "sharegpt:file@"])
def test_a_format_without_a_file_is_refused(text):
    with pytest.raises(WorkloadFileError, match="names no file"):
        find_trace(text)


def test_an_at_sign_belongs_to_the_name_of_a_file_that_needs_no_tokenizer():
    assert str(find_trace("azure:home@here/x.csv").path) == "home@here/x.csv"


@pytest.mark.parametrize("kind", ["azure", "mooncake", "burstgpt", "sharegpt", "vllm"])
def test_a_missing_file_is_refused_with_the_reason(tmp_path, kind):
    with pytest.raises(WorkloadFileError, match=r"cannot read the trace .*none: No such file"):
        load_workload(f"{kind}:{tmp_path / 'none'}")


@pytest.mark.parametrize("text", ["", "\n", "{", "[", "[]", "{}", "a,b\n1,2\n", "\0\0", "[1]", '"x"', "5\n"])
@pytest.mark.parametrize("kind", ["azure", "mooncake", "burstgpt", "sharegpt", "vllm"])
def test_a_file_of_another_form_is_refused_and_named(tmp_path, kind, text):
    with pytest.raises(WorkloadFileError, match="trace"):
        load_workload(f"{kind}:{written(tmp_path, text)}")


BAD_ROWS = [
    ("azure", files.AZURE_2023.replace("91,16", "-7,16"), "request 4 has ContextTokens = '-7'"),
    ("azure", files.AZURE_2023.replace("91,16", "91,1.5"), "request 4 has GeneratedTokens = '1.5'"),
    ("azure", files.AZURE_2023.replace("91,16", "many,16"), "request 4 has ContextTokens = 'many'"),
    ("azure", files.AZURE_2023.replace("91,16", "91,"), "request 4 has GeneratedTokens = ''"),
    ("azure", files.AZURE_2023.replace("91,16", "inf,16"), "request 4 has ContextTokens = 'inf'"),
    ("azure", files.AZURE_2023.replace("91,16", "91,99999999999"), "request 4 has GeneratedTokens = '99999999999'"),
    ("azure", files.AZURE_2023.replace("91,16", "91,16,3"), "Row #5"),
    ("azure", files.AZURE_2023.replace("91,16", "91"), "Row #5"),
    ("burstgpt", files.BURSTGPT.replace("91,16", "91,-1"), "request 4 has Response tokens = '-1'"),
    ("mooncake", files.MOONCAKE_CSV.replace("91,16", "91,x"), "request 4 has output_length = 'x'"),
    ("mooncake", files.MOONCAKE.replace(": 91", ": -91"), "request 4 has input_length = -91"),
    ("mooncake", files.MOONCAKE.replace(": 91", ": true"), "request 4 has input_length = True"),
    ("mooncake", files.MOONCAKE.replace(": 91", ": [91]"), r"request 4 has input_length = \[91\]"),
    ("mooncake", files.MOONCAKE.replace('"input_length": 91', '"length": 91'), "request 4 has input_length = None"),
    ("mooncake", files.MOONCAKE.replace(": 91", ": 9" + "9" * 400), "request 4 has input_length = 999"),
    ("mooncake", files.MOONCAKE.replace(": 91", ": "), "line 4"),
    ("mooncake", files.MOONCAKE + "\n\n[1]", "line 7 holds no object"),
    ("vllm", files.VLLM.replace(": 16}", ': "16"}'), "request 4 has output_tokens = '16'"),
    ("vllm", files.VLLM.replace(', "output_tokens": 16', ""), "request 4 has output_tokens = None"),
    ("vllm", files.VLLM + '\n{"prompt": 5, "output_tokens": 1}', "request 6 has prompt = 5"),
    ("sharegpt", files.SHAREGPT[:-1] + ', {"id": 1}]', "conversation 6 has no list called conversations"),
    (
        "sharegpt",
        files.SHAREGPT[:-1] + ', {"conversations": [{"value": "a"}, {}]}]',
        "first two turns of conversation 6",
    ),
    ("sharegpt", files.SHAREGPT[:-1], "ends after|neither a comma"),
    ("sharegpt", files.SHAREGPT + "]", "something follows"),
    ("sharegpt", files.SHAREGPT.replace('"from": "gpt"', '"from" "gpt"', 1), "item 1"),
]


@pytest.mark.parametrize(("kind", "text", "message"), BAD_ROWS)
def test_a_malformed_row_is_an_error_that_names_it(tmp_path, kind, text, message):
    with pytest.raises(WorkloadFileError, match=message):
        load_workload(f"{kind}:{written(tmp_path, text)}")


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("azure", files.AZURE_2023.replace("2023-11-16 18:15:50.1805900", "noon"), "request 4 has TIMESTAMP = 'noon'"),
        ("azure", files.AZURE_2023.replace("TIMESTAMP", "WHEN"), "TIMESTAMP"),
        ("burstgpt", files.BURSTGPT.replace("8.5,", ","), "request 4 has Timestamp = ''"),
        ("mooncake", files.MOONCAKE.replace("30982.0", "null"), "request 4 has timestamp = None"),
    ],
)
def test_a_time_that_cannot_be_read_is_an_error_only_where_times_are_asked_for(tmp_path, kind, text, message):
    trace = find_trace(f"{kind}:{written(tmp_path, text)}")
    assert len(everything(trace, times=False)[0]) == 3
    with pytest.raises(WorkloadFileError, match=message):
        everything(trace, times=True)


def test_a_trace_in_which_nothing_is_usable_is_refused_with_the_counts(tmp_path):
    rows = "Timestamp,Request tokens,Response tokens\n1,5,0\n2,6,0\n3,0,4\n"
    with pytest.raises(WorkloadFileError, match="2 with no_output_tok, 1 with no_input_tok"):
        load_workload(f"burstgpt:{written(tmp_path, rows)}")


def test_a_conversation_of_one_turn_is_counted_and_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    text = '\ufeff[{"conversations": [{"value": "alone"}]}, {"conversations": []},' + files.SHAREGPT[1:]
    definition = load_workload(f"sharegpt:{written(tmp_path, text)}").definition()
    assert definition["trace_unusable"] == {"no_output_tok": 1, "no_input_tok": 1, "fewer_than_two_turns": 2}
    assert definition["trace_requests"] == 3
