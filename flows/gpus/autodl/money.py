"""Count AutoDL's money: whole thousandths of a yuan on the wire, dollars everywhere else; pure.

    >>> from flows.gpus.settings import ForeignMoney
    >>> dollars_of(29290, ForeignMoney(per_dollar=7.0)), milli_of(0.28, ForeignMoney(per_dollar=7.0))
    (4.184285714285714, 1960)

Read as yuan, a balance is a thousand times too large: an alarm on it never fires.
"""

from __future__ import annotations

from flows.errors import SettingsError
from flows.gpus.settings import ForeignMoney

MILLI = 1000
"""Thousandths in one yuan."""
CURRENCY = "CNY"


def dollars_of(milli: int, money: ForeignMoney) -> float:
    """Return thousandths of a yuan in dollars."""
    return milli / MILLI / money.per_dollar


def milli_of(dollars: float, money: ForeignMoney) -> int:
    """Return dollars in thousandths of a yuan, rounded."""
    return round(dollars * money.per_dollar * MILLI)


def text_of(milli: int) -> str:
    """Return an amount for people.

    >>> text_of(1970)
    '1.970 yuan'
    """
    return f"{milli / MILLI:.3f} yuan"


def require_yuan(money: ForeignMoney, where: str) -> None:
    """Refuse another currency: AutoDL knows one.

    Raises:
        SettingsError: the section counts in something else.
    """
    if money.currency != CURRENCY:
        raise SettingsError(
            expected=f"money in {CURRENCY}, the one currency AutoDL bills in", got=money.currency,
            where=f"whetstone.toml: providers.{where}.money",
            now="Write prices in yuan, and in per_dollar how many yuan a dollar is.",
        )  # fmt: skip
