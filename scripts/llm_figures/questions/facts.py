"""The built-in questions: simple facts from small data packages at pinned versions.

Each has a frame, the beginning of a full-sentence answer ("The capital of Albania is"). The frame
follows from the question alone, so the exact answer after it is located without using the gold
answer.
"""

import json
from datetime import date
from importlib.resources import files

import pandas as pd

# Leaves out territories that are mostly uninhabited or part of another country.
SMALLEST_POPULATION = 100_000
# Currencies change; with a fixed date the questions do not.
CURRENCIES_ON = date(2025, 1, 1)
# Later elements have systematic or disputed names in older sources.
LAST_ELEMENT = 103

# Where countryinfo 1.0.1 is outdated, or more than one answer is right.
CAPITALS = {
    "BI": ["Gitega", "Bujumbura"],
    "BJ": ["Porto-Novo", "Cotonou"],
    "BO": ["Sucre", "La Paz"],
    "CI": ["Yamoussoukro", "Abidjan"],
    "IL": ["Jerusalem", "Tel Aviv"],
    "KI": ["Tarawa"],
    "KZ": ["Astana", "Nur-Sultan"],
    "LK": ["Sri Jayawardenepura Kotte", "Kotte", "Colombo"],
    "SZ": ["Mbabane", "Lobamba"],
    "TZ": ["Dodoma", "Dar es Salaam"],
    "ZA": ["Pretoria", "Cape Town", "Bloemfontein"],
}
NAMES = {"MK": "North Macedonia", "SZ": "Eswatini", "FM": "Micronesia"}
# Dissolved, or without a seat of government of its own.
LEFT_OUT = {"CS", "HK", "MO", "EH", "PS"}
CONTINENTS = {
    "Northern America": ["North America", "Americas"],
    "Central America": ["North America", "Central America", "Caribbean", "Americas"],
    "South America": ["South America", "Americas"],
}
# On two continents, or counted as part of either.
TWO_CONTINENTS = {
    **{code: ["Europe", "Asia"] for code in ("AM", "AZ", "CY", "GE", "KZ", "RU", "TR")},
    "AU": ["Oceania", "Australia"],
    "EG": ["Africa", "Asia"],
}
# countryinfo has one region for everything south of the United States.
SOUTH_AMERICA = {"AR", "BO", "BR", "CL", "CO", "EC", "GF", "GY", "PE", "PY", "SR", "UY", "VE"}
# Other names of languages that the locale data knows by one.
LANGUAGES = {
    "Bangla": ["Bangla", "Bengali"],
    "Chinese": ["Chinese", "Mandarin"],
    "Filipino": ["Filipino", "Tagalog"],
    "Khmer": ["Khmer", "Cambodian"],
    "Norwegian Bokmål": ["Norwegian"],
    "Nyanja": ["Nyanja", "Chichewa"],
    "Persian": ["Persian", "Farsi", "Dari"],
    "Rundi": ["Rundi", "Kirundi"],
    "Southern Sotho": ["Sotho", "Sesotho"],
    "Swahili": ["Swahili", "Kiswahili"],
    "Tswana": ["Tswana", "Setswana"],
}
# Names that take an article in a sentence.
WITH_ARTICLE = (
    "Bahamas", "Central African Republic", "Comoros", "Czech Republic",
    "Democratic Republic of the Congo", "Dominican Republic", "Gambia", "Maldives", "Netherlands",
    "Philippines", "Republic of the Congo", "Solomon Islands", "United Arab Emirates",
    "United Kingdom", "United States",
)  # fmt: skip


def build_facts() -> pd.DataFrame:
    """About 1,000 questions of seven relations.

    Returns question, aliases (right answers), group (the relation), frame.
    """
    rows = [*_countries(), *_elements(), *_states()]
    return pd.DataFrame(rows, columns=["question", "aliases", "group", "frame"])


def _countries():
    from babel import Locale
    from babel.languages import get_official_languages
    from babel.numbers import get_currency_name, get_territory_currencies

    languages = Locale("en").languages
    for code, country in _country_records().items():
        name = NAMES.get(code, country["name"].removeprefix("The "))
        place = f"the {name}" if name in WITH_ARTICLE else name
        capitals = CAPITALS.get(code) or [country["capital"]]
        yield (
            f"What is the capital of {place}?",
            capitals,
            "capital",
            f"The capital of {place} is",
        )
        codes = get_territory_currencies(code, CURRENCIES_ON)
        currencies = [get_currency_name(currency, locale="en") for currency in codes]
        yield (
            f"What is the currency of {place}?",
            # "Fiji dollar", "Fijian dollar" and "dollar" mean the same: the unit decides.
            currencies + [currency.split()[-1] for currency in currencies],
            "currency",
            f"The currency of {place} is",
        )
        yield (
            f"What is the continent of {place}?",
            _continents(code, country),
            "continent",
            f"The continent of {place} is",
        )
        locales = get_official_languages(code, de_facto=True)
        official = [name for tag in locales if (name := languages.get(tag.split("_")[0]))]
        yield (
            f"What is the official language of {place}?",
            # A language in several scripts is one answer.
            list(
                dict.fromkeys(other for name in official for other in LANGUAGES.get(name, [name]))
            ),
            "language",
            f"The official language of {place} is",
        )


def _country_records() -> dict[str, dict]:
    """countryinfo's records by ISO code, in order of name."""
    records = {}
    for file in files("countryinfo").joinpath("data").iterdir():
        if not file.name.endswith(".json"):
            continue
        country = json.loads(file.read_text(encoding="utf-8"))
        code = country.get("ISO", {}).get("alpha2")
        if code and code not in LEFT_OUT and (country.get("population") or 0) > SMALLEST_POPULATION:
            records[code] = country
    return dict(sorted(records.items(), key=lambda item: item[1]["name"]))


def _continents(code: str, country: dict) -> list[str]:
    if code in TWO_CONTINENTS:
        return TWO_CONTINENTS[code]
    if country["region"] != "Americas":
        return [country["region"]]
    if country["subregion"] == "Northern America":
        return CONTINENTS["Northern America"]
    return CONTINENTS["South America" if code in SOUTH_AMERICA else "Central America"]


def _elements():
    from periodictable import elements

    for element in elements:
        if not 1 <= element.number <= LAST_ELEMENT:
            continue
        name = element.name
        yield (
            f"What is the chemical symbol of {name}?",
            [element.symbol],
            "symbol",
            f"The chemical symbol of {name} is",
        )
        yield (
            f"What is the atomic number of {name}?",
            [str(element.number)],
            "atomic number",
            f"The atomic number of {name} is",
        )


def _states():
    from us.states import STATES

    for state in STATES:
        yield (
            f"What is the capital of the US state of {state.name}?",
            [state.capital],
            "state capital",
            f"The capital of the US state of {state.name} is",
        )
