"""Which differences of wording leave a question the same. Whatever is not written here counts as a difference.

The tables are data for `reading`: contractions are undone first, then phrases are rewritten, then words. In a phrase
`a|b` stands for either word, and copies the one found where the right side repeats it; `#` is any number; a leading `^`
ties the phrase to the beginning, a closing `$` to the end; `…` in a frame is whatever stands between. Words in capitals
are made here: they occur in no text.
"""

CONTRACTIONS = {
    "cannot": "can not", "can't": "can not", "won't": "will not", "shan't": "shall not", "i'm": "i am",
    "let's": "let us", "it's": "it is", "that's": "that is", "there's": "there is", "here's": "here is",
    "what's": "what is", "who's": "who is", "where's": "where is", "when's": "when is", "how's": "how is",
    "why's": "why is", "which's": "which is", "he's": "he is", "she's": "she is", "i'd": "i would",
    "you'd": "you would", "i've": "i have", "you've": "you have", "we've": "we have", "they've": "they have",
    "you're": "you are", "we're": "we are", "they're": "they are", "i'll": "i will", "you'll": "you will",
    "whats": "what is", "hows": "how is", "wheres": "where is", "dont": "do not", "doesnt": "does not",
    "didnt": "did not", "isnt": "is not",
}  # fmt: skip

_PHRASES = """
^ hi|hello|hey|greetings there =
^ hi|hello|hey|greetings =
^ good morning|afternoon|evening =
thanks|thank you $ =
thanks|cheers $ =
thank you so|very much $ =
thanks in advance $ =
please =
kindly =
actually =
basically =
really =
^ i want|need to know =
^ i would like|love to know =
^ i was|am wondering =
^ i am curious =
^ i wonder =
^ do you know how|what|who|when|where|why|which = how|what|who|when|where|why|which
^ do you happen to know =
^ do you know if|whether = YESNO
^ can|could|would|will you tell me if|whether = YESNO
^ tell me if|whether = YESNO
^ can|could|would|will you help me to =
^ can|could|would|will you help me =
^ help me to =
^ help me write|draft|compose|find|solve = write|draft|compose|find|solve
^ can|could|would|will you tell|give|explain|describe|name|list|show|compare|define|calculate|compute|find|solve|suggest|recommend = tell|give|explain|describe|name|list|show|compare|define|calculate|compute|find|solve|suggest|recommend
^ can|could|would|will you write|summarise|summarize|translate|compose|draft|create|generate a|an|the|me|us|this|my|# = write|summarise|summarize|translate|compose|draft|create|generate a|an|the|me|us|this|my|#
^ tell|show|teach|explain me|us how|what|who|when|where|why|which = how|what|who|when|where|why|which
^ explain|describe to me how|what|who|when|where|why|which = how|what|who|when|where|why|which
^ explain|describe how|what|who|when|where|why|which = how|what|who|when|where|why|which
^ explain|describe to me = explain|describe
^ tell|give|show me the = what is the
^ tell|give me|us a|some poem|story|joke|haiku|limerick|song|essay|riddle|slogan|sonnet = WRITE a|some poem|story|joke|haiku|limerick|song|essay|riddle|slogan|sonnet
^ tell|give me|us an essay = WRITE an essay
^ tell me about = tell about
^ do you know a|any poem|story|joke|haiku|limerick|song|essay|riddle|slogan|sonnet = WRITE a|any poem|story|joke|haiku|limerick|song|essay|riddle|slogan|sonnet
^ write|draft|compose me|us a|an|some = WRITE a|an|some
^ write|compose|draft|create|generate|invent a|an|some = WRITE a|an|some
^ recommend a|an|some = suggest a|an|some
^ give me|us a slogan|name|title = WRITE a slogan|name|title
^ come up with a|an|some = WRITE a|an|some
^ make up a|an|some = WRITE a|an|some
^ i would like a poem|story|joke|haiku|limerick|song|essay|riddle|slogan|sonnet = WRITE a poem|story|joke|haiku|limerick|song|essay|riddle|slogan|sonnet
^ i want|need a poem|story|joke|haiku|limerick|song|essay|riddle|slogan|sonnet = WRITE a poem|story|joke|haiku|limerick|song|essay|riddle|slogan|sonnet
^ give me tips|advice|ideas|reasons|examples = what are tips|advice|ideas|reasons|examples
^ what are some good tips|ways|ideas|examples = what are tips|ways|ideas|examples
^ what are some|good tips|ways|ideas|examples = what are tips|ways|ideas|examples
WRITE some good tips|ways|ideas|examples = what are tips|ways|ideas|examples
WRITE some tips|advice|ideas|reasons|examples = what are tips|advice|ideas|reasons|examples
^ calculate|compute|find the = what is the
^ calculate|compute|find # = what is #
^ what is the value of # = what is #
^ list|name the = LIST the
^ explain|describe|tell|show|teach HOWTO = HOWTO
^ explain|describe|tell|show|teach me|us HOWTO = HOWTO
^ explain|describe to me HOWTO = HOWTO
how do|can|should|could i|one|someone|somebody = HOWTO
how do|can|could you TASKS = HOWTO TASKS
how does one|someone|somebody = HOWTO
how to = HOWTO
what is the best|right|proper|correct|recommended way to = HOWTO
what is a|the good|way way to = HOWTO
what is the way to = HOWTO
what are the best|good ways to = HOWTO
what are ways to = HOWTO
what are tips to = HOWTO
what can|should|could i|one do to = HOWTO
what can|should|could i|one do in order to = HOWTO
what steps do|should i|one take to = HOWTO
what is the method|process|procedure to = HOWTO
in order to = to
what is the reason that|why|for = why
what is the reason = why
what are the reasons that|why|for = why
for what reason do|does|did = why do|does|did
how come = why
what makes the = why the
what causes = CAUSE
what is the cause of = CAUSE
what are the causes of = CAUSE
what is the meaning|definition of = DEFINE
^ define = DEFINE
what is meant by = DEFINE
how tall is|are = what is HEIGHT
what is the height|elevation of = what is HEIGHT
how tall was|were = what was HEIGHT
how old is|are = what is AGE
what is the age of = what is AGE
how long is|are = what is LENGTH
what is the length of = what is LENGTH
how deep is|are = what is DEPTH
what is the depth of = what is DEPTH
how big|large is|are = what is SIZE
what is the size of = what is SIZE
how important is|are = what is the importance of
how many people live in = what is the population of
how many people are there in = what is the population of
how many inhabitants does = what is the population of
what is the weight of = WEIGHT
what is the price|cost of = PRICE
what are the price|cost of = PRICE
who wrote = who AUTHOR
who is|was the author|writer of = who AUTHOR
who painted = who PAINTER
who is|was the painter of = who PAINTER
who invented = who INVENTOR
who is|was the inventor of = who INVENTOR
who discovered = who DISCOVERER
who is|was the discoverer of = who DISCOVERER
who founded = who FOUNDER
who is|was the founder of = who FOUNDER
who composed = who COMPOSER
who is|was the composer of = who COMPOSER
who is|was it that|who = who
what is the difference between = DIFFERENCE
what are the differences between = DIFFERENCE
^ give a|me summary of = summarize
^ give me a summary of = summarize
^ write a summary of = summarize
WRITE a summary of = summarize
^ sum up = summarize
^ summarise = summarize
^ give a description of = describe
^ give me a description of = describe
^ write a description of = describe
WRITE a description of = describe
^ give a comparison of = compare
WRITE a comparison of = compare
what is|are your opinion|view|thoughts of|on|about = OPINION
what do you think of|about = OPINION
what languages|language do|does people|they speak = what is language spoken
what language is spoken = what is language spoken
what currency is used in = what is the currency of
what currency does = what is the currency of
pros and cons = advantages and disadvantages
benefits and drawbacks = advantages and disadvantages
advantages and drawbacks = advantages and disadvantages
capital city = capital
is there = is
are there = are
was there = was
were there = were
a prime number = prime
poem|story|essay|song|haiku|limerick|article|joke|paragraph on = poem|story|essay|song|haiku|limerick|article|joke|paragraph about
gives|get rid of = remove
per cent = percent
square root of = SQRT
""".strip("\n")

_FRAMES = """
what does|do … mean $ = DEFINE
what does|do … weigh $ = WEIGHT
how much does|do … weigh $ = WEIGHT
how much does|do … cost $ = PRICE
where is|are … located|situated $ = where is
how does|do … work|function $ = how MECHANISM
how … works|work|functions $ = how MECHANISM
""".strip("\n")

_SAME_WORDS = """
larger bigger
largest biggest
purchase buy
repair fix
film movie
films movies
begin start
begins starts
faster quicker
fastest quickest
advantage benefit upside
advantages benefits pros upsides
disadvantage drawback downside
disadvantages drawbacks cons downsides
tips hints
approximately roughly
versus vs
what which
who whom
happen occur
happened occurred
happens occurs
mathematics maths math
television tv
photo photograph
photos photographs
airplane aeroplane
ad advertisement
fridge refrigerator
sofa couch
frequently often
infant baby
km kilometre kilometres kilometer kilometers
cm centimetre centimetres centimeter centimeters
mm millimetre millimetres millimeter millimeters
mi mile miles
kg kilogram kilograms kilogramme kilogrammes kilo kilos
% percent
color colour
colors colours
favorite favourite
flavor flavour
honor honour
humor humour
labor labour
neighbor neighbour
neighbors neighbours
behavior behaviour
rumor rumour
harbor harbour
center centre
theater theatre
fiber fibre
gray grey
tire tyre
tires tyres
defense defence
catalog catalogue
dialog dialogue
traveling travelling
traveler traveller
modeling modelling
jewelry jewellery
aluminum aluminium
mom mum
""".strip("\n")

NUMBER_WORDS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90"}

ORDINALS = dict(
    zip(
        ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "10th", "11th", "12th"),
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(),
        strict=True,
    )
)

QUESTION_WORDS = frozenset(
    "who whom whose what which when where why how HOWTO YESNO CAUSE DEFINE AUTHOR PAINTER INVENTOR DISCOVERER FOUNDER "
    "DIRECTOR COMPOSER HEIGHT AGE LENGTH DEPTH SIZE WEIGHT PRICE many much often far OPINION MECHANISM DIFFERENCE".split()
)
NEGATIONS = frozenset(
    "not no non never none nobody nothing nowhere neither nor without except excluding hardly barely rarely seldom "
    "lack lacks lacking avoid avoiding avoids cannot unless".split()
)
COMPARISONS = frozenset(
    "more most less least fewer fewest better best worse worst than only exactly first last least equal over under "
    "above below".split()
)
FORMATS = frozenset(
    "json yaml xml csv html markdown table chart list bullet bullets sentence sentences word words paragraph paragraphs "
    "prose rhyme poem haiku limerick sonnet story essay letter binary hexadecimal decimal octal french german spanish "
    "english italian dutch portuguese russian chinese japanese arabic latin briefly detail short long formal informal "
    "formally informally simple simply step steps line lines".split()
)
DIRECTIONS = frozenset("from to into onto by against between before after through towards".split())

_ANTONYMS = """
enable disable; on off; increase decrease; advantage disadvantage; advantages disadvantages; open close; lock unlock;
maximum minimum; max min; maximise minimise; maximize minimize; upload download; best worst; better worse; gain lose;
include exclude; including excluding; ascending descending; before after; largest smallest; larger smaller; allow block;
allow deny; allow forbid; add remove; insert delete; causes effects; cause effect; push pull; highest lowest;
higher lower; start stop; start end; begin end; import export; up down; warm cold; warmer colder; old new; older newer;
older younger; fastest slowest; fast slow; happy sad; good bad; for against; supported opposed; support oppose;
attach detach; left right; true false; join leave; input output; accept decline; accept reject; winner loser; win lose;
won lost; eastern western; east west; north south; northern southern; first last; longest shortest; longer shorter;
most least; more less; more fewer; nearest farthest; closest farthest; richest poorest; rich poor; hottest coldest;
hot cold; above below; over under; inside outside; in out; always never; all none; with without; show hide;
raise lower; expand collapse; grant revoke; subscribe unsubscribe; pause resume; buy sell; borrow lend; love hate;
strong weak; hard soft; cheap expensive; wide narrow; dry wet; public private; heavy light; early late; positive negative;
internal external; simple complex; even odd; plus minus; sum product; sum difference; multiply divide; push pop;
encrypt decrypt; encode decode; compress decompress; legal illegal; guilty innocent; success failure; pass fail;
arrive depart; teach learn; give take; send receive; question answer; pro con; pros cons; top bottom; front back
"""

FUNCTION_WORDS = frozenset(
    "the a an of is are was were am be been being do does did have has had can could will would shall should may might "
    "must in on at to from by for with without about as into onto over under after before between through during since "
    "until against and or but if than then that this these those it its i you he she we they me him her us them my your "
    "his our their who whom whose what which when where why how not no nor so there".split()
)
PRONOUNS = frozenset(
    "i you he she it we they one people someone the a an this that these those my your his her our".split()
)

MENTIONS = frozenset(
    "spell spelled spelt spelling rhyme rhymes syllable syllables letter letters vowel vowels consonant consonants "
    "synonym synonyms antonym antonyms opposite plural singular noun verb adjective etymology anagram anagrams "
    "palindrome pronounce pronounced pronunciation translate translation say said word words phrase sentence string "
    "substring text typed reverse reversed count characters capitalise capitalize lowercase uppercase acronym "
    "abbreviation stand stands mean means meaning meant define definition tense conjugate conjugation grammar "
    "grammatical idiom slang called term".split()
)
"""Words that speak of words: beside one, "colour" and "color" are two things."""

MEANINGS = frozenset("mean means meaning meant define definition".split())

ACRONYMS = frozenset(
    "dna rna usa uk eu nasa nato unesco unicef usb cpu gpu api url uri ui io ai ceo cfo cto gdp ufo covid opec nba nfl "
    "fifa uefa atm faq diy rsvp adhd ssh oop".split()
)
"""Acronyms that are no words: in small letters they are the same. So is any that has no vowel."""

PASSIVES = frozenset(
    "made paid left shot hit cut hurt told sold held found built bought brought caught taught lost kept sent spent met "
    "fed led won said read understood burnt bound struck".split()
)
"""Participles that are past forms as well, without -ed: "who was paid" is not "who paid"."""

PARTITIVES = frozenset(
    "out instead made heard spoke died thought many most some all none any each every few one half both".split()
)
"""Words after which "of" counts: "some of the cats", "made of milk"."""

CASE_MATTERS = frozenset(
    "us it who polish turkey china apple may march august june april job nice reading mobile amazon java rust go swift "
    "ruby basic perl python c r aids windows word excel access chess china cologne bath orange lima jordan chad chile "
    "georgia mercury mars saturn mark bill will rose grace hope faith art pat sue drew frank rich jack rob dick ray guy "
    "shell target gap visa oracle sun tesla java meta edge chrome spark kafka kindle echo alexa siri earth moon sun "
    "a i am pm or and in is as at be do if me no of so to up we ad hr pi ram rom cat dog sad fat tab nut".split()
)
"""Words that are another thing in capitals: a text typed without any capitals does not stand for them."""

NOT_SUPERLATIVE = frozenset(
    "forest interest request protest contest harvest guest modest honest arrest invest suggest chest crest digest "
    "manifest midwest earnest tempest priest everest budapest bucharest conquest inquest quest west east rest test".split()
)

_TASKS = (
    "boil|cook|bake|fry|grill|roast|peel|brew|tie|wash|fold|iron|sew|knit|crochet|plant|prune|whistle|swim|ride|juggle"
)
"""What any "you" does: "how do you boil an egg" asks for a way. "How do you store my data" asks the one who answers."""

PHRASES: tuple[str, ...] = tuple(_PHRASES.replace("TASKS", _TASKS).splitlines())
FRAMES: tuple[str, ...] = tuple(_FRAMES.splitlines())
SAME_WORD = {other: group.split()[0] for group in _SAME_WORDS.splitlines() for other in group.split()[1:]}
ANTONYM_PAIRS = frozenset(frozenset(pair.split()) for pair in _ANTONYMS.split(";"))
NEGATIVE_PREFIXES = ("un", "in", "im", "ir", "il", "dis", "non", "de", "anti")
