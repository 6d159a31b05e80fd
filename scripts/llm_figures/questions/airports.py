"""Built-in questions about airports, from airportsdata at a pinned version.

The country of an airport by its name, and by its IATA code.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files

import pandas as pd

# Airports of one country; the United States alone have a fifth of all.
MOST_OF_A_COUNTRY = 8
# Names of letters alone: no remarks in brackets, two names or abbreviations.
_PLAIN_NAME = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+)* International Airport")
# Where the country is disputed, or the locale data's name of it is not the usual one.
LEFT_OUT = {"EH", "PS", "XK", "HK", "MO", "TW"}
COUNTRIES = {
    "BA": ["Bosnia and Herzegovina", "Bosnia"],
    "CD": ["Democratic Republic of the Congo", "Congo"],
    "CG": ["Republic of the Congo", "Congo"],
    "CI": ["Ivory Coast", "Côte d'Ivoire"],
    "CV": ["Cape Verde", "Cabo Verde"],
    "CZ": ["Czech Republic", "Czechia"],
    "GB": ["United Kingdom", "UK", "Great Britain", "Britain", "England", "Scotland", "Wales"],
    "MK": ["North Macedonia", "Macedonia"],
    "MM": ["Myanmar", "Burma"],
    "SZ": ["Eswatini", "Swaziland"],
    "TL": ["East Timor", "Timor-Leste"],
    "TR": ["Turkey", "Türkiye"],
    "US": ["United States", "United States of America", "USA", "US"],
}


def build_airports() -> pd.DataFrame:
    """About 700 questions: the country of an airport by its name, and by its code.

    Returns columns as `facts.build_facts`.
    """
    from babel import Locale

    territories = Locale("en").territories
    rows = []
    for airport in _choose_airports():
        country = airport["country"]
        aliases = COUNTRIES.get(country) or [territories[country].replace("&", "and")]
        for group, place in (
            ("airport", airport["name"]),
            ("airport code", f"the airport with the code {airport['iata']}"),
        ):
            rows.append(
                (
                    f"What is the country of {place}?",
                    aliases,
                    group,
                    f"The country of {place} is",
                )
            )
    return pd.DataFrame(rows, columns=["question", "aliases", "group", "frame"])


def _choose_airports() -> Iterator[dict[str, str]]:
    """International airports in order of their codes, a few of each country."""
    text = files("airportsdata").joinpath("airports.csv").read_text(encoding="utf-8")
    airports = sorted(csv.DictReader(text.splitlines()), key=lambda airport: airport["iata"])
    named = Counter(airport["name"] for airport in airports if airport["iata"])
    of_country: Counter[str] = Counter()
    for airport in airports:
        name, country = airport["name"], airport["country"]
        usable = airport["iata"] and named[name] == 1 and _PLAIN_NAME.fullmatch(name)
        if usable and country not in LEFT_OUT and of_country[country] < MOST_OF_A_COUNTRY:
            of_country[country] += 1
            yield airport
