"""Every understood spelling is one symbol, for any base and quote; nothing else becomes one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.symbol_names import normalize_symbol

QUOTES = ("USDT", "USDC", "USD1", "FDUSD", "BUSD", "USD")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
bases = st.one_of(
    st.text(LETTERS, min_size=1, max_size=15),
    st.sampled_from(
        ("1000PEPE", "PERP", "SWAP", "P", "XPERP", "AUSDT", "USDTPERP", "BUSD", "1", "T", "B", "FD", "USDC")
    ),
    st.text(LETTERS, min_size=1, max_size=9).map(lambda base: base + "PERP"),
)
separators = st.sampled_from(("", "/", "-", "_", ".", ":", " ", "--", "//", "_-", "\n", "\\", "|", "+", "\u2215"))
marks = st.sampled_from(
    (
        "",
        ".P",
        "PERP",
        "_PERP",
        "-PERP",
        "-SWAP",
        ".S",
        ".F",
        "-251226",
        "_251226",
        ":USDT",
        ":BTC",
        ":USDT-251226",
        "-C",
        "*2",
    )
)
prefixes = st.sampled_from(("", "BINANCE:", "A:B:", ":", "BTC:", "USDT:", "BTCUSDT:", "1/"))
cases = st.sampled_from((str, str.lower, str.title, lambda word: f"  {word}\t"))


def read(written: str) -> str | None:
    try:
        return normalize_symbol(written)
    except ValueError:
        return None


def spellings(base: str, quote: str) -> set[str]:
    """Those that are understood for this pair, without case, blanks and exchange."""
    pair = base + quote
    apart = {f"{base}/{quote}", f"{base}-{quote}", f"{base}_{quote}", f"{base}/{quote}:{quote}"}
    apart |= set() if pair in {"TUSD", "BUSD", "FDUSD"} else {pair}  # names of currencies
    if quote != "USD":
        apart |= {f"{base}-{quote}-SWAP", f"{base}-{quote}-PERP", f"{base}_{quote}_PERP"}
    if not pair.endswith("USD"):
        apart |= {f"{pair}.P", f"{pair}PERP", f"{pair}_PERP", f"{pair}-PERP"}
    return apart


@given(base=bases, quote=st.sampled_from(QUOTES), case=cases, data=st.data())
@settings(max_examples=300, deadline=None, database=None, derandomize=True)
def test_every_understood_spelling_is_base_and_quote(
    base: str, quote: str, case: type[str], data: st.DataObject
) -> None:
    written = data.draw(st.sampled_from(sorted(spellings(base, quote))))
    assert read(case(written)) == base + quote
    assert read(case(f"BINANCE:{written}")) == base + quote


@given(prefix=prefixes, base=bases, separator=separators, quote=st.sampled_from((*QUOTES, "", "PERP", "X")), mark=marks)
@settings(max_examples=1_000, deadline=None, database=None, derandomize=True)
def test_nothing_else_becomes_a_symbol(prefix: str, base: str, separator: str, quote: str, mark: str) -> None:
    written = f"{prefix}{base}{separator}{quote}{mark}"
    found = read(written)
    if found is None or found == written:
        return
    rest = written.removeprefix("BINANCE:")
    pairs = [(found[:at], found[at:]) for at in range(1, len(found)) if found[at:] in QUOTES]
    dated = rest == found and rest[-7:] == "_251226"
    assert dated or any(rest in spellings(*pair) for pair in pairs), found


@pytest.mark.parametrize(
    ("written", "symbol"),
    [
        ("币安人生USDT", "币安人生USDT"),
        (" 币安人生usdt ", "币安人生USDT"),
        ("BINANCE:币安人生USDT.P", "币安人生USDT"),
        ("币安人生/USDT:USDT", "币安人生USDT"),
        ("币安人生-USDT-SWAP", "币安人生USDT"),
        ("1000pepeusdt", "1000PEPEUSDT"),
    ],
)
def test_names_in_scripts_without_case_are_understood_as_others_are(written: str, symbol: str) -> None:
    assert normalize_symbol(written) == symbol


@pytest.mark.parametrize(
    "written",
    [
        "\u0412TCUSDT",  # Cyrillic
        "\uff22TCUSDT",  # full width
        "BTCUS\u017fDT",  # a long s, whose upper case is S
        "\u200bBTCUSDT",  # of no width
        "\u202eTDSUCTB",  # turns text round
        "\uff76USDT",  # a kana of half width
        "\U0001f436USDT",
    ],
)
def test_what_looks_like_another_name_or_cannot_be_seen_is_no_symbol(written: str) -> None:
    assert read(written) is None
