"""Every prompt that was tried for a worker, by name: what the worker's own class says is the variant "current".

A variant is a set of class attributes laid over the worker's own, so that a measurement of it can be repeated.
"""

from __future__ import annotations

from typing import Any

from kaelum_graph.workers import Worker, worker

MATH_EXAMPLE = (
    "Tom has 3 boxes of 12 pens. He gives away a quarter of the pens and buys 5 more. How many pens has he now?",
    "Pens at first: 3 * 12 = 36\nGiven away: 36 / 4 = 9\nLeft: 36 - 9 = 27\nWith the new ones: 27 + 5 = 32\n"
    "\\boxed{32}",
)
SUM_EXAMPLE = ("Calculate 14 - 9 + 20 - 31.", "14 - 9 = 5\n5 + 20 = 25\n25 - 31 = -6\n\\boxed{-6}")
CODE_EXAMPLE = (
    'Which words in the text "the cold river runs to the sea" have more than four letters? Give them in reverse order.',
    '```python\ntext = "the cold river runs to the sea"\nwords = [word for word in text.split() if len(word) > 4]\n'
    'print(", ".join(reversed(words)))\n```',
)

SENTENCES_EXAMPLE = (
    MATH_EXAMPLE[0],
    "At first Tom has 3 * 12 = 36 pens. He gives away 36 / 4 = 9 pens, so 36 - 9 = 27 pens are left. "
    "With the new ones he has 27 + 5 = 32 pens.\n\\boxed{32}",
)
LIST_EXAMPLE = (
    'Which of these names hold the letter "a"? Answer with a comma-separated list, e.g. name_1, name_2: '
    "Rita, Bob, Zoe, PAUL, Ivan",
    '```python\nnames = ["Rita", "Bob", "Zoe", "PAUL", "Ivan"]\n'
    'print(", ".join(name for name in names if "a" in name.lower()))\n```',
)
LIARS = (
    "On an island live monks, who always tell the truth, and pirates, who always lie. You meet Ann and Bob. Ann says: "
    '"Bob is a pirate or I am a monk." Bob says: "If Ann is a monk then I am a pirate." Who is a monk and who is a '
    'pirate? (Format your answer like: "Ann is a monk/pirate, and Bob is a monk/pirate")'
)
LIARS_PROGRAM = (
    LIARS,
    '```python\nfrom itertools import product\n\nkind = {True: "a monk", False: "a pirate"}\n'
    "for ann, bob in product([True, False], repeat=2):  # True: a monk\n"
    "    ann_says = (not bob) or ann\n    bob_says = (not ann) or (not bob)\n"
    "    if ann_says == ann and bob_says == bob:\n"
    '        print(f"Ann is {kind[ann]}, and Bob is {kind[bob]}")\n```',
)
LIARS_WORDS = (
    LIARS,
    "Ann a monk, Bob a monk: Bob's words are false, but monks don't lie. No.\n"
    "Ann a monk, Bob a pirate: Bob's words are true, but pirates lie. No.\n"
    "Ann a pirate, Bob a monk: Ann's words are false and Bob's are true. Yes.\n"
    "Ann a pirate, Bob a pirate: Ann's words are true, but pirates lie. No.\n"
    "Answer: Ann is a pirate, and Bob is a monk",
)
FOLLOWS_NOT = (
    "1. All cats are mammals.\n2. Some mammals are swimmers.\nDoes it follow that some cats are swimmers? (Yes or No)",
    "The mammals that swim need not be cats.\nAnswer: No",
)
FOLLOWS = (
    "1. No roses are trees.\n2. All oaks are trees.\nDoes it follow that no oaks are roses? (Yes or No)",
    "An oak is a tree, and no tree is a rose.\nAnswer: Yes",
)
PASSAGE = (
    'Describe a village in exactly 3 sentences, with at most 40 words. Use the words "bell" and "snow".',
    "Snow lay on every roof of the village. At noon the old bell rang twice. Then nothing moved but smoke.",
)
POEM = (
    'Write a poem of exactly 4 lines about a fox. Begin with "Under" and use the word "gold", but not the word "red".',
    "Under the hedge a shadow wakes,\nGold eyes that no one sees,\nShe crosses fields and frozen lakes\n"
    "And melts among the trees.",
)
OFFERS = (
    "Compare two jobs and conclude which one pays more in a year.\n"
    "- Kestrel: 2000 euros a month and a bonus of 1000 euros\n- Linnet: 2200 euros a month and no bonus",
    "- Kestrel: 12 * 2000 + 1000 = 25000 euros a year\n- Linnet: 12 * 2200 + 0 = 26400 euros a year\n"
    "- 26400 is more than 25000.\nConclusion: Linnet pays more.",
)
GUESTS = (
    "What do the guests of this hotel like most: room, food or staff?\n1. The soup was wonderful.\n"
    "2. A soft, wide bed.\n3. Best breakfast ever.\n4. It rained.",
    "1. The soup: food\n2. The bed: room\n3. The breakfast: food\n4. The rain: none of them\n"
    "- food 2, room 1, staff 0\nConclusion: food is liked most.",
)

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "math": {
        "sentences": {
            "instructions": "Solve the problem step by step in short sentences, each with its calculation. Write no "
            "code. Then give only the final answer in \\boxed{}.",
            "demonstrations": (SENTENCES_EXAMPLE, SUM_EXAMPLE),
        },
        "careful": {
            "instructions": "You are a careful mathematician. Solve the problem step by step, one short calculation a "
            "line. Then give only the final answer in \\boxed{}."
        },
        "qwen": {"instructions": "Please reason step by step, and put your final answer within \\boxed{}."},
        "example": {
            "instructions": "Solve the problem in short lines, one calculation a line with its result. Write no code "
            "and no explanations. Then give only the final answer in \\boxed{}.\n\nExample\nProblem: "
            + "\n".join(MATH_EXAMPLE)
        },
        "turns": {
            "instructions": "Solve the problem in short lines, one calculation a line with its result. "
            "Then give only the final answer in \\boxed{}.",
            "demonstrations": (MATH_EXAMPLE, SUM_EXAMPLE),
        },
        "bare": {"instructions": "Think step by step. End with a line 'Answer: ' and the number."},
    },
    "code": {
        "lists": {
            "instructions": "You answer questions by writing a short Python program. Copy the data of the question "
            "into it, compute, and print only the answer, in the format that the question asks for.",
            "demonstrations": (CODE_EXAMPLE, LIST_EXAMPLE),
            "opening": "```python\n",
            "stop": ("\n```\n",),
        },
        "program": {
            "instructions": "You answer questions by writing a short Python program. Put the data of the question into "
            "the program, compute the answer, and print only the answer, in exactly the format that the question asks "
            "for. Do not read input. Reply with one ```python block and nothing else."
        },
        "opened": {
            "instructions": "You answer questions by writing a short Python program. Put the data of the question into "
            "the program, compute the answer, and print only the answer, in exactly the format that the question asks "
            "for. Do not read input. Reply with one ```python block and nothing else.",
            "opening": "```python\n",
            "stop": ("\n```\n",),
        },
        "turns": {
            "instructions": "You answer questions by writing a short Python program. Copy the data of the question "
            "into it, compute, and print only the answer, in the format that the question asks for.",
            "demonstrations": (CODE_EXAMPLE,),
            "opening": "```python\n",
            "stop": ("\n```\n",),
        },
    },
    "logic": {
        "mixed": {
            "instructions": "You solve logic puzzles. Where a puzzle has few cases, write a short Python program that "
            "tries them all and prints the answer. Else reason in a line or two and end with a line 'Answer: '.",
            "demonstrations": (LIARS_PROGRAM, FOLLOWS_NOT, FOLLOWS),
        },
        "cases": {
            "instructions": "You solve logic puzzles. Go through the cases, one a line, and rule out those that "
            "contradict a fact. End with a line 'Answer: ' and only the answer, in the format that the question asks "
            "for.",
            "demonstrations": (LIARS_WORDS, FOLLOWS_NOT, FOLLOWS),
        },
        "words": {
            "instructions": "You solve logic puzzles. List the given facts, then reason from them one step a line, "
            "ruling out what contradicts a fact. End with a line 'Answer: ' followed by only the answer, in exactly "
            "the format that the question asks for."
        },
        "direct": {
            "instructions": "Answer the logic question at once, without explanation: only the answer, in exactly the "
            "format that the question asks for.",
            "opening": "Answer:",
            "max_tokens": 64,
        },
        "program": {
            "instructions": "You solve logic puzzles with a short Python program that tries every case.\n\nExample\n"
            'Problem: Ann says "Bob is a liar". Bob says "Ann is a liar or I am a liar". Liars always lie, the others '
            "always tell the truth. Who is a liar?\n```python\nfrom itertools import product\n\n"
            "# True means: tells the truth\nfor ann, bob in product([True, False], repeat=2):\n"
            "    ann_says = not bob\n    bob_says = (not ann) or (not bob)\n"
            "    if ann == ann_says and bob == bob_says:\n"
            "        kind = {True: 'a truth-teller', False: 'a liar'}\n"
            "        print(f'Ann is {kind[ann]}, Bob is {kind[bob]}')\n        break\n```",
            "opening": "```python\n",
            "stop": ("\n```\n",),
        },
    },
    "factual": {
        "sentence": {
            "instructions": "You answer factual questions briefly. Give one sentence with the fact that decides the "
            "question. Then end with a line 'Answer: ' followed by only the answer, as few words as possible."
        },
        "direct": {
            "instructions": "Answer the question with the fact alone, in as few words as possible.",
            "opening": "Answer:",
            "max_tokens": 24,
        },
        "reasoned": {
            "instructions": "Answer the question with the fact alone, in as few words as possible. Then give, on a "
            "line of its own, one sentence that supports it.",
            "opening": "Answer:",
            "max_tokens": 80,
        },
        "first": {
            "instructions": "Answer the question: first a line 'Answer: ' with only the answer, in as few words as "
            "possible, then one sentence that supports it.",
        },
    },
    "creative": {
        "turns": {
            "instructions": "You are a writer. Write exactly what is asked for: the number of sentences or lines, the "
            "words that must appear. Reply with the text alone.",
            "demonstrations": (PASSAGE, POEM),
        },
        "writer": {
            "instructions": "You are a writer. Write exactly what is asked for and keep to every constraint: counts, "
            "words that must appear, form, tone. Reply with the text alone, without a title, an introduction or "
            "comments."
        },
        "short": {"instructions": "Write what is asked for. Reply with the text alone."},
        "last": {
            "instructions": "You are a writer. You keep to every number and every word that is asked for.",
            "request": "{query}\n\nReply with the text alone: no title, no introduction, no comments.",
        },
    },
    "analysis": {
        "turns": {
            "instructions": "You are an analyst. Go through the material point by point, one short line each, with the "
            "numbers worked out. Weigh the points, and end with one line that begins with 'Conclusion:'.",
            "demonstrations": (OFFERS, GUESTS),
        },
        "analyst": {
            "instructions": "You are an analyst. Break the question down into its main points, treat each in a "
            "sentence or two with the reason for it, weigh them, and end with a line that begins with 'Conclusion:'."
        },
        "options": {
            "instructions": "You are an analyst. Go through the material point by point, one short line each, with "
            "the numbers worked out. Then compare, and end with one line that begins with 'Conclusion:' and names the "
            "answer first."
        },
    },
}


def variant(name: str, prompt: str) -> Worker:
    """The worker `name` with the texts of the variant `prompt` ("current": its own). Raises `KeyError` if unknown."""
    own = worker(name)
    if prompt == "current":
        return own
    return type(f"{name}_{prompt}", (type(own),), dict(VARIANTS[name][prompt]))()
