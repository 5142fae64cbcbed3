# ruff: noqa: E501  (one template a line)
"""Scenes about things, animals, counting and places, and the repeated lists, songs and names."""

from lens_utils.zoo import words
from lens_utils.zoo.world import World


def lost(world: World) -> list[str]:
    """A person loses something, looks for it, and finds it where it was."""
    toy = world.pick(words.TOYS)
    world.people[0].holds = toy
    world.feel(world.people[0], "happy")
    place = world.pick(
        ("under the bed", "behind the door", "in the box", "near the <spot>", "on the table", "in the grass")
    )
    return [
        world.say(
            "{A} [lost|could not find] {his} {obj}.",
            "{A} looked for {his} {obj}, but it was [gone|not there|lost].",
            "One day, {A}'s {obj} was gone.",
        ),
        world.say(
            "{He} looked [in the kitchen|under the chair|everywhere|up and down|in the garden], but it was not there.",
            '"Where is my {obj}?" {he} asked. {B} [did not know|helped {him} look for it|wanted to help].',
            "{He} [looked and looked|asked {his} <family>|was worried]. {B} looked too.",
        ),
        world.say(
            f"[Then|Suddenly|At last|Finally], [{{he}}|{{B}}|they] found the {{obj}} {place}.",
            f"The {{obj}} was {place}. " + "{A} was [happy|glad|so happy] to have {his} {obj} back.",
        ),
    ]


def own(world: World) -> list[str]:
    """Who has what, said, changed, and said again."""
    first, second = world.people[0], world.people[1]
    first.holds, second.holds = world.pick(words.TOYS), world.pick(words.TOYS)
    out = [
        world.say(
            "{A} had a [{c}|<size>|<look>] {obj}. {B} had a {obj2}.",
            "{A} has a {obj} and {B} has a {obj2}.",
            c=world.pick(words.COLOURS),
        )
    ]
    if world.chance(0.5):
        out.append(
            world.say(
                "The {obj} was {A}'s. The {obj2} was {B}'s.",
                "The {obj} belonged to {A}, and the {obj2} belonged to {B}.",
            )
        )
    else:
        out.append(world.say("They [traded|changed] toys. Now {A} had the {obj2} and {B} had the {obj}."))
        first.holds, second.holds = second.holds, first.holds
    return out


def thing(world: World) -> list[str]:
    """A thing has one of two opposite qualities; half of the time that is said with 'not'."""
    pair = world.pick(words.THING_ANTONYMS)
    is_adj, not_adj = pair if world.chance(0.5) else pair[::-1]
    noun = world.pick(words.TOYS + words.SPOTS[-6:])
    return [
        world.say(
            "The {n} was not {x}. It was {i}.",
            "The {n} was {i}. It was [very|so] {i}.",
            "The {n} was {i}. It was not {x}.",
            "The {n} was not {x}. It was [very|so] {i}.",
            "This {n} is {i}. It is not {x}.",
            "The {n} was {i}. It was {i}.",
            "The {n} isn't {x}. It is {i}.",
            "That {n} was {i}, but the other one was {x}.",
            n=noun,
            i=is_adj,
            x=not_adj,
        )
    ]


def agree(world: World) -> list[str]:
    """A subject, an attractor of any number between, and a verb that agrees with the subject."""
    nouns, spots = words.AGREEMENT_NOUNS, words.SPOTS + words.AGREEMENT_NOUNS
    first, second = world.pick(range(len(nouns))), world.pick(range(len(spots)))
    while heldout_pair(first, second) or spots[second] == nouns[first]:
        second = (second + 1) % len(spots)
    many = world.chance(0.5)
    near = spots[second] if world.chance(0.5) else words.plural(spots[second])
    verb = world.pick(words.AGREEMENT_VERBS)[int(many)]
    subject = words.plural(nouns[first]) if many else nouns[first]
    end = (
        "[a name|a home|friends|a secret|a long day|food|water]"
        if verb in ("has", "have")
        else ("[big|small|<color>|old|nice|new|here|there|pretty|in the sun|from the <where>]")
    )
    return [world.say(f"The {subject} {world.pick(words.AGREEMENT_LINKS)} the {near} {verb} {end}.")]


def heldout_pair(noun: int, spot: int) -> bool:
    """Whether a pair of subject and attractor, by index, is kept out of the corpus."""
    return (7 * noun + 3 * spot) % 10 == 0


def animal(world: World) -> list[str]:
    """What an animal says, can do and cannot do."""
    name, can, cannot = world.pick(words.ANIMAL_SKILLS)
    beast, sound = world.pick(words.ANIMAL_SOUNDS)
    return [
        world.say(
            "A {n} can {c}. A {n} [cannot|can't] {x}.",
            "{A} saw a {n}. It could {c}, but it could not {x}.",
            'The {b} said, "{s}, {s}, {s}!"',
            'They heard a {b}. "{s}!" said the {b}. "{s}, {s}!"',
            "{A} had a [pet|little] {b}. It went {s}[.| all day.| all night.]",
            "If a {n} can {c}, it can go far. {A} liked to watch it {c}.",
            "The {n} was {his} favorite animal because it could {c}.",
            "A [mother|baby|little|big] {n} [lived in|came to|walked through] the [forest|field|garden|barn]. It liked to {c}.",
            n=name,
            c=can,
            x=cannot,
            b=beast,
            s=sound,
        )
    ]


def shopping(world: World) -> list[str]:
    """A list is said, and later said again in the same order."""
    items = ", ".join(_list_of(world, world.pick((3, 3, 4, 5))))
    items = items.rpartition(", ")[0] + " and " + items.rpartition(", ")[2]
    return [
        world.say(
            '{His} mom said, "[Please buy|We need|Can you get] {l}."',
            "{A} and {B} had a list. The list said {l}.",
            '"[I want|I would like] {l}," said {B}.',
            "{A} needed {l}.",
            l=items,
        ),
        world.say(
            "{A} went to the [store|shop|market] and [bought|got] {l}.",
            "[So|Then] {he} put {l} in the [basket|bag].",
            '{A} said it again: "{l}."',
            "They [found|took|bought] {l}. That was all.",
            l=items,
        ),
    ]


def _list_of(world: World, count: int) -> list[str]:
    options = words.FOODS + words.TOYS
    chosen: list[str] = []
    while len(chosen) < count:
        word = world.pick(options)
        phrase = world.pick(("a {}", "a {}", "two {}", "some {}", "one {}"))
        if all(word not in other for other in chosen):
            plural_form = words.plural(word) if phrase[0] in "ts" else word
            chosen.append(phrase.format(plural_form))
    return chosen


def song(world: World) -> list[str]:
    """A song whose line comes two or three times."""
    line = world.say(
        "[la la la|hey hey|oh my|row row|hop hop|sing with me], [little|big|pretty|happy|funny] <animal>[, come and play|, go to sleep|, fly away|]",
        "[I see|I love|I have] a <color> <toy>, [you see|you love|you have] a <color> <animal>",
        "[up and down|round and round|in and out] [the hill|the tree|the house] we go",
    )
    intro = world.say('{A} sang a song: "{l}!', 'They sang, "{l}!', '{B} began to sing. "{l}!', l=line)
    again = world.say(*(" ".join([f"{line}!"] * count) for count in (1, 2)))
    return [
        f'{intro} {again}"',
        world.say("{A} [laughed|clapped {his} hands|danced].", "It was a [nice|funny|silly|good] song."),
    ]


def nonce(world: World) -> list[str]:
    """A made-up name of one or two words that comes up again and again."""
    name = _nonce_word(world)
    if world.chance(0.5):
        name += " " + _nonce_word(world)
    kind = world.pick(("dog", "cat", "robot", "doll", "fish", "bird", "horse", "dragon", "town", "friend"))
    out = [
        world.say(
            "There was a <size> {k} named {n}.",
            "{A} had a {k}. Its name was {n}.",
            "{A} met a {k} named {n}.",
            n=name,
            k=kind,
        )
    ]
    for _ in range(world.pick((1, 2, 2, 3))):
        out.append(
            world.say(
                '"[Hello|Come here|Look|Good night|Goodbye|Stop|Run], {n}!" said [{A}|{B}].',
                "{A} [liked|loved|saw|called|missed] {n}.",
                "Everyone [knew|liked|loved] {n}.",
                "{n} was [very|so] [nice|funny|small|big|old].",
                n=name,
            )
        )
    return out


def _nonce_word(world: World) -> str:
    """Two closed syllables, or three: too many to recur by chance, so none enters the vocabulary."""
    count = world.pick((2, 2, 3))
    out = ""
    for _ in range(count):
        out += world.pick(tuple("bcdfghjklmnprstvwyz")) + world.pick(tuple("aeiou"))
        if count == 2 or world.chance(0.25):
            out += world.pick(tuple("lmnrstkxqpdgb"))
    return out.capitalize()


def count(world: World) -> list[str]:
    """Counting in words or digits, up or down, and simple sums."""
    top = world.pick((3, 4, 5, 6, 8, 10))
    numbers = list(words.NUMBERS[:top])
    if world.chance(0.25):
        numbers = [str(i + 1) for i in range(min(top, 9))]
    if world.chance(0.25):
        numbers.reverse()
    line = ", ".join(numbers)
    few = world.pick((1, 2, 3, 4))
    return [
        world.say(
            '{A} counted the <toys>. "{l}," {he} said. There were {t} of them.',
            '{B} counted: "{l}!"',
            '"Let\'s count," said {A}. "{l}!"',
            "{A} had {f} <foods>. {B} gave {him} one more. Now {A} had {g}.",
            "{A} had {g} <toys>. {He} gave one to {B}. Now {he} had {f}.",
            "There were {g} <animals>. One went away. Then there were {f}.",
            "[The days are|They said the days]: Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday.",
            l=line,
            t=words.NUMBERS[top - 1],
            f=words.NUMBERS[few],
            g=words.NUMBERS[few + 1],
        )
    ]
