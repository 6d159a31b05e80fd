"""Built-in questions about the cities of airports, from airportsdata at a pinned version."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files

import pandas as pd

# Airports of one country; the United States alone have a fifth of all.
MOST_OF_A_COUNTRY = 4
# Names of letters alone: no remarks in brackets, two names or abbreviations.
_LETTERS = r"[^\W\d_]+(?:[ '-][^\W\d_]+)*"
_AIRPORT = re.compile(rf"{_LETTERS} International Airport")
_CITY = re.compile(_LETTERS)
# Two names of one city.
_SAME_CITY = [
    {"Bangalore", "Bengaluru"},
    {"Bombay", "Mumbai"},
    {"Calcutta", "Kolkata"},
    {"Kiev", "Kyiv"},
    {"Madras", "Chennai"},
    {"Rangoon", "Yangon"},
    {"Saigon", "Ho Chi Minh City"},
]


def build_airports() -> pd.DataFrame:
    """About 500 questions: the city of an international airport.

    Returns columns as `facts.build_facts`.
    """
    rows = [
        (
            f"What is the city of {airport['name']}?",
            _name_city(airport["city"]),
            "airport",
            f"The city of {airport['name']} is",
        )
        for airport in _choose_airports()
    ]
    return pd.DataFrame(rows, columns=["question", "aliases", "group", "frame"])


def _choose_airports() -> Iterator[dict[str, str]]:
    """International airports in order of their codes, a few of each country."""
    text = files("airportsdata").joinpath("airports.csv").read_text(encoding="utf-8")
    airports = [airport for airport in csv.DictReader(text.splitlines()) if airport["iata"]]
    named = Counter(airport["name"] for airport in airports)
    of_country: Counter[str] = Counter()
    for airport in sorted(airports, key=lambda airport: airport["iata"]):
        name, country = airport["name"], airport["country"]
        usable = named[name] == 1 and _AIRPORT.fullmatch(name) and _CITY.fullmatch(airport["city"])
        if usable and of_country[country] < MOST_OF_A_COUNTRY:
            of_country[country] += 1
            yield airport


def _name_city(city: str) -> list[str]:
    others = next((names for names in _SAME_CITY if city in names), {city})
    return [city, *sorted(others - {city})]
