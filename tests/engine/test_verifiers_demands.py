"""What is a demand on the form of an answer, and what merely mentions a form."""

from __future__ import annotations

import pytest

from kaelum_graph.verifiers.demands import demands

MENTIONS = [
    "Explain how a JSON file is parsed in Python.",
    "What is a JSON object?",
    "How do I return valid JSON from a Flask endpoint?",
    "Write a Python function that returns a valid JSON object.",
    "Describe the team that won by over 20 points.",
    "The Bulls won by over 20 points. Who scored most?",
    "Why were tweets limited to under 140 characters?",
    "Explain why tweets were limited to under 140 characters.",
    "Describe Twitter, whose posts were limited to under 140 characters.",
    "Explain how the 5-paragraph essay is taught.",
    "Discuss how a 5-paragraph essay is taught in schools.",
    "Should I use uppercase letters in headings?",
    "Explain when to use uppercase letters in headings.",
    "Use uppercase letters in headings and explain the sea.",
    "Why do people use 'literally'?",
    'Explain why people use "literally" so much.',
    'Explain the difference between using "who" and "whom".',
    'List three words that start with "b".',
    'Name an animal starting with "z".',
    "Name three countries that begin with 'A'.",
    'Find a word containing "x".',
    "Write a story with three characters.",
    "Write a story about a team that won by over 20 points.",
    "Write a story about a sign with exactly 3 words.",
    "How do I format HH:MM in Excel?",
    "Why did 60% of people answer yes or no?",
    "If you are unsure, answer yes or no.",
    "Translate into French: Answer in one word.",
    'Translate "Write exactly 12 words." into French.',
    "Write an introduction in 2 sentences and a conclusion in 3 sentences.",
    "Write 3 poems of exactly 4 lines.",
    "Describe rain in 50 words.",
    "Explain each term in at most 10 words.",
    'Don\'t start with "The" and write about rain.',
    'Do not forget that people say "hello" there.',
    "If the target base is > 10, use lowercase letters a-z for digits above 9.",
    'What is an acrostic for "LOVE"?',
    "More than 20 words have been borrowed from French. Which?",
    "How many words are there in a 3-line haiku?",
    "A tweet has at most 280 characters. How many tweets do 1000 characters need?",
    "A form has between 10 and 15 lines. How many on 3 forms?",
    "Is it true that haikus have exactly 3 lines?",
    "What does it mean to answer with one word?",
    "Count the words in exactly 3 lines.",
    'In what year did people start with "Hello"?',
    'Explain the rule: never use "ain\'t" in writing.',
    "My teacher says essays must have 5 paragraphs. Is she right?",
    "What are 3 points in favour of tea?",
    "Give 3 points in favour of tea.",
    "Use 'x' as the variable and solve 2x = 4.",
    'Use "Dr." as a title.',
    'Explain what happens if a sentence must contain the word "river".',
    'Summarize the article in which he used the word "folly".',
    "Is a poem of exactly 3 lines a haiku?",
    "Write a story in which a robot says exactly 3 words.",
    'Explain what "in all caps" means.',
    "Discuss the use of text in all caps.",
    "Convert the time 3:45 PM to HH:MM.",
    "Give an example of a JSON object in JavaScript.",
    "Compare XML and JSON.",
    "Which is better, XML or JSON?",
    "Describe why answers in one word are rude.",
    "Name exactly 3 words that rhyme with cat.",
    "List at least 3 lines from the poem.",
    "Write two paragraphs about rain and two about snow.",
    "How long is an essay of at least 12 paragraphs?",
    "A password must have at least 8 characters. How many passwords are there?",
    "The message must be at most 160 characters. Why?",
    "Rewrite in your own words: \"A poem must contain the words 'a' and 'b'.\"",
    'Fix this sentence, which does not use "whom" correctly.',
    "Tell me about a player who won by over 20 points.",
    "Describe a room with at least 12 lines on the wall.",
    'Write about a man who must not use the word "yes".',
]


@pytest.mark.parametrize("question", MENTIONS)
def test_a_question_that_mentions_a_form_demands_none(question: str) -> None:
    assert [demand.name for demand in demands(question)] == []


DEMANDS = [
    ("Write a text of exactly 12 words.", "word"),
    ("Describe the sea in at most 13 words.", "word"),
    ("Describe the sea in 50 words or less.", "word"),
    ("Could you describe the sea in at most 20 words?", "word"),
    ("Please write a poem about rain in exactly 4 lines.", "line"),
    ("Keep it under 20 words.", "word"),
    ("Describe the sea. Keep your answer under 20 words.", "word"),
    ("Describe the sea. Limit your response to at most 3 sentences.", "sentence"),
    ("Describe the sea (max 50 words).", "word"),
    ("Describe the sea. At most 50 words.", "word"),
    ("In exactly 3 sentences, explain gravity.", "sentence"),
    ("What is gravity? Answer in at most 10 words.", "word"),
    ("What is the longest river in Africa? Answer with one word.", "one word"),
    ("What is the longest river in Africa? Please answer in one word only.", "one word"),
    ("How long was the flight? Answer in HH:MM.", "HH:MM"),
    ("Give your answer in the format HH:MM.", "HH:MM"),
    ("Does it follow? (Answer Yes or No)", "yes or no"),
    ('Return a valid JSON object with the keys "name" and "age".', "JSON"),
    ("Answer in JSON.", "JSON"),
    ("Describe Paris. Respond only with a JSON object.", "JSON"),
    ("Your answer must be valid JSON.", "JSON"),
    ('Write a story that must include the words "river" and "moon".', "with"),
    ('Write a story that uses the words "river" and "moon".', "with"),
    ('Write a story about rain using the words "river" and "moon".', "with"),
    ('Write a story about rain. It must contain the words "river" and "moon".', "with"),
    ('Write about love without using the word "love".', "without"),
    ('Use the word "river" and do not use the word "stone".', "without"),
    ('Write a poem. Avoid the word "love".', "without"),
    ('Write a poem. It must not contain the word "love".', "without"),
    ('Your text should mention "Paris".', "with"),
    ('Start with "Once upon a time" and tell a short story.', "beginning"),
    ('Tell a story that ends with "The end."', "ending"),
    ('Write a letter starting with "Dear".', "beginning"),
    ('Write a story about rain. The story must begin with "Once".', "beginning"),
    ("Write the text in all lowercase.", "lower"),
    ("Write the slogan in all capital letters.", "upper"),
    ("Answer in lowercase.", "lower"),
    ("Use only lowercase letters.", "lower"),
    ('Write exactly 12 words, in all lowercase, and include the word "sea".', "lower"),
    ("Write a haiku with exactly 3 lines.", "line"),
    ("Write a 3-sentence story about rain.", "sentence"),
    ("Write me a four-line poem.", "line"),
    ("I want a poem with exactly 4 lines.", "line"),
    ("I need you to write exactly two sentences about rain.", "sentence"),
    ("Can you write a poem of at most 6 lines about the sea?", "line"),
    ('Write an acrostic for "CAT".', "acrostic"),
    ("Summarize the plot of Hamlet in two sentences.", "sentence"),
    ("Explain recursion in no more than 3 sentences.", "sentence"),
    ("Give me a list with exactly 3 bullet points.", "bullet"),
    ("Write a poem. The poem should have exactly 4 lines.", "line"),
    ("Your answer should be between 10 and 15 words.", "word"),
    ("Write a birthday message for my sister in exactly 20 words.", "word"),
]


@pytest.mark.parametrize(("question", "name"), DEMANDS)
def test_a_request_to_the_answer_is_a_demand(question: str, name: str) -> None:
    assert any(name in demand.name for demand in demands(question))


def test_what_is_said_of_several_texts_or_of_a_part_is_no_length_of_the_whole() -> None:
    for question in (
        "Write a summary in 3 sentences and a title of at most 5 words.",
        "Write a poem, followed by a one-sentence summary.",
        "Start with a sentence of at most 5 words, then tell a story.",
        "Write 3 haikus with exactly 3 lines.",
    ):
        assert demands(question) == (), question


def test_one_word_may_hold_points_and_apostrophes() -> None:
    (demand,) = demands("Which country is it? Answer in one word.")
    assert [demand.broken(answer) for answer in ("U.S.", "Côte-d'Or", '"Nile"')] == [None] * 3
    assert demand.broken("The Nile") == "2 words, one is asked for"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('[{"a": 1}, {"a": 2}]', None),
        ('[{"a": 1}, {"b": 2}]', "the JSON has no key 'a'"),
        ("[1]", "the JSON is no object"),
    ],
)
def test_the_keys_of_objects_in_a_list(answer: str, reason: str | None) -> None:
    (demand,) = demands('Return a JSON array with the keys "a".')
    assert demand.broken(answer) == reason
