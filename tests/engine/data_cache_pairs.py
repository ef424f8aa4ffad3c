"""Pairs of questions for the cache's guards: near ones that must never share an answer, and true paraphrases.

Every block is a kind; a line is one pair, its two questions apart by " || ". The templates below add generated pairs.
`split` cuts both sets in two by whole lines and whole templates: the guards were tuned on one half only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Half = Literal["tuning", "held-out"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions. `source` is the line or the template that it comes from: halves are cut between sources."""

    kind: str
    a: str
    b: str
    source: str


FOUND = """
Recommend a book about war. || Write a book about war.
Suggest a poem about autumn. || Write a poem about autumn.
I need a lawyer. || Write a lawyer.
Do you know a language? || Write a language.
Can you generate images? || Generate images.
Can you write code? || Write code.
How do you store my data? || How do I store my data?
How do you handle personal information? || How do I handle personal information?
How do you feel? || How do I feel?
How do you spend your day? || How do I spend my day?
How can you improve? || How can I improve?
How do we know the Earth is round? || How do I know the Earth is round?
How do people die? || How do I die?
How would you rate me? || How would I rate me?
How would I invest my savings? || How do I invest my savings?
What makes people happy? || Why are people happy?
Who is the director of the FBI? || Who was the director of the FBI?
How high is the plane? || How tall is the plane?
What is a quick sort? || What is a fast sort?
What is the equation of a plane? || What is the equation of an airplane?
How do I create a child theme? || How do I create a kid theme?
What is country music? || What is nation music?
What is big data? || What is large data?
Spell colour. || Spell color.
How many letters are in color? || How many letters are in colour?
How many syllables are in maths? || How many syllables are in mathematics?
What rhymes with large? || What rhymes with big?
What is a synonym for purchase? || What is a synonym for buy?
What is the past tense of begin? || What is the past tense of start?
What is the etymology of film? || What is the etymology of movie?
How do you say please in Spanish? || How do you say kindly in Spanish?
Translate into German: thank you || Translate into German: thanks
Translate to Spanish: what's up || Translate to Spanish: what is up
Count the words: I do not know || Count the words: I don't know
What does please mean? || What does kindly mean?
What does the word what mean? || What does the word which mean?
What is new in python 3.0? || What is new in python 3?
What does the cat eat? || What do cats eat?
Name a river in Spain. || Name rivers in Spain.
Write a joke about a cat. || Write a joke about cats.
Who was asked first? || Who asked first?
Who was paid? || Who paid?
What is made of milk? || What made milk?
Some of the guests left. How many stayed? || Some guests left. How many stayed?
What does ? do in regex? || What does ! do in regex?
What does : do in Python? || What does , do in Python?
How long is 5' in cm? || How long is 5" in cm?
Let's eat, grandma. What is meant? || Let's eat grandma. What is meant?
The panda eats shoots and leaves. || The panda eats, shoots and leaves.
Who saw a man-eating chicken? || Who saw a man eating chicken?
What is a PIN? || What is a pin?
What is AIDS? || What is aids?
What is SAT? || What is sat?
WHERE IS TURKEY FROM? || Where is turkey from?
What is the largest organ? || What is the largest organ in the world?
Is water wet? || Is the water wet?
Is law good? || Is the law good?
How do you get paid? || How do I get paid?
How do you make mistakes? || How do I make mistakes?
How do you measure success? || How do I measure success?
How can you delete my data? || How can I delete my data?
How do you delete data? || How do I delete data?
How do you play chess? || How do I play chess?
How do you change your mind? || How do I change my mind?
"""
"""Pairs that once passed: an attack on the finished guards found them. They were mended, so they count as tuning."""

DIFFERENT = {
    "found": FOUND,
    # Written after the last change to the guards, which blocked them. Seven more passed and were judged the same.
    "fresh": """
Is the moon a planet? || Is moon a planet?
What do you recommend for a cold? || What would you recommend for a cold?
What is the average of 4 and 8? || What is the average of 4 and 18?
Which vitamins are in milk? || Which vitamins aren't in milk?
How do I cook rice for ten people? || How do I cook rice for 10 people in ten minutes?
How do I cook a steak rare? || How do I cook a steak medium rare?
What does HTTP 404 mean? || What does HTTP 403 mean?
What is the fine for speeding? || What is the fee for speeding?
What is the temperature in hell? || What is the weather in hell?
Who is richer, Gates or Musk? || Who is richer, Musk or Bezos?
Who is taller, Ann or Bob? || Who is shorter, Ann or Bob?
Did women vote before 1920? || Did women vote after 1920?
Is it safe to eat raw eggs? || Is it safe to eat eggs?
Is it safe to mix bleach and ammonia? || Is it safe to mix bleach and water?
Can I take ibuprofen with alcohol? || Can I take ibuprofen without alcohol?
Can I take aspirin twice a day? || Can I take aspirin once a day?
How much aspirin can a child take? || How much aspirin can an adult take?
How much is a taxi from LAX? || How much is a taxi to LAX?
What is the train from A to B? || What is the train from B to A?
When did Rome fall to the Goths? || When did the Goths fall to Rome?
Why did the chicken cross the road? || Why did the road cross the chicken?
List primes below 20. || List primes above 20.
List primes below 20 in descending order. || List primes below 20.
What is the derivative of sin x? || What is the derivative of cos x?
What is the derivative of x^2? || What is the integral of x^2?
Find the maximum of x^2 on [0, 1]. || Find the maximum of x^2 on (0, 1).
Solve for x: x + y = 3. || Solve for y: x + y = 3.
What is the inverse of A*B? || What is the inverse of B*A?
Write a regex for emails. || Write a regex for URLs.
Write a test for foo(). || Write a test for foo.
How do I undo a commit? || How do I redo a commit?
How do I undo git add? || How do I do git add?
How do I revert a merge? || How do I do a merge?
How do I rename a branch locally? || How do I rename a branch remotely?
What is a left join? || What is a right join?
What is an inner join? || What is an outer join?
How do I parse JSON in Go? || How do I parse YAML in Go?
How do I parse json in go? || How do I parse JSON in GO?
What is big-endian? || What is little-endian?
Was Caesar killed? || Did Caesar kill?
Was he seen? || Was he seeing?
Who is being sued? || Who is suing?
Who is married to Ann? || Who married Ann?
What was discovered by Curie? || What discovered Curie?
Who was discovered? || Who discovered?
Are we born good? || Are they born good?
Which one is it, 3 or 4? || Which one is it, 4 or 5?
The price rose 3%. By how much did it rise? || The price rose 3%. By how much did it fall?
A bat and a ball cost 1.10. The bat costs 1.00 more. What is the ball? || A bat and a ball cost 1.10. The bat costs 1.00 more. What is the bat?
Yesterday was Monday. What is today? || Tomorrow is Monday. What is today?
Give me a joke about lawyers. || Give me a fact about lawyers.
Suggest a title for an essay. || Write an essay for a title.
Draft a reply saying yes. || Draft a reply saying no.
Draft an email to my boss. || Draft an email from my boss.
Do I need a visa for China? || Does he need a visa for China?
Is 91 prime? || Is 97 prime?
Is Pluto a planet? || Was Pluto a planet?
Are tomatoes fruit? || Are potatoes fruit?
""",
    "number": """
What is 15% of 80? || What is 15% of 90?
What is 12 + 30? || What is 12 + 31?
Solve 3x + 5 = 20 for x. || Solve 3x + 5 = 26 for x.
How do I get from 1 to 100 in steps of 5? || How do I get from 1 to 100 in steps of 4?
Name five rivers in Spain. || Name six rivers in Spain.
What happened in 1914? || What happened in 1941?
Who won the 2006 World Cup? || Who won the 2010 World Cup?
What is the 5th prime number? || What is the 7th prime number?
What is the second largest city in Canada? || What is the third largest city in Canada?
What is new in Python 3.11? || What is new in Python 3.12?
How many calories are in two eggs? || How many calories are in three eggs?
What is 1,000 divided by 8? || What is 10,000 divided by 8?
Convert 5.5 miles to feet. || Convert 55 miles to feet.
What is -3 squared plus 2? || What is 3 squared plus 2?
What is half of 86? || What is a third of 86?
Write a 100-word story about a fox. || Write a 200-word story about a fox.
What is the value of 2^10? || What is the value of 2^12?
Summarise chapter IV of the book. || Summarise chapter VI of the book.
What is 0.5 as a fraction? || What is 0.05 as a fraction?
How far can I drive on 3/4 of a tank? || How far can I drive on 1/4 of a tank?
What time is it in Tokyo when it is 3 pm in London? || What time is it in Tokyo when it is 3 am in London?
When it is 9:30 in Paris, what time is it in Delhi? || When it is 9:45 in Paris, what time is it in Delhi?
A dozen eggs cost $3; what does one egg cost? || A dozen eggs cost $6; what does one egg cost?
Count from ten down to one. || Count from twelve down to one.
What did Apple announce on 9 September 2014? || What did Apple announce on 9 September 2015?
What is the square root of 144? || What is the square root of 441?
How old is a person born in the 1960s? || How old is a person born in the 1980s?
What is 7 times 8? || What is 7 times 9?
Which team won Super Bowl XX? || Which team won Super Bowl XXX?
What is the atomic mass of carbon-12? || What is the atomic mass of carbon-14?
What is a twin study? || What is a triplet study?
How long is a single-page letter? || How long is a double-page letter?
""",
    "unit": """
What is 20 degrees Celsius in Kelvin? || What is 20 degrees Fahrenheit in Kelvin?
How long is 5 km in feet? || How long is 5 miles in feet?
How many bits are in 3 MB? || How many bits are in 3 Mb?
What is 30% of 50? || What is 30 of 50?
How much is 100 USD in yen? || How much is 100 EUR in yen?
How much is £40 in yen? || How much is $40 in yen?
How many seconds are in 3 hours? || How many seconds are in 3 days?
How heavy is 2 l of water? || How heavy is 2 ml of water?
What is the power of a 5 mW laser? || What is the power of a 5 MW laser?
How many weeks are in 4 months? || How many weeks are in 4 years?
What is 60 mph in metres per second? || What is 60 km/h in metres per second?
How fast is 10 knots in km/h? || How fast is 10 knots in mph?
How many grams are in a pound? || How many grams are in an ounce?
""",
    "negation": """
Which animals can fly? || Which animals cannot fly?
Which foods are safe for dogs? || Which foods are not safe for dogs?
Write a function with recursion to reverse a list. || Write a function without recursion to reverse a list.
Is it legal to park here? || Is it illegal to park here?
What are the symptoms of a healthy plant? || What are the symptoms of an unhealthy plant?
Why does ice float? || Why doesn't ice float?
Which of these numbers is prime? || Which of these numbers is not prime?
Who has never won an Oscar? || Who has won an Oscar?
List countries that have no army. || List countries that have an army.
Is my landlord allowed to do this? || Isn't my landlord allowed to do this?
What should I eat before a run? || What should I not eat before a run?
Name vegetables other than carrots. || Name vegetables such as carrots.
Write a paragraph using the letter e. || Write a paragraph avoiding the letter e.
What is a reversible reaction? || What is an irreversible reaction?
Which metals are magnetic? || Which metals are nonmagnetic?
Why are some people able to roll their tongue? || Why are some people unable to roll their tongue?
What does a complete graph look like? || What does an incomplete graph look like?
Sort the list and keep the duplicates. || Sort the list and don't keep the duplicates.
Which planets have rings? || Which planets lack rings?
Can you name all states except Texas? || Can you name all states including Texas?
Is every square a rectangle? || Is no square a rectangle?
What makes a contract valid? || What makes a contract invalid?
Which airlines serve meals? || Which airlines no longer serve meals?
Who hardly ever loses at chess? || Who ever loses at chess?
""",
    "polarity": """
How do I enable two-factor authentication? || How do I disable two-factor authentication?
How do I turn on Bluetooth? || How do I turn off Bluetooth?
How do I increase the font size? || How do I decrease the font size?
What are the advantages of nuclear power? || What are the disadvantages of nuclear power?
How do I open a bank account? || How do I close a bank account?
How do I install Docker? || How do I uninstall Docker?
How do I lock my phone? || How do I unlock my phone?
What is the maximum of f(x) = x^2 - 4x? || What is the minimum of f(x) = x^2 - 4x?
How do I upload a file? || How do I download a file?
How do I encrypt a folder? || How do I decrypt a folder?
What are the best films of the decade? || What are the worst films of the decade?
How do I gain weight? || How do I lose weight?
Should I buy or rent? What speaks for buying? || Should I buy or rent? What speaks against buying?
How do I include hidden files in a search? || How do I exclude hidden files in a search?
Sort the names in ascending order. || Sort the names in descending order.
What happens before the French Revolution? || What happens after the French Revolution?
What are the largest cities of Brazil? || What are the smallest cities of Brazil?
How do I allow pop-ups? || How do I block pop-ups?
How do I add a user to a group? || How do I remove a user from a group?
What are the causes of inflation? || What are the effects of inflation?
How do I push a branch? || How do I pull a branch?
What is the highest point of Italy? || What is the lowest point of Italy?
How do I mount a drive? || How do I unmount a drive?
How do I start the server? || How do I stop the server?
How do I import a CSV? || How do I export a CSV?
How do I compress a video? || How do I decompress a video?
Is the price going up? || Is the price going down?
Why is the sea warmer in summer? || Why is the sea colder in summer?
Which is the older building? || Which is the newer building?
What is the fastest way to learn Spanish? || What is the slowest way to learn Spanish?
Write a happy poem about rain. || Write a sad poem about rain.
Is it good to drink coffee late? || Is it bad to drink coffee late?
How do I mute a contact? || How do I unmute a contact?
What are the arguments for a carbon tax? || What are the arguments against a carbon tax?
Who supported the reform? || Who opposed the reform?
How do I attach a debugger? || How do I detach a debugger?
How do I freeze the top row? || How do I unfreeze the top row?
How do I follow someone? || How do I unfollow someone?
What is the left child of the root? || What is the right child of the root?
Is the first statement true? || Is the first statement false?
How do I join a meeting? || How do I leave a meeting?
What is the input of the function? || What is the output of the function?
How do I accept an invitation? || How do I decline an invitation?
Who was the winner of the match? || Who was the loser of the match?
What is the eastern border of Chad? || What is the western border of Chad?
""",
    "reversal": """
Convert kilometres to miles. || Convert miles to kilometres.
How do I travel from Rome to Naples? || How do I travel from Naples to Rome?
Translate from German to English: Hund. || Translate from English to German: Hund.
Does smoking cause stress? || Does stress cause smoking?
Who defeated Germany against Brazil in 2014? || Who defeated Brazil against Germany in 2014?
Is 5 greater than x or x greater than 5 when x is 3? || Is x greater than 5 or 5 greater than x when 3 is x?
If it rains, is the street wet? || If the street is wet, is it raining?
Are all cats animals? || Are all animals cats?
Did Anna pay Bob? || Did Bob pay Anna?
Subtract 4 from 9. || Subtract 9 from 4.
What is 12 divided by 3? || What is 3 divided by 12?
How do dogs differ in behaviour when cats chase dogs? || How do cats differ in behaviour when dogs chase cats?
Can a string be cast to an integer? || Can an integer be cast to a string?
Replace tabs with spaces. || Replace spaces with tabs.
Copy files from the server to my laptop. || Copy files from my laptop to the server.
Is Python faster than Java? || Is Java faster than Python?
Why do teachers like students? || Why do students like teachers?
What is A minus B if A is 4? || What is B minus A if A is 4?
Did the dog bite the man? || Did the man bite the dog?
Is the set of integers a subset of the reals? || Is the set of reals a subset of the integers?
Which came first, after Rome fell Byzantium rose? || Which came first, after Byzantium fell Rome rose?
Compute x - y for x = 3 and y = 8. || Compute y - x for x = 3 and y = 8.
What share of men are lawyers? || What share of lawyers are men?
Why did Cassius hate Caesar? || Why did Caesar hate Cassius?
Rename foo.txt to bar.txt. || Rename bar.txt to foo.txt.
Is Mary the mother of Jane? || Is Jane the mother of Mary?
Who is taller, given that Tom is taller than Sam? || Who is taller, given that Sam is taller than Tom?
Does P imply Q when Q implies P? || Does Q imply P when Q implies P?
How do I merge main into dev? || How do I merge dev into main?
""",
    "name": """
What is the capital of Australia? || What is the capital of Austria?
Who wrote War and Peace? || Who wrote Pride and Prejudice?
When was Marie Curie born? || When was Pierre Curie born?
What is the population of North Korea? || What is the population of South Korea?
When did Lincoln die? || When did Kennedy die?
Who founded Microsoft? || Who founded Apple?
What language is spoken in Niger? || What language is spoken in Nigeria?
Tell me about Paris, Texas. || Tell me about Paris, France.
What is the currency of Iran? || What is the currency of Iraq?
How do I install numpy on Ubuntu? || How do I install numpy on Debian?
Who directed Alien? || Who directed Aliens?
How do I sort a list in Java? || How do I sort a list in JavaScript?
Who is the CEO of IBM? || Who is the CEO of HP?
Where does the Amazon flow? || Where does the Nile flow?
What does the WHO do? || What does the WTO do?
Who painted the Mona Lisa? || Who painted the Night Watch?
What is Ohm's law? || What is Hooke's law?
When did the First World War end? || When did the Second World War end?
What is Li's atomic number? || What is Be's atomic number?
Who was the father of Charles I? || Who was the father of Charles II?
What is the tallest mountain in Europe? || What is the tallest mountain in Africa?
Who is the author of Emma? || Who is the author of Ulysses?
Is Monday a holiday? || Is Friday a holiday?
How cold is it in January in Oslo? || How cold is it in July in Oslo?
Write a letter to Anna about the party. || Write a letter to Maria about the party.
How do I polish a table? || How do I Polish a table?
What is a turkey? || What is Turkey?
""",
    "question word": """
Who invented the telephone? || When was the telephone invented?
Where was Napoleon born? || When was Napoleon born?
Why did the empire fall? || When did the empire fall?
How does a fridge work? || Why does a fridge work?
Who discovered penicillin? || Where was penicillin discovered?
How much sugar is in cola? || Why is sugar in cola?
How many people live in Peru? || Which people live in Peru?
How long is the Danube? || How deep is the Danube?
How old is the oldest tree? || How tall is the oldest tree?
What is a black hole? || Where is a black hole?
Is it raining in Bergen? || Why is it raining in Bergen?
How far is the Moon? || How big is the Moon?
How often should I water a cactus? || How should I water a cactus?
What is recursion? || When is recursion used?
How much does a bus weigh? || How much does a bus cost?
Whose book is this? || What book is this?
Should I learn Rust? || How do I learn Rust?
Can I freeze cheese? || How can I freeze cheese?
""",
    "superlative": """
What is the largest lake in Africa? || What is a large lake in Africa?
Who was the first president of France? || Who was the last president of France?
What is the longest word in English? || What is the shortest word in English?
What is the most popular sport? || What is the least popular sport?
Which planet is closest to the Sun? || Which planet is farthest from the Sun?
What is the nearest star? || What is the brightest star?
Is iron heavier than lead? || Is iron as heavy as lead?
Which river is longer, the Rhine or the Elbe? || Which river is shorter, the Rhine or the Elbe?
At least how many edges does a connected graph have? || At most how many edges does a connected graph have?
Find numbers greater than 10. || Find numbers greater than or equal to 10.
Who earned more, Ann or Bob? || Who earned less, Ann or Bob?
What is the richest country? || What is the poorest country?
What is the hottest month? || What is the coldest month?
Which is the older of the two? || Which is the oldest of the two?
What is the early history of jazz? || What is the earliest history of jazz?
""",
    "format": """
Explain gravity in French. || Explain gravity in German.
Give me the list as JSON. || Give me the list as YAML.
What is photosynthesis? Answer in one word. || What is photosynthesis? Answer in one sentence.
Explain recursion briefly. || Explain recursion in detail.
Explain entropy to a child. || Explain entropy to a physicist.
Write a formal letter to my landlord. || Write an informal letter to my landlord.
Write a haiku about autumn. || Write a limerick about autumn.
Give the answer in metres. || Give the answer in feet.
Describe the sea in rhyme. || Describe the sea in prose.
Show the result as a table. || Show the result as a chart.
Write the number in binary. || Write the number in hexadecimal.
Explain Newton's laws. || Explain Newton's laws in Spanish.
Summarise this in three bullet points: the cat sat. || Summarise this in three sentences: the cat sat.
Answer yes or no: is water wet? || Explain: is water wet?
Write the function in C. || Write the function in C++.
Write a poem about love. || Write a poem about love that doesn't rhyme.
Reply in capital letters: who are you? || Reply in small letters: who are you?
Draw a cat in ASCII. || Draw a cat in SVG.
Name a fruit. || Name a fruit with five letters.
Write a story for children about war. || Write a story for adults about war.
""",
    "code": """
What does `sort` do? || What does `sorted` do?
What does gcc -O do? || What does gcc -o do?
What does grep -i do? || What does grep -v do?
What does ls -a show? || What does ls -A show?
What does tar -x do? || What does tar -c do?
What does git reset --soft do? || What does git reset --hard do?
What is the output of print(1 + 2)? || What is the output of print(1 * 2)?
What is the output of `print("a")`? || What is the output of `print("A")`?
What is the type of x = [1, 2]? || What is the type of x = (1, 2)?
How do I use list.append? || How do I use list.extend?
What does x++ return? || What does ++x return?
What does a == b test? || What does a != b test?
What does the regex a+ match? || What does the regex a* match?
Fix this: for i in range(10): print(i) || Fix this: for i in range(10): print(j)
Is x > 5 for x = 5? || Is x >= 5 for x = 5?
What does chmod 644 do? || What does chmod 755 do?
Reverse the string "abcd". || Reverse the string "abce".
How many times does the letter r appear in "strawberry"? || How many times does the letter b appear in "strawberry"?
How many r's are in strawberry? || How many r's are in raspberry?
What does SELECT COUNT(*) FROM users return? || What does SELECT COUNT(*) FROM orders return?
What is the difference between my_list and myList? || What is the difference between my_list and mylist?
What does && do in bash? || What does || do in bash?
What does $PATH hold? || What does $HOME hold?
What does /etc/passwd hold? || What does /etc/shadow hold?
What does int a[3] declare? || What does int *a[3] declare?
Which is right: its or it's? || Which is right: it's or its?
What is 3 & 5? || What is 3 | 5?
Open https://example.com/a and sum it up. || Open https://example.com/b and sum it up.
What does the flag -rf mean? || What does the flag -r mean?
""",
    "mathematics": """
What is the integral of x^2? || What is the derivative of x^2?
What is the integral of x^2? || What is the integral of x^3?
What is sin(30)? || What is cos(30)?
Simplify (a+b)^2. || Simplify (a-b)^2.
Solve x^2 - 4 = 0. || Solve x^2 + 4 = 0.
What is the area of a circle of radius 3? || What is the area of a circle of diameter 3?
What is the perimeter of a 3 by 4 rectangle? || What is the area of a 3 by 4 rectangle?
What is log(100)? || What is ln(100)?
Find x if 2x = 10. || Find x if 2 + x = 10.
Evaluate $\\frac{1}{2}$. || Evaluate $\\frac{2}{1}$.
What is the sum of 4 and 9? || What is the product of 4 and 9?
What is the mean of 1, 2 and 9? || What is the median of 1, 2 and 9?
Is f(x) = x even? || Is f(x) = x odd?
What is (2 + 3) * 4? || What is 2 + (3 * 4)?
What is 2 + 3 * 4? || What is (2 + 3) * 4?
How many permutations of 5 items are there? || How many combinations of 5 items are there?
What is x² + 1 for x = 2? || What is x2 + 1 for x = 2?
Tom has 5 apples and buys 3. How many has he? || Tom has 5 apples and eats 3. How many has he?
A train travels 60 km in 2 h. What is its speed? || A train travels 60 km in 2 h. What is its speed in m/s?
What is the volume of a cube of side 2? || What is the surface of a cube of side 2?
Round 2.55 up. || Round 2.55 down.
What is the limit of 1/x as x goes to 0? || What is the limit of 1/x as x goes to infinity?
Is the relation symmetric? || Is the relation antisymmetric?
What is 5 choose 2? || What is 5 to the power 2?
""",
    "logic": """
If all A are B, are all B A? || If all A are B, are some B A?
A says that B is a knave. Who is a knight? || A says that B is a knight. Who is a knave?
Is P and Q a tautology? || Is P or Q a tautology?
If P then Q. P is true. What of Q? || If P then Q. Q is true. What of P?
Some birds can swim. Can all birds swim? || Some birds can swim. Can any birds swim?
Is exactly one of the two statements true? || Is at least one of the two statements true?
Ann sits left of Bob. Who sits on the right? || Bob sits left of Ann. Who sits on the right?
Every boy likes some girl. Is it true? || Some boy likes every girl. Is it true?
Is the argument valid if both premises are true? || Is the argument valid if either premise is true?
Must a knave lie? || May a knave lie?
Does P if Q mean the same as Q? || Does P only if Q mean the same as Q?
Who is necessarily lying? || Who is possibly lying?
""",
    "constraint": """
Write a poem that starts with the word night. || Write a poem that ends with the word night.
Name a word that contains the letters ab. || Name a word that contains the letters ba.
List only the even numbers. || List also the even numbers.
Find words with exactly five letters. || Find words with over five letters.
Plan a trip with my children. || Plan a trip without my children.
Recommend a laptop under 500 euros. || Recommend a laptop over 500 euros.
Give me a vegetarian lasagne recipe. || Give me a lasagne recipe.
How do I bake bread with yeast? || How do I bake bread with sourdough?
Which drugs interact with ibuprofen? || Which drugs interact with aspirin?
Is this mushroom edible raw? || Is this mushroom edible cooked?
What is the dose of paracetamol for a child? || What is the dose of paracetamol for an adult?
How long do I boil an egg? || How long do I boil a potato?
Is it safe to take it during pregnancy? || Is it safe to take it after pregnancy?
What are the visa rules for Germans in Japan? || What are the visa rules for Japanese in Germany?
Give me an example. || Give me another example.
What is the weather today? || What is the weather tomorrow?
What was the score yesterday? || What was the score last week?
Who is the current pope? || Who was the previous pope?
How do I back up a database daily? || How do I back up a database weekly?
""",
    "person and tense": """
Who is the president of France? || Who was the president of France?
Who will win the election? || Who won the election?
Can I sue my employer? || Can my employer sue me?
Should I apologise to him? || Should he apologise to me?
What can you do? || What can I do?
How do I delete my account? || How do I delete his account?
What did he say to her? || What did she say to him?
Is she my aunt? || Is he my aunt?
Does your model store my data? || Does my model store your data?
What happens now? || What happened then?
""",
    "modality": """
What must I pack for a hike? || What could I pack for a hike?
Can I take a day off? || Must I take a day off?
When should I see a doctor? || When can I see a doctor?
Do most people like music? || Do all people like music?
Why do I always fail? || Why do I sometimes fail?
Is it always true that n > 0? || Is it ever true that n > 0?
""",
    "after the same long text": """
{TEXT} Who is the narrator? || {TEXT} Who is the publisher?
{TEXT} What colour is the door? || {TEXT} What colour is the roof?
{TEXT} Summarise it in one line. || {TEXT} Summarise it in two lines.
{TEXT} What does the first word mean? || {TEXT} What does the last word mean?
{TEXT} Translate it into Dutch. || {TEXT} Translate it into Danish.
Who is the narrator? {TEXT} || Who is the publisher? {TEXT}
""",
}

LONG_TEXT = " ".join(
    f"In the {place} the keeper wrote down what the {thing} had done, and nobody asked why it was so quiet there."
    for place in ("harbour", "garden", "tower", "cellar", "valley", "library", "kitchen", "station", "forest", "mill")
    for thing in ("wind", "child", "clock", "river", "horse")
)

CAPITALS = ("Norway", "Chile", "Kenya", "Laos", "Malta", "Qatar", "Cuba", "Fiji", "Nepal", "Oman", "Togo", "Benin")
OPPOSITES = (
    ("activate", "deactivate"), ("connect", "disconnect"), ("load", "unload"), ("hide", "show"), ("raise", "lower"),
    ("expand", "collapse"), ("subscribe to", "unsubscribe from"), ("grant", "revoke"), ("insert", "delete"),
    ("zip", "unzip"), ("log in to", "log out of"), ("maximise", "minimise"), ("pause", "resume"), ("pin", "unpin"),
)  # fmt: skip
ANTONYMS = (
    ("hot", "cold"), ("rich", "poor"), ("fast", "slow"), ("strong", "weak"), ("cheap", "expensive"), ("wide", "narrow"),
    ("hard", "soft"), ("young", "old"), ("dry", "wet"), ("public", "private"), ("heavy", "light"), ("early", "late"),
    ("simple", "complex"), ("positive", "negative"), ("internal", "external"), ("legal", "criminal"),
)  # fmt: skip
PLACES = ("Lima", "Cairo", "Delhi", "Seoul", "Quito", "Dakar", "Hanoi", "Minsk", "Tunis", "Accra")
UNITS = ("grams", "ounces", "pounds", "tons", "carats")
LANGUAGES = ("Python", "Ruby", "Perl", "Haskell", "Rust", "Go", "Kotlin", "Swift")
THINGS = ("door", "window", "file", "ticket", "engine", "account", "course", "printer", "mailbox", "tunnel")
WORDS = ("banana", "bandana", "cabana", "havana", "bonanza", "savanna")


def different_pairs() -> list[Pair]:
    """Pairs whose answers differ."""
    pairs = [
        Pair(kind, *(side.strip().replace("{TEXT}", LONG_TEXT) for side in line.split(" || ", 1)), source=line)
        for kind, block in DIFFERENT.items()
        for line in block.strip().splitlines()
    ]

    def add(kind: str, source: str, a: str, b: str) -> None:
        pairs.append(Pair(kind, a, b, source))

    for left, right in pairwise(CAPITALS):
        add("name", "capital", f"What is the capital city of {left}?", f"What is the capital city of {right}?")
        add(
            "name",
            "president",
            f"Who was the first prime minister of {left}?",
            f"Who was the first prime minister of {right}?",
        )
    for index, (left, right) in enumerate(OPPOSITES):
        thing = THINGS[index % len(THINGS)]
        add("polarity", "opposites", f"How do I {left} the {thing}?", f"How do I {right} the {thing}?")
        add(
            "polarity",
            "opposites asked",
            f"Can you {left} this {thing} for me, please?",
            f"Can you {right} this {thing} for me, please?",
        )
    for index, (left, right) in enumerate(ANTONYMS):
        place = PLACES[index % len(PLACES)]
        add(
            "polarity",
            "antonyms",
            f"What do {left} days in {place} have in common?",
            f"What do {right} days in {place} have in common?",
        )
    for index, (left, right) in enumerate(pairwise(PLACES)):
        add(
            "reversal",
            "flight",
            f"How long is the flight from {left} to {right}?",
            f"How long is the flight from {right} to {left}?",
        )
        add("reversal", "larger", f"Is {left} larger than {right}?", f"Is {right} larger than {left}?")
        add(
            "number",
            "distance",
            f"{left} is {index + 3} km away; how long is the walk?",
            f"{left} is {index + 4} km away; how long is the walk?",
        )
    for left, right in pairwise(UNITS):
        add("reversal", "units", f"How do I convert {left} to {right}?", f"How do I convert {right} to {left}?")
        add("unit", "weight", f"How many {left} does a brick weigh?", f"How many {right} does a brick weigh?")
    for left, right in pairwise(LANGUAGES):
        add("name", "language", f"How do I read a file in {left}?", f"How do I read a file in {right}?")
        add(
            "reversal", "port", f"Port this script from {left} to {right}.", f"Port this script from {right} to {left}."
        )
    for left, right in pairwise(WORDS):
        add("code", "letters", f"How many a's are in {left}?", f"How many a's are in {right}?")
        add("code", "spelling", f"Spell {left} backwards.", f"Spell {right} backwards.")
    for index, thing in enumerate(THINGS):
        add("negation", "not", f"Why is the {thing} open?", f"Why is the {thing} not open?")
        add(
            "negation",
            "never",
            f"Which {thing} should you use in winter?",
            f"Which {thing} should you never use in winter?",
        )
        add("question word", "who when", f"Who made the first {thing}?", f"When was the first {thing} made?")
        add("number", "sum", f"What is {17 + index} + {30 + 2 * index}?", f"What is {17 + index} + {31 + 2 * index}?")
        add("mathematics", "sign", f"What is {90 + index} - {index + 4}?", f"What is {90 + index} + {index + 4}?")
        add(
            "number",
            "price",
            f"A {thing} costs {index + 5} euros. What do 4 cost?",
            f"A {thing} costs {index + 5} euros. What do 6 cost?",
        )
    return pairs


SAME = {
    "fact": """
What is the capital of France? || What's the capital of France?
What is the capital of France? || what is the capital of france
What is the capital of France? || Can you tell me what the capital of France is?
What is the capital of France? || What is France's capital?
What is the capital of Peru? || What is the capital city of Peru?
Tell me the capital of Kenya. || What is the capital of Kenya?
Who wrote Hamlet? || Who is the author of Hamlet?
Who wrote Hamlet? || Hamlet was written by whom?
Who painted the Mona Lisa? || Who was the painter of the Mona Lisa?
When did the Berlin Wall fall? || When did the Berlin Wall come down?
When did the Berlin Wall fall? || In which year did the Berlin Wall fall?
When was Mozart born? || What is Mozart's date of birth?
What is the tallest mountain in the world? || What is the world's tallest mountain?
What is the highest mountain in Europe? || Which mountain is the highest in Europe?
How tall is Mount Everest? || What is the height of Mount Everest?
How high is the Eiffel Tower? || What is the height of the Eiffel Tower?
How many people live in Tokyo? || What is the population of Tokyo?
How old is the universe? || What is the age of the universe?
How long is the Nile? || What is the length of the Nile?
What currency is used in Japan? || What is the currency of Japan?
Which element has the symbol Fe? || What element has the symbol Fe?
What is the boiling point of water? || At what temperature does water boil?
How far is the Moon from the Earth? || What is the distance from the Earth to the Moon?
Who discovered penicillin? || Who was it that discovered penicillin?
What language do people speak in Brazil? || What language is spoken in Brazil?
Where is Machu Picchu? || Where is Machu Picchu located?
What does DNA stand for? || What is DNA short for?
What is the meaning of "ubiquitous"? || What does "ubiquitous" mean?
Define entropy. || What is the definition of entropy?
How much does an elephant weigh? || What is the weight of an elephant?
Who was the first person on the Moon? || Who was the first human on the Moon?
What are the colours of the rainbow? || What are the colors of the rainbow?
Name the planets of the solar system. || List the planets of the solar system.
Is a tomato a fruit? || Is a tomato a fruit or not?
What is the largest ocean? || Which ocean is the largest?
What is the largest ocean on Earth? || What is the biggest ocean on Earth?
""",
    "how-to": """
How do I boil an egg? || How can I boil an egg?
How do I boil an egg? || How to boil an egg?
How do I boil an egg? || What is the best way to boil an egg?
How do I reset my password? || How can I reset my password?
How do I reset my password? || Please tell me how to reset my password.
How do I reset my password? || I want to know how to reset my password.
How do I reset my password? || i need to reset my password, how do i do that
How do I learn to play the guitar? || How can I learn to play the guitar?
How can I lose weight? || How do I lose weight?
How do I get rid of ants? || How can I get rid of ants?
How do I remove a wine stain? || How can I get a wine stain out?
How do you make pancakes? || How do I make pancakes?
How do I make coffee? || How to make coffee
How can I improve my English? || How do I improve my English?
How can I improve my English? || What can I do to improve my English?
How do I start a small business? || How can one start a small business?
What should I do to sleep better? || How can I sleep better?
How do I write a cover letter? || How should I write a cover letter?
How do I sort a list in Python? || In Python, how do I sort a list?
How do I sort a list in Python? || How can I sort a Python list?
How do I delete a branch in git? || How can I delete a git branch?
How do I fix a flat tyre? || How do I repair a flat tire?
How do I stop procrastinating? || How can I stop procrastinating?
How do I tie a tie? || Could you explain how to tie a tie?
How do I cook rice? || Hi! How do I cook rice? Thanks!
""",
    "explanation": """
Why is the sky blue? || What makes the sky blue?
Why is the sky blue? || Can you explain why the sky is blue?
Why is the sky blue? || What is the reason that the sky is blue?
Why do cats purr? || What is the reason cats purr?
Why did the Roman Empire fall? || What caused the fall of the Roman Empire?
Explain photosynthesis. || Please explain photosynthesis.
Explain how a car engine works. || How does a car engine work?
How does a vaccine work? || Can you explain how a vaccine works?
How do vaccines work? || How does a vaccine work?
What is machine learning? || What's machine learning?
What is machine learning? || Could you tell me what machine learning is?
What is the difference between a virus and a bacterium? || How does a virus differ from a bacterium?
What is the difference between tea and coffee? || What's the difference between tea and coffee?
Compare cats and dogs. || Give a comparison of cats and dogs.
What are the advantages of solar power? || What are the benefits of solar power?
What are the pros and cons of remote work? || What are the advantages and disadvantages of remote work?
What are the causes of inflation? || What causes inflation?
Describe the water cycle. || Give a description of the water cycle.
Summarise the plot of Macbeth. || Give me a summary of the plot of Macbeth.
What are the symptoms of flu? || Which symptoms does flu have?
What is the purpose of a resistor? || What is a resistor for?
Should I buy or rent a house? || Is it better to buy or to rent a house?
What do you think about modern art? || What is your opinion of modern art?
Explain the theory of relativity in simple terms. || Explain the theory of relativity in simple words.
How important is sleep? || What is the importance of sleep?
Give me tips for a job interview. || What are some tips for a job interview?
Give me some tips for studying. || What are some good tips for studying?
""",
    "creative": """
Write a poem about the sea. || Compose a poem about the sea.
Write a poem about the sea. || Write me a poem about the sea, please.
Write a poem about the sea. || Can you write a poem on the sea?
Write a short story about a robot. || Please write a short story about a robot.
Write a haiku about spring. || Create a haiku about spring.
Give me a slogan for a bakery. || Come up with a slogan for a bakery.
Write a limerick about a cat. || I'd like a limerick about a cat.
Write a birthday message for my sister. || Write a birthday greeting for my sister.
Suggest a name for a puppy. || What is a good name for a puppy?
Tell me a joke. || Can you tell me a joke?
Tell me a joke about cats. || Do you know a joke about cats?
Write a song about friendship. || Write song lyrics about friendship.
Describe a sunset. || Write a description of a sunset.
Invent a new holiday. || Make up a new holiday.
Write a letter of complaint to an airline. || Draft a complaint letter to an airline.
""",
    "technical": """
What is 2 + 2? || What's 2+2?
What is 2 + 2? || what is 2 + 2
What is 15% of 80? || Calculate 15% of 80.
What is 15% of 80? || What is 15 percent of 80?
Solve 2x + 3 = 7. || Please solve 2x + 3 = 7.
Solve 2x + 3 = 7 for x. || Solve for x: 2x + 3 = 7.
What is the integral of x^2? || Find the integral of x^2.
What is 7 times 8? || What is 7 multiplied by 8?
What is the square root of 144? || Calculate the square root of 144.
What does `len` do in Python? || In Python, what does `len` do?
Write a Python function that reverses a string. || Please write a Python function that reverses a string.
Write a function to reverse a string in Python. || In Python, write a function to reverse a string.
How many r's are in "strawberry"? || How many r's are there in "strawberry"?
Convert 5 km to miles. || How many miles is 5 km?
Convert 5 km to miles. || Convert 5 kilometres to miles.
Is 17 prime? || Is 17 a prime number?
What is the area of a circle of radius 3? || What is the area of a circle with radius 3?
What is 3 squared? || What is 3^2?
""",
}


def same_pairs() -> list[Pair]:
    """True paraphrases: the answer of one answers the other."""
    return [
        Pair(kind, *(side.strip() for side in line.split(" || ")), source=line)
        for kind, block in SAME.items()
        for line in block.strip().splitlines()
    ]


def half_of(pair: Pair) -> Half:
    """Which half a pair belongs to, by its source; what an attack found is tuned on."""
    if pair.kind == "found":
        return "tuning"
    return "tuning" if hashlib.sha256(pair.source.encode()).digest()[0] % 2 else "held-out"


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927)."""
    z = 1.959964
    centre = (hits + z * z / 2) / (trials + z * z)
    spread = z / (trials + z * z) * (hits * (trials - hits) / trials + z * z / 4) ** 0.5
    return max(0.0, centre - spread), min(1.0, centre + spread)
