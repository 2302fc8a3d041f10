"""Text ends before the first stop string, however it is cut into pieces."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.stops import StopScanner

ALPHABET = "ab.\n"


def scan(pieces: list[str], stops: list[str]) -> tuple[str, str]:
    scanner = StopScanner(stops)
    text = "".join(scanner.push(piece) for piece in pieces)
    return text + scanner.flush(), scanner.matched


def expected(text: str, stops: list[str]) -> tuple[str, str]:
    """Slowly: look after every character."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, ""


@given(
    pieces=st.lists(st.text(ALPHABET, max_size=5), max_size=12),
    stops=st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=4),
)
def test_the_result_does_not_depend_on_the_pieces(pieces: list[str], stops: list[str]) -> None:
    assert scan(pieces, stops) == expected("".join(pieces), stops)


@given(
    pieces=st.lists(st.text(ALPHABET, max_size=5), max_size=12),
    stops=st.lists(st.text(ALPHABET, min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_no_stop_string_ever_shows_and_no_more_than_needed_is_held(
    pieces: list[str], stops: list[str]
) -> None:
    scanner, shown, seen = StopScanner(stops), "", ""
    for piece in pieces:
        shown += scanner.push(piece)
        seen += piece
        assert not any(stop in shown for stop in stops)
        if not scanner.matched:
            held = seen[len(shown) :]
            assert seen == shown + held
            assert held == "" or any(stop.startswith(held) for stop in stops)


def test_a_stop_across_pieces() -> None:
    scanner = StopScanner(["\nUser:"])
    assert [scanner.push(piece) for piece in ("hi\n", "Us", "er", ": x")] == ["hi", "", "", ""]
    assert scanner.matched == "\nUser:"
    assert scanner.push("more") == ""
    assert scanner.flush() == ""


def test_what_only_looked_like_a_stop_comes_after_all() -> None:
    scanner = StopScanner(["END"])
    assert [scanner.push(piece) for piece in ("a E", "N", "d")] == ["a ", "", "ENd"]


def test_held_text_comes_at_the_end() -> None:
    scanner = StopScanner(["END"])
    assert scanner.push("the EN") == "the "
    assert scanner.flush() == "EN"
