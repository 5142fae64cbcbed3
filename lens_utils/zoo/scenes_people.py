# ruff: noqa: E501  (one template a line)
"""Scenes about people: who gives what to whom, how they are, why, and what they say."""

from lens_utils.zoo import frames, words
from lens_utils.zoo.world import Person, World


def recipient(world: World) -> list[str]:
    """Two people are named, one acts, the other one receives; then the receiver answers."""
    first, second = world.people[0], world.people[1]
    opening = world.say(*frames.OPENINGS)
    giver, receiver = (first, second) if world.chance(0.5) else (second, first)
    action = world.say(*frames.ACTIONS, S=giver.name)
    out = [f"{opening} {action} {receiver.name}."]
    if world.chance(0.6):
        out.append(_answer(world, receiver))
    return out


def _answer(world: World, receiver: Person) -> str:
    return world.say(
        "{R} was [happy|glad|very happy].",
        '"Thank you," said {R}.',
        "{R} [smiled|laughed|said thank you].",
        "{R} liked it a lot.",
        '{R} said, "[Thank you|Thanks|You are kind|How nice]!"',
        "It made {R} [smile|happy].",
        R=receiver.name,
    )


def opposites(world: World) -> list[str]:
    """A person has one of two opposite qualities; half of the time that is said with 'not'."""
    person = world.people[0]
    pair = world.pick(words.PERSON_ANTONYMS)
    is_adj = world.trait(person, pair)
    not_adj = pair[1] if is_adj == pair[0] else pair[0]
    slots = {"P": person.name, "he": person.he, "He": person.he.capitalize(), "is_": is_adj, "not_": not_adj}
    if world.chance(0.5):
        return [world.say(*_NEGATED, **slots)]
    return [world.say(*_AFFIRMED, **slots)]


_NEGATED = (
    "{P} was not {not_}. {He} was {is_}.",
    "{P} was not {not_}. {He} was {is_}.",
    "{P} was not {not_}. {He} was [very|so|really] {is_}.",
    "{P} was not {not_}. {He} felt {is_}.",
    "{P} was not {not_} at all. {He} was {is_}.",
    "{P} wasn't {not_}. {He} was {is_}.",
    "{P} was not {not_}, {he} was {is_}.",
    "{P} was not {not_} but {is_}.",
    "{P} was never {not_}. {He} was always {is_}.",
    "{P} is not {not_}. {He} is {is_}.",
    "Was {P} {not_}? No, {he} was {is_}.",
    '"Are you {not_}, {P}?" "No, I am {is_}."',
    '"I am not {not_}," said {P}. "I am {is_}."',
    "{P} did not feel {not_}. {He} felt {is_}.",
)

_AFFIRMED = (
    "{P} was {is_}. {He} was {is_}[.| because it was a long day.| all day.| again.| too.]",
    "{P} was {is_}. {He} was [very|so|really] {is_}.",
    "{P} was {is_}. {He} was {is_}.",
    "{P} was {is_}. {He} felt {is_}.",
    "{P} was {is_}. {He} was not {not_}.",
    "{P} was {is_}, and {he} was not {not_}.",
    "{P} was very {is_}. {He} was {is_}.",
    "{P} was always {is_}. {He} was never {not_}.",
    "{P} is {is_}. {He} is {is_}.",
    "Was {P} {is_}? Yes, {he} was {is_}.",
    '"Are you {is_}, {P}?" "Yes, I am {is_}."',
    '"I am {is_}," said {P}. "I am not {not_}."',
    "{P} felt {is_}. {He} was {is_}.",
)


def feeling(world: World) -> list[str]:
    """A person is sad or scared or glad because of something, and it is put right."""
    person = world.people[0]
    if world.chance(0.5):
        world.feel(person, "happy")
        return [
            world.say(
                "{A} was [happy|very happy|glad|proud|excited] because {he} [had a new <toy>|won the game|saw a <animal>"
                "|got a <food>|could help {B}|found {his} <toy>|learned to swim|was going to the <where>].",
                "{A} was so [happy|excited] that {he} [jumped up and down|danced|sang a song|clapped {his} hands].",
                "{A} had a big smile on {his} face. {He} [felt|was] happy because {B} was {his} friend.",
            )
        ]
    world.feel(person, "happy")
    return [
        world.say(
            "{A} was sad because {he} [lost {his} <toy>|broke {his} <toy>|missed {his} <family>|could not find {his} <toy>"
            "|fell down|could not go to the <where>|was all alone].",
            "{A} started to cry because {he} [hurt {his} [knee|hand|foot|arm|head]|dropped {his} <food>|had a bad dream].",
            "{A} was upset because {his} <toy> [was broken|was gone|was too old|did not work].",
        ),
        world.say(
            "{B} [gave {him} a hug|sat next to {him}|held {his} hand|told {him} a joke]. {A} felt [better|much better|happy again].",
            '"Don\'t [cry|worry|be sad], {A}," said {B}. "[I will help you|It will be okay|You will feel better soon]." {A} smiled.',
            "{His} [mom|dad|grandma|grandpa|teacher] came and [helped {him}|fixed it|made it better]. Then {A} was happy again.",
        ),
    ]


def talk(world: World) -> list[str]:
    """The two people talk, with quotation marks: a question and an answer to it."""
    questions, replies = world.pick(_TALKS)
    return [world.say(*questions), world.say(*replies)]


_TALKS = (
    (
        (
            '"[Can|May] I play with your <toy>?" asked {B}.',
            '{B} asked, "[Do you want to|Can we] [play|go|swim|eat|run|read a book|come]?"',
            '"Will you help me [find|carry|fix|clean|open] my <toy>?" asked {B}.',
            '"Do you [like|want] <foods>?" {B} asked.',
            '{B} said, "I [want|need|would like] a <food>, please."',
            '"Let\'s [go to the <where>|play a game|make a <food>]," said {B}.',
        ),
        (
            '"Yes, [of course|you can|please|I do|let\'s go]!" said {A}.',
            '{A} [said|replied|answered], "[Okay|Sure|Maybe|Yes|No]."',
            "\"No, [thank you|not now|I can't|I don't think so|sorry],\" said {A}.",
            '"That is [a good|a great|a fun|a silly] idea," said {A}.',
            '{A} thought about it. "[Maybe tomorrow|Soon|In the morning|After lunch|Not today]," {he} said.',
            '{A} shook {his} head. "I\'m [not sure|sorry|too tired|busy]," {he} said.',
            '{A} nodded. "You\'re [right|my best friend|very nice]," {he} said.',
        ),
    ),
    (
        ('{B} asked, "When [will we|can we|do we] go to the <where>?"', '"When is the party?" asked {B}.'),
        (
            '"[Tomorrow|Soon|In the morning|After lunch|On <day>]," said {A}.',
            '{A} said, "We\'re going to have [so much fun|a party|a great day]!"',
        ),
    ),
    (
        (
            'One day, {B} asks {A}: "Where is my <toy>?"',
            '{B} said, "I am looking for a <food> but I can\'t find it."',
            '"Who [took|has|ate|made] my <food>?" {B} asked.',
        ),
        (
            '{A} says: "Don\'t [worry|be silly|cry|be afraid|forget]. I can help you."',
            '"I don\'t know," {A} said. "[Let\'s ask my <family>|Let\'s look for it|We can try]."',
            '"It\'s [over there|in the box|under the bed|behind the <spot>|on the table]," said {A}.',
            '"I\'ll show you," said {A}. "Come with me."',
            '"They\'re [in the garden|at home|with my <family>]," said {A}. "They have it."',
        ),
    ),
    (
        (
            '"I don\'t know how to [swim|dance|draw|cook|ride a bike|sing]," said {B}.',
            '"I can\'t [swim|dance|draw|cook|ride a bike|sing]," said {B}.',
        ),
        (
            '"I\'ll show you," said {A}. "Come with me."',
            '{A} says: "Don\'t worry. I can help you."',
            '"I\'ve never done it either," said {A}.',
        ),
    ),
    (
        (
            '"What is your favorite [color|animal|toy|food]?" asked {B}.',
            '"Which <toy> do you like [best|most|more]?" asked {B}.',
            '"What do you see, {A}?" {B} [asked|said].',
        ),
        (
            '"[The <color> one|A <animal>|The <size> <toy>|A <food>|A <toy>]," said {A}.',
            '{A} [said|replied|answered], "[A <food>|A <color> one|A <animal>]."',
        ),
    ),
    (
        (
            '"[Look|Wow|Hey|See|Hi], {A}!" said {B}. "[There is|I see|I found|I have] a <size> <animal>!"',
            '"Why are you [here|so quiet|running|laughing]?" {B} asked.',
            '"What are you doing, {A}?" {B} [asked|said].',
            '"How [old|tall|big] is your <family>?" asked {B}.',
        ),
        (
            '{A} laughed and said, "[You are funny|I like it too|Me too|So do I|That\'s right]."',
            "{A} [smiled|said nothing|did not answer|thought for a moment].",
            '"I\'m [not sure|sorry|busy|waiting for you]," said {A}.',
        ),
    ),
)


def want(world: World) -> list[str]:
    """A person wants something, may not have it, waits, and gets it or something better."""
    return [
        world.say(
            "{A} [wanted|really wanted|wished for] a [new|<color>|<size>|<look>] <toy>.",
            "{A} saw a <look> <toy> in the [store|shop|window]. {He} wanted [to have it|it very much|to buy it].",
            "{A} wanted to [learn to|be able to] [fly|swim|dance|paint|cook|ride a bike|climb a tree|play the drum].",
        ),
        world.say(
            "{His} <family> said [no|not today|it was too much|{he} had to wait|{he} must be patient].",
            "{He} did not have enough money, so {he} [worked hard|saved every coin|helped {his} <family>].",
            "It was [too hard|too high|too far|too expensive|not easy], but {he} did not [give up|stop|go home].",
            "{He} tried and tried[.| again.| for many days.| all morning.]",
        ),
        world.say(
            "At last, {he} [got it|could do it|was able to do it]. {He} was [proud|very proud|so happy].",
            "The next day, {his} <family> had a surprise for {him}. {He} [could not believe it|was so excited|jumped for joy].",
            "In the end, {A} [was happy with what {he} had|learned to wait|did not need it].",
        ),
    ]
