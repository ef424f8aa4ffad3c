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

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "math": {
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
