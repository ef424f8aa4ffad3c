"""Reading a final answer out of a model's text.

Small models keep to no format: they bold half a label, box the wrong half of a line, put the answer below its heading
or in a code fence, or forget to close what they opened. A right answer lost to that is a bug, so each reader here takes
every form that was seen and says None only when its form is absent. Nothing here judges whether an answer is right.
"""

from __future__ import annotations

import re
import textwrap

_LAST_NUMBER = re.compile(
    r"(?<![\w.^])(?:(?<![\d)\]}])[-+−])?(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)(?:\.\d+)?(?:[eE][-+]?\d+\b)?"
    r"(?:\s?/\s?\d+(?![\d.]))?(?:\s?\\?%)?"
    r"|(?<![\w.])[-+−]?\.\d+"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}")

_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = frozenset({"python", "py", "python3"})

# "Answer:", "**Final Answer**:", "The correct answer to the question is", "### Answer" and their kin. The label may
# open its line or stand inside a sentence; a word such as "answered" is no label.
_LABEL = re.compile(
    r"""
    (?:(?:^|(?<=\n))[ \t>#*_\-•`\\(\[{<]{0,16})?      # what may stand before a label that opens its line
    (?<![A-Za-z])
    (?:the\s{1,4}|my\s{1,4}|our\s{1,4})?
    (?:(?:final|correct|right|short|numerical|numeric|exact|simplified|complete)\s{1,4}){0,3}
    \b(?:answers?|ans)\b
    (?:\s{1,4}(?:to|for|of)\s{1,4}[^\n:.=]{1,80}?(?=\s{0,4}(?:[:：]|\bis\b)))?
    [ \t*_`}\])>]{0,12}
    (?P<mark>
        :|：|=|(?<=\s)[-–—](?=\s)
        |\b(?:is|are|was|would\ be|will\ be|should\ be|must\ be|equals|comes\ to)\b
        |(?=[ \t*_]{0,12}(?:\n|$))
    )
    [ \t*]{0,12}(?:(?:indeed|thus|therefore|simply),?\s{1,4})?[ \t*:：]{0,12}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_RESULT_LABEL = re.compile(
    r"(?:^|(?<=\n))[ \t>#*_\-•]{0,16}(?:the\s{1,4})?(?:final\s{1,4})?(?:result|solution|output|conclusion)"
    r"[ \t*_]{0,12}(?:is\s{0,4})?[:：][ \t*]{0,12}",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(
    r"(?:(?<=\n)|(?<=[.!?:]\s)|^)[ \t*#>-]{0,8}"
    r"(?:therefore|thus|hence|so|consequently|in conclusion|finally|in total)\b",
    re.IGNORECASE,
)
_NO_VALUE = frozenset(
    {"correct", "incorrect", "wrong", "right", "as follows", "not", "given", "given by", "found", "clear"}
)
_PLACEHOLDERS = frozenset(
    {
        "", "answer", "the answer", "your answer", "final answer", "the final answer", "your final answer", "value",
        "the value", "number", "the number", "answer here", "your answer here", "insert answer", "result", "the result",
        "...", "…", "?", "??", "___", "x here",
    }
)  # fmt: skip
_ABBREVIATIONS = frozenset({"mr", "mrs", "ms", "dr", "st", "vs", "prof", "jr", "sr", "inc", "approx", "fig"})
# What follows an initial: another one, or nothing but names ("A. Milne and E. H. Shepard", "S. Grant and others").
_NAME = re.compile(
    r"[A-Z]\.|(?:(?:[A-Z][\w'-]{0,30}\.?|and|&|of|de|la|van|von|der|bin|et al\.?|others)(?:,\s*|\s+|$)){1,12}$"
)
_SENTENCE_END = re.compile(r"(?<=[\w)\]}$%\"'*])\.(?:\*\*)?\s+(?=[A-Z(\[*I])")

_PAIRED_BOLD = re.compile(r"(?<![\w)])(\*\*|__)(?=\S)(.+?)(?<=\S)\1(?![\w(])", re.DOTALL)
_TEXT_MACRO = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}"
)
_SPACING = re.compile(r"\\[,;:! ]|\\(?:quad|qquad|displaystyle|left|right|big|Big|bigg|Bigg)(?![A-Za-z])|~")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "`": "`", "«": "»"}


def boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{…}` or `\fbox{…}`, braces balanced, as written inside; None when there is none.

    A last box that is never closed (the text was cut) gives the rest of its line.
    """
    # A text that loops on an unclosed box would cost time quadratic in its length; its last few are enough.
    for match in reversed(list(re.finditer(r"\\(?:boxed|fbox|framebox)\s{0,4}(\{|(?=[^\s{]))", text))[-8:]):
        if match.group(1):
            end = _closing_brace(text, match.end())
            content = text[match.end() : end] if end is not None else text[match.end() :].split("\n", 1)[0]
            if end is None:
                content = re.sub(r"\s*(?:\$+|\\\]|\\\))?[.\s]*$", "", content)
        else:
            content = text[match.end() :].split(maxsplit=1)[0].rstrip("$.,;")
        if not _is_placeholder(content):
            return content.strip()
    return None


def answer_line(text: str) -> str | None:
    """Cleaned value of the last labelled answer; None when no label has a value.

    Labels: "Answer: …", "**Answer:** …", "The answer is …", "Final answer: …", "### Answer" with the value below it. A
    value that is itself boxed is unboxed; a placeholder copied from the prompt ("<the answer>") is no value.
    """
    for match in reversed(list(_LABEL.finditer(text))):
        mark = match.group("mark")
        if not mark and not _opens_line(text, match):
            continue
        value = _labelled_value(text, match.end(), sentence=mark.replace(" ", "").isalpha())
        if value is not None:
            return value
    return None


def conclusion(text: str) -> str | None:
    """Cleaned value of the last concluding sentence ("Therefore, the width is **7** cm."); None when there is none.

    The value is the sentence's last formula, box or bold span, else what stands after its last "is", "are" or colon.
    """
    found = list(_CONCLUSION.finditer(text))
    if not found:
        return None
    sentence = text[found[-1].start() :].split("\n\n", 1)[0]
    if re.search(r":\s*$", sentence):
        return _labelled_value(text, found[-1].start() + len(sentence), sentence=False)
    sentence = _first_sentence(sentence)
    marked = re.findall(r"\\\((.+?)\\\)|\\\[(.+?)\\\]|\$([^$\n]+)\$|\*\*([^*\n]+)\*\*", sentence, re.DOTALL)
    if marked:
        value = clean(next(part for part in marked[-1] if part))
    else:
        value = clean(re.split(r"\b(?:is|are|was|were|equals|be)\b:?|:\s|=", sentence)[-1])
    return None if _is_placeholder(value) or value == clean(sentence) else value


def result_line(text: str) -> str | None:
    """Like `answer_line` for the labels that small models use instead: "Result: …", "Solution: …", "Output: …"."""
    for match in reversed(list(_RESULT_LABEL.finditer(text))):
        value = _labelled_value(text, match.end(), sentence=False)
        if value is not None:
            return value
    return None


def final_answer(text: str) -> str | None:
    """The answer that `text` ends on, cleaned: whichever of `boxed` and `answer_line` comes last.

    Without either: `result_line`, then `conclusion`. None when the text names no answer at all; a caller that wants a
    guess goes on with `last_number` or `last_line`.
    """
    labels = [match.start() for match in _LABEL.finditer(text)]
    box = boxed(text)
    line = answer_line(text)
    if box is not None and line is not None:
        last_box = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
        # A label after the box usually restates it; the box before a label is where the last word is the label's.
        return line if labels and labels[-1] > last_box else clean(box)
    if box is not None:
        return clean(box)
    if line is not None:
        return line
    prose = without_code(text)
    return result_line(prose) or conclusion(prose)


def last_number(text: str) -> str | None:
    """The last number in `text` as written ("1,234.5", "-3/4", "50%"), a Unicode minus made ASCII; None when none.

    Digits inside a word ("x2", "H2O") are no number.
    """
    plain = _LATEX_FRACTION.sub(r"\1/\2", text).replace("{,}", ",")
    found = _LAST_NUMBER.findall(plain)
    return found[-1].replace("−", "-").replace(" ", "").replace("\\", "").lstrip("+") if found else None


def last_bold(text: str) -> str | None:
    """Cleaned content of the last `**bold**` span on one line; None when there is none."""
    spans = re.findall(r"(?<!\*)\*\*(?=\S)([^*\n]+?)(?<=\S)\*\*(?!\*)", text)
    return clean(spans[-1]) if spans else None


def last_line(text: str) -> str | None:
    """Cleaned last line that holds more than markup; None when there is none."""
    for line in reversed(text.splitlines()):
        value = clean(line)
        if re.search(r"\w", value):
            return value
    return None


def code_blocks(text: str, *, languages: frozenset[str] = _PYTHON) -> tuple[str, ...]:
    """Contents of the fenced blocks marked with one of `languages`, in order, dedented; () when there are none.

    With no marked block the unmarked ones are returned. A last fence that is never closed runs to the end of the text.
    """
    marked: list[str] = []
    unmarked: list[str] = []
    opened: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match.group(2) and match.group(2).lower() in languages:
            # An opening fence inside an open block: the model forgot to close the one before.
            _keep(opened, text[opened.end() : match.start()], languages, marked, unmarked)
            opened = match
        elif match.group(1)[0] == opened.group(1)[0]:
            _keep(opened, text[opened.end() : match.start()], languages, marked, unmarked)
            opened = None
    if opened is not None:
        _keep(opened, text[opened.end() :], languages, marked, unmarked)
    return tuple(marked or unmarked)


def clean(answer: str) -> str:
    r"""`answer` without markup: emphasis, code ticks, `$…$`, `\(…\)`, `\text{}`, a box, quotes around it, final period.

    What it says stays as written: units, signs, letter case and inner LaTeX.
    """
    text = answer.strip()
    if text.isalnum():
        return text  # Nothing to take off, and long lists are read item by item.
    for _ in range(8):
        before = text
        text = _strip_once(text)
        if text == before:
            break
    return "" if text == "\\boxed" else text  # a box that was cut off


def without_code(text: str) -> str:
    """`text` with its fenced blocks taken out, an unclosed last one included."""
    kept: list[str] = []
    start: int | None = 0
    for match in _FENCE.finditer(text):
        if start is not None:
            kept.append(text[start : match.start()])
            start = None
        else:
            start = match.end()
    if start is not None:
        kept.append(text[start:])
    return "".join(kept)


def _strip_once(text: str) -> str:
    box = re.fullmatch(r"\\(?:boxed|fbox)\s*\{(.*)\}", text, re.DOTALL)
    if box and _closing_brace(text, text.index("{") + 1) == len(text) - 1:
        text = box.group(1)
    text = text.replace("\\$", "$").replace("\\%", "%").replace("\\#", "#").replace("{,}", ",").replace("\\!", "")
    for opening, closing in ((r"\[", r"\]"), (r"\(", r"\)"), ("$$", "$$")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            text = text[len(opening) : -len(closing)]
    text = text.removesuffix(r"\]").removesuffix(r"\)").strip() if not re.search(r"\\[\[(]", text) else text
    text = text.removeprefix(r"\[").removeprefix(r"\(").strip() if not re.search(r"\\[\])]", text) else text
    text = _inline_math(text)
    text = _PAIRED_BOLD.sub(r"\2", text)
    text = _TEXT_MACRO.sub(r"\1", text)
    text = _SPACING.sub(" ", text) if "\\" in text or text.count("~") > 1 else text
    text = re.sub(r"^(?:\*\*|__|#+[ \t]|>[ \t]|[*•][ \t])+|(?:\*\*|__)+$", "", text).strip()
    text = re.sub(r"^\*([^*]+)\*$", r"\1", text)
    text = re.sub(r"^_([^_]+)_$", r"\1", text)
    for opening, closing in _QUOTES.items():
        inner = text[1:-1]
        quoted = len(text) > 2 and text[0] == opening and text[-1] == closing
        if quoted and opening not in inner and closing not in inner:
            text = inner
    angle = re.fullmatch(r"<([^<>,/]+)>", text)
    if angle:
        text = angle.group(1)
    text = re.sub(r"^(?::|：|=|≈)\s*", "", text)
    text = re.sub(r"(?<!\.)\.$|[;,:]$", "", text)
    return re.sub(r"[ \t]{2,}", " ", text).strip()


def _inline_math(text: str) -> str:
    """Takes out the dollars that delimit mathematics and leaves those that are money."""
    whole = re.fullmatch(r"\$([^$]+)\$", text)
    if whole:
        return whole.group(1).strip()
    # "$42$ apples", "x = $\frac12$": a closing dollar directly after the content; "$5 and $6" has a space before it.
    text = re.sub(r"\$(?=\S)([^$\n]*?\S)\$(?!\d)", r"\1", text)
    if text.endswith("$") and text.count("$") == 1 and len(text) > 1:
        text = text[:-1]
    if text.startswith("$") and text.count("$") == 1 and not re.match(r"\$\s*[-−]?[\d.]", text):
        text = text[1:]
    return text


def _labelled_value(text: str, start: int, *, sentence: bool) -> str | None:
    """The value after a label that ends at `start`: the rest of its line, or the block below it; None when empty."""
    rest = text[start:]
    line, _, below = rest.partition("\n")
    if not re.search(r"[\w\"'∅∞π√]", _without_markers(line)):
        fence = re.match(r"\s*(?:`{3,}|~{3,})[\w+-]*\n(.*?)(?:\n\s*(?:`{3,}|~{3,})|\Z)", rest, re.DOTALL)
        display = re.match(r"[\s*_:]*(?:\\\[|\$\$|\\\()(.*?)(?:\\\]|\$\$|\\\)|\Z)", rest, re.DOTALL)
        if fence:
            line = fence.group(1).strip()
        elif display:
            line = " ".join(display.group(1).split())
        else:
            line = _block_below(below)
    box = boxed(line)
    if box is not None:
        unit = re.fullmatch(r".*\}\s*\$?\s*([A-Za-z]{1,20})\.?\s*", line.replace("\\)", "").replace("\\]", ""))
        value = clean(box)
        return f"{value} {unit.group(1)}" if unit and re.fullmatch(r"[-\d.,/]+", value) else value
    if sentence or _SENTENCE_END.search(line):
        line = _first_sentence(line)
    value = clean(line)
    return None if _is_placeholder(value) or (sentence and value.lower() in _NO_VALUE) else value


def _block_below(below: str) -> str:
    """The first line with content; of a bulleted or numbered list all its items, joined with commas."""
    lines = [line.strip() for line in below.splitlines() if line.strip()]
    if not lines:
        return ""
    items: list[str] = []
    for line in lines:
        item = re.match(r"(?:\d{1,3}[.)]|[-*•])\s+(.*)", line)
        if item is None:
            break
        items.append(clean(item.group(1)))
    return ", ".join(items) if len(items) > 1 else lines[0]


def _first_sentence(line: str) -> str:
    for match in _SENTENCE_END.finditer(line):
        before, after = line[: match.start()], line[match.end() :]
        word = re.search(r"[A-Za-z]+$", before)
        if word and word.group().lower() in _ABBREVIATIONS:
            continue
        # An option's letter ("is B. Because it …") ends a sentence; an initial ("J. K. Rowling") does not.
        option = word and before.strip("*( \t") == word.group() and len(after.split()) > 2 and not _NAME.match(after)
        if word and not option and len(word.group()) == 1:
            continue
        return before
    return line


def _without_markers(line: str) -> str:
    return re.sub(r"\\[\[(]|[*_:$#`{}<>\s]", "", line)


def _opens_line(text: str, match: re.Match[str]) -> bool:
    before = text[: match.start()].rpartition("\n")[2]
    return not re.search(r"\w", before)


def _is_placeholder(value: str) -> bool:
    stripped = clean(value).strip("<>[](){}*_ .").lower()
    return stripped in _PLACEHOLDERS or not re.search(r"[\w∅∞π√\"'+\-*/\\(\[{<>=!?#@&|^~%°]", clean(value))


def _closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one just before `start`; None when it is never closed."""
    depth = 1
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return position
        position += 1
    return None


def _keep(
    opened: re.Match[str], content: str, languages: frozenset[str], marked: list[str], unmarked: list[str]
) -> None:
    body = textwrap.dedent(content.lstrip("\n")).rstrip()
    if not body:
        return
    label = opened.group(2).lower()
    if label in languages:
        marked.append(body)
    elif not label:
        unmarked.append(body)
