from engine.store.embedded.postgres_process import find_error_line


def test_the_reason_of_a_failed_start_is_its_error_and_not_the_tidying_up_after_it() -> None:
    said = 'creating files\ninitdb: error: could not write "x": No space left on device\ninitdb: removing "x"\n'
    assert find_error_line(said) == 'initdb: error: could not write "x": No space left on device'
    assert find_error_line("2026-01-01 LOG:  shut down.\n") == "2026-01-01 LOG:  shut down"
    assert find_error_line(" \n") == "no reason given"
