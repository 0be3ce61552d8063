from estimator.names import unknown_name_error


def test_the_error_names_the_nearest_name_whatever_the_case():
    assert "did you mean 'DeepSeek-R1'?" in str(unknown_name_error("model", "deepseek r1", ["DeepSeek-R1", "b"]))


def test_without_a_near_name_the_error_lists_all_and_guesses_none():
    message = str(unknown_name_error("model", "zzzz", ["b", "a"]))
    assert message == "unknown model 'zzzz'. Known: a, b"
