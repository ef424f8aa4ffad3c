"""Seed modules: general ways of thinking to choose from. The idea is SELF-DISCOVER's, the list is our own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningModule:
    """One way of thinking: a name of a word or three, and what to do."""

    name: str
    text: str


MODULES: tuple[ReasoningModule, ...] = tuple(
    ReasoningModule(name=name, text=text)
    for name, text in (
        ("List the givens", "Write down every fact and value that the question states."),
        ("State the goal", "Say in one short sentence what has to be found, and in which form."),
        ("Split up", "Cut the task into smaller parts that can be solved one after another."),
        ("Name the unknowns", "Give each unknown a letter and write what is known about it as equations."),
        ("Work backwards", "Begin at what is wanted and ask what would have to be known just before it."),
        ("Try every case", "List all possible cases and go through them one by one."),
        ("Rule out", "Strike out every possibility that contradicts something that is stated."),
        ("Assume and test", "Assume that one possibility is true and follow it until it holds or breaks."),
        ("Follow the order", "Carry out the operations one at a time, in their right order, keeping each result."),
        ("Keep a table", "Keep the state in a small table or list and update it after every step."),
        ("Go item by item", "Walk through the text or list from its start to its end, one item at a time."),
        ("Apply the rule", "Name the rule, formula or definition that fits, then put the values into it."),
        ("Translate", "Rewrite the sentences as formulas, conditions or code before doing anything else."),
        ("Simplest example", "Solve a tiny version of the task first and see how the solution is made."),
        ("Find the pattern", "Compare the parts with each other and look for what repeats or changes regularly."),
        ("Mind the units", "Track units, amounts and times, and convert them before they are combined."),
        ("Check the wording", "Look for words that change the meaning: not, only, at least, each, except."),
        ("Recall the facts", "Collect what is known about each thing that is named, and keep only what is certain."),
        ("Weigh both sides", "Collect reasons for and against, and say which of them matter most."),
        ("Check the demands", "List every demand on the form of the answer and compare the draft with each."),
        ("Check the result", "Put the result back into the question and see whether everything stated is met."),
    )
)
