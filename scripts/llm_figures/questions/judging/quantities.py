"""Numbers with units, compared by value."""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

# Units that people write as symbols. A single letter or a short word that pint knows, too, is more
# often something else ("5 a", "5 at", "5 in 10").
_SYMBOLS = frozenset(
    "m km cm mm µm nm g kg mg µg t lb lbs oz s ms h hr hrs min mins l L ml mL dl cl kph mph kmh Hz "
    "kHz MHz GHz V kV W kW MW J kJ cal kcal K ft yd mi ha Pa kPa hPa MPa atm bar mol N eV kWh GB "
    "MB kB KB TB ly AU rpm dB Ω sec secs yr yrs px °C °F ° % ‰".split()
)
_SPELLING = {
    "%": "percent", "per cent": "percent", "percentage points": "percent", "‰": "permille",
    "°": "degree", "°c": "degC", "°f": "degF", "degrees celsius": "degC", "lbs": "lb",
    "degree celsius": "degC", "degrees centigrade": "degC", "degrees fahrenheit": "degF",
    "degree fahrenheit": "degF", "celsius": "degC", "fahrenheit": "degF", "hrs": "hour",
    "hr": "hour", "mins": "minute", "min": "minute", "sec": "second", "secs": "second",
    "yr": "year", "yrs": "year", "kmh": "km/hour", "mph": "mile/hour", "kph": "km/hour",
    "公里": "km", "千米": "km", "米": "m", "厘米": "cm", "毫米": "mm", "公斤": "kg", "千克": "kg",
    "克": "gram", "小时": "hour", "小時": "hour", "分钟": "minute", "分鐘": "minute",
    "秒": "second", "天": "day", "degrees c": "degC", "degrees f": "degF", "amps": "ampere",
    "amp": "ampere", "l": "liter", "h": "hour", "s": "second", "metric ton": "tonne",
    "tons": "ton", "kb": "kB",
}  # fmt: skip
_CURRENCIES = {
    "$": "dollar", "us$": "dollar", "usd": "dollar", "dollar": "dollar", "dollars": "dollar",
    "€": "euro", "eur": "euro", "euro": "euro", "euros": "euro", "£": "pound", "gbp": "pound",
    "¥": "yen", "yen": "yen", "jpy": "yen", "₹": "rupee", "rupee": "rupee", "rupees": "rupee",
    "cent": "cent", "cents": "cent", "yuan": "yuan", "rmb": "yuan", "元": "yuan", "₽": "rouble",
    "rub": "rouble", "rouble": "rouble", "roubles": "rouble", "ruble": "rouble", "rubles": "rouble",
}  # fmt: skip
_MONEY = {"dollar", "euro", "cent"}
# A converted value is often rounded: 5 miles for 8 km.
_ROUNDED = 0.002


@dataclass(frozen=True)
class Quantity:
    """A number with its unit in pint's spelling, or of a currency; "" without one."""

    value: Fraction
    unit: str = ""


def find_unit(phrase: str) -> str | None:
    """The unit that a phrase such as "km", "kilometers per hour" or "m²" names, else None."""
    return _find_unit(" ".join(phrase.split()))


def find_currency(sign: str) -> str | None:
    return _CURRENCIES.get(sign.casefold())


def equals(answer: Quantity, gold: Quantity) -> bool:
    """Whether both are the same quantity; a gold answer without a unit takes any."""
    if answer.value == gold.value and answer.unit == gold.unit:
        return True
    if bool(answer.unit) != bool(gold.unit):
        # 50% is 0.5, and so it answers to 50, but 0.5% is not 0.5
        ratio = _ratio(answer.unit or "dimensionless", gold.unit or "dimensionless")
        if ratio is not None and answer.value * ratio == gold.value:
            return True
        whole = gold.value.denominator == 1 or answer.unit not in ("percent", "permille")
        return (not gold.unit or gold.unit == "degree") and whole and answer.value == gold.value
    if "cent" in (answer.unit, gold.unit) and {answer.unit, gold.unit} <= _MONEY:
        cents = [one.value * (1 if one.unit == "cent" else 100) for one in (answer, gold)]
        return cents[0] == cents[1]
    return _is_converted(answer, gold)


def add_parts(whole: Quantity, part: Quantity) -> Quantity | None:
    """The sum of "5 ft" and "11 in" in the first unit; None if the second is no part of it."""
    if not (whole.unit and part.unit) or whole.unit == part.unit or part.value < 0:
        return None
    if part.unit == "cent" and whole.unit in _MONEY and part.value < 100:
        return Quantity(whole.value + part.value / 100, whole.unit)
    if whole.unit in _CURRENCIES.values() or not converts(whole.unit, part.unit):
        return None
    try:
        ratio = _registry().Quantity(1, part.unit).to(whole.unit).magnitude
    except Exception:
        return None
    if not 0 < ratio < 1 or part.value * Fraction(ratio) >= 1:
        return None
    return Quantity(whole.value + part.value * Fraction(ratio).limit_denominator(10**6), whole.unit)


def converts(unit: str, other: str) -> bool:
    """Whether both are units of the same physical dimension."""
    registry = _registry()
    try:
        return registry.Unit(unit).is_compatible_with(other)
    except Exception:  # a currency
        return unit == other


def _is_converted(answer: Quantity, gold: Quantity) -> bool:
    if answer.unit == gold.unit or not converts(answer.unit, gold.unit):
        return False
    try:
        wanted = float(gold.value)
        value = _registry().Quantity(float(answer.value), answer.unit).to(gold.unit).magnitude
    except Exception:  # pint raises errors of several libraries; numbers overflow
        return False
    return abs(value - wanted) <= max(_ROUNDED * abs(wanted), 1e-6)


def _ratio(unit: str, other: str) -> Fraction | None:
    """How many of `other` a dimensionless unit is; None where one has a dimension."""
    if unit in _CURRENCIES.values() or other in _CURRENCIES.values():
        return None
    registry = _registry()
    try:
        units = registry.Unit(unit), registry.Unit(other)
        if not all(one.dimensionless for one in units):
            return None
        if "degree" in str(units):  # an angle is not its value in radians
            return None
        ratio = registry.Quantity(1, units[0]).to(units[1]).magnitude
    except Exception:
        return None
    return Fraction(ratio).limit_denominator(10**6)


@lru_cache(4096)
def _find_unit(phrase: str) -> str | None:
    lower = phrase.casefold()
    if lower in _CURRENCIES:
        return _CURRENCIES[lower]
    for word, power in (("square", "**2"), ("sq", "**2"), ("cubic", "**3"), ("cu", "**3")):
        if match := re.fullmatch(rf"{word}\.? (\S+)", lower):
            unit = _find_unit(match[1])
            return unit and _pint_name(f"({unit}){power}")
    if match := re.fullmatch(r"([^\s/]+?)\^?([23])", phrase):
        unit = _find_unit(match[1])
        return unit and _pint_name(f"({unit})**{match[2]}")
    for power, name in (("squared", "**2"), ("cubed", "**3")):
        if lower.endswith(f" {power}"):
            over, slash, under = lower.removesuffix(f" {power}").rpartition(" per ")
            unit = _find_unit(under)
            below = unit and (_find_unit(over) if slash else "dimensionless")
            if not below:
                return None
            return _pint_name(f"({below})/({unit}){name}" if slash else f"({unit}){name}")
    for separator in (" per ", "/", " an ", " a "):
        over, _, under = phrase.partition(separator)
        if under:
            units = _find_unit(over), _find_unit(under)
            return _pint_name(f"({units[0]})/({units[1]})") if all(units) else None
    if spelled := _SPELLING.get(lower):
        return _pint_name(spelled)
    if phrase in _SYMBOLS:
        return _pint_name(phrase)
    if len(phrase) < 3 or not phrase.isalpha():
        return None
    for prefix, name, _ in _registry().parse_unit_name(lower):
        # "cats" are no centi-technical-atmospheres
        if len(name) >= 3 and lower.startswith(f"{prefix}{name[:3]}"):
            return _pint_name(f"{prefix}{name}")
    return _pint_name("foot") if lower == "feet" else None


def _pint_name(expression: str) -> str | None:
    try:
        return str(_registry().Unit(expression))
    except Exception:  # pint raises errors of several libraries
        return None


@cache
def _registry():
    import pint

    return pint.UnitRegistry()
