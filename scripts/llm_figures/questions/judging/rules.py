"""The named rules of the judges, and what each makes equal or rules out."""

# Two texts are the same answer by one of these, tried in this order.
EQUALITIES = {
    "number_words": "seven is 7, two thirds is 2/3, 七 is 7",
    "fractions": "1/2, ½ and \\frac{1}{2} are 0.5",
    "thousands": "1 000, 1{,}000 and 3 million are 1000, 1000 and 3000000",
    "units": "10 kilometers is 10 km and 10000 m; 50% is 0.5; $5 is 5 dollars",
    "question_units": "10 is 10 km where the question asks for km, and 10 miles is not",
    "dates": "July 4, 1776, 1776-07-04 and 4th of July 1776 are 4 July 1776; 3 pm is 15:00",
    "ranges": "7-9 and between 7 and 9 are 7 to 9; a ratio of 3 to 4 is 3:4",
    "initials": "A. B. Carter is A.B. Carter and AB Carter, and Anna B. Carter",
    "name_order": "Kurosawa Akira and Kurosawa, Akira are Akira Kurosawa",
    "spelling": "Chlorophyl is chlorophyll: a doubled letter, or a vowel within a long word",
    "abbreviations": "St. is Saint, & is and, U.S. is United States",
    "roman_numerals": "World War II is World War 2",
    "plurals": "flowers is flower",
    "spacing": "DiCaprio is Di Caprio",
    "chinese_characters": "日圓 is 日圆",
    "categories": "Dutch language is Dutch, Mount Everest is Everest, Dr. Hill is Hill",
    "mathematics": "x + 1 is 1 + x, [1,4] is [1, 4], and \\sqrt{8} is 2\\sqrt{2}",
}
# An alias that occurs in an answer is not what is answered by one of these.
EXCLUSIONS = {
    "negation": "It is not Paris",
    "corrections": "London – no, Paris answers Paris",
    "alternatives": "Paris or Lyon answers neither, and 7-9 is not 7",
    "bounds": "more than 12 is not 12",
    "other_persons": "Percy Shelley is not Mary Shelley, though Shelley would do",
    "longer_names": "Guinea-Bissau is not Guinea, South Sudan is not Sudan",
    "asides": "Ford, who followed Nixon does not answer Nixon",
    "echo": "words of the question that are repeated answer nothing",
}
RULES = (*EQUALITIES, *EXCLUSIONS)
