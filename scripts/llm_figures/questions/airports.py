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
# Islands and the like are no cities.
_CITY = re.compile(rf"(?!.* (?:Island|Atoll|District|Falls)$){_LETTERS}")
# What is right, too: another name or spelling of the city, and the city that an airport serves or
# is named after where the data name the place that it lies in, or the other way round.
ALSO_RIGHT = {
    "Aktobe Aliya Moldagulova": ["Aktobe"],
    "Assiut": ["Asyut"],
    "Akanu Ibiam": ["Enugu"],
    "Bacolod-Silay City": ["Bacolod", "Silay"],
    "Balkanabat": ["Balkanabat"],
    "Balţi": ["Bălți"],
    "Basrah": ["Basra"],
    "Bengaluru": ["Bengaluru"],
    "Blaise Diagne": ["Dakar"],
    "Bocas Del Toro": ["Bocas del Toro"],
    "Buyant-Ukhaa": ["Ulaanbaatar"],
    "Chania": ["Chania"],
    "Cheddi Jagan": ["Timehri"],
    "Chhatrapati Shivaji": ["Bombay"],
    "Chinggis Khaan": ["Ulan Bator"],
    "Chubu Centrair": ["Nagoya"],
    "Del Bajio": ["León"],
    "Diosdado Macapagal": ["Angeles", "Clark"],
    "Entebbe": ["Entebbe"],
    "Erbil": ["Erbil"],
    "Esfahan Shahid Beheshti": ["Esfahan"],
    "Faa'a": ["Faa'a"],
    "Frankfurt am Main": ["Frankfurt"],
    "Guam": ["Hagåtña", "Barrigada"],
    "Hodeidah": ["Hodeidah", "Al Hudaydah"],
    "Incheon": ["Incheon"],
    "J B M Hertzog": ["Bloemfontein"],
    "Jeju": ["Jeju"],
    "Johan Adolf Pengel": ["Paramaribo"],
    "Kaohsiung": ["Kaohsiung"],
    "King Fahd": ["Dammam"],
    "Legazpi Bicol": ["Legazpi"],
    "Limon": ["Limón"],
    "Mactan Cebu": ["Lapu-Lapu", "Cebu", "Cebu City"],
    "Macau": ["Macau"],
    "Milas Bodrum": ["Milas"],
    "Ministro Pistarini": ["Buenos Aires"],
    "Mmabatho": ["Mahikeng", "Mafikeng", "Mmabatho"],
    "Mukalla": ["Mukalla"],
    "Nausori": ["Suva"],
    "Pristina": ["Pristina"],
    "Qurghonteppa": ["Qurghonteppa", "Bokhtar"],
    "Québec City Jean Lesage": ["Québec"],
    "Ramon Villeda Morales": ["San Pedro Sula"],
    "Senai": ["Johor Bahru"],
    "Shah Amanat": ["Chattogram"],
    "Sihanoukville": ["Sihanoukville"],
    "Tan Son Nhat": ["Saigon"],
    "Techo": ["Phnom Penh"],
    "Tocumen": ["Panama City"],
    "Villanova D'Albenga": ["Villanova d'Albenga"],
    "Yangon": ["Rangoon"],
    "Çukurova": ["Adana", "Mersin"],
}


def build_airports() -> pd.DataFrame:
    """About 400 questions: the city of an international airport.

    Returns columns as `facts.build_facts`.
    """
    rows = [
        (
            f"What is the city of {airport['name']}?",
            _name_city(airport),
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


def _name_city(airport: dict[str, str]) -> list[str]:
    also = ALSO_RIGHT.get(airport["name"].removesuffix(" International Airport"), [])
    return list(dict.fromkeys([airport["city"], *also]))
