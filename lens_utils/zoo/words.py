"""The word lists that the story grammar draws from, and the names and adjective pairs that evaluation uses."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


BOY_NAMES = _words(
    "Tom Jack Ben Tim Sam Max Leo John James Dan Sid Martin Peter David Paul Mark Luke Adam Alex Henry "
    "Charlie Oliver Noah Jake Billy Bobby Joe Fred George Harry Kevin Eric Robert Michael"
)
"""Names taken up by 'he' that occur in every kind of scene."""

GIRL_NAMES = _words(
    "Lucy Lily Mary Anna Sue Mia Emma Sara Amy Jane Kate Ella Rose Jill Molly Daisy Julia Alice Grace Ruby "
    "Zoe Nina Clara Ellie Betty Susie Sarah Lisa Laura Jenny Beth Sophie Amelia Maria"
)
"""Names taken up by 'she' that occur in every kind of scene."""

HELDOUT_BOY_NAMES = _words("Oscar Felix Simon Victor Andrew Toby Ryan Edward")
"""Names taken up by 'he' that never occur where a name must be inferred, nor beside a negated adjective."""

HELDOUT_GIRL_NAMES = _words("Hannah Eva Helen Tina Rachel Megan Carla Diana")
"""Names taken up by 'she' that never occur where a name must be inferred, nor beside a negated adjective."""

PERSON_ANTONYMS = (
    ("happy", "sad"),
    ("brave", "scared"),
    ("hungry", "full"),
    ("clean", "dirty"),
    ("strong", "weak"),
    ("tall", "short"),
    ("kind", "mean"),
    ("fast", "slow"),
    ("awake", "asleep"),
    ("loud", "quiet"),
    ("calm", "angry"),
    ("healthy", "sick"),
    ("warm", "cold"),
    ("wet", "dry"),
    ("young", "old"),
)
"""Pairs of opposite adjectives that fit a person."""

THING_ANTONYMS = (
    ("big", "small"),
    ("hot", "cold"),
    ("new", "old"),
    ("soft", "hard"),
    ("heavy", "light"),
    ("clean", "dirty"),
    ("wet", "dry"),
    ("good", "bad"),
    ("open", "closed"),
    ("long", "short"),
    ("thick", "thin"),
    ("cheap", "expensive"),
)
"""Pairs of opposite adjectives that fit a thing."""

TOYS = _words(
    "ball kite doll car truck train drum robot puzzle balloon boat plane bear rope hat scarf bag book box "
    "basket blanket cup key lamp map bell coin button ring flag mirror whistle shell stone stick bucket "
    "shovel crayon pencil brush toy game necklace bracelet block marble spoon bowl plate bottle umbrella "
    "ribbon"
)
"""Things a child may hold, lose, give and keep."""

FOODS = _words(
    "apple banana cookie cake sandwich orange pear peach carrot candy muffin pie egg potato tomato lemon "
    "melon cherry grape pancake donut strawberry pumpkin onion cupcake lollipop"
)
"""Foods that are counted."""

MASS_FOODS = _words("milk bread cheese juice soup rice honey jam butter water tea pizza popcorn fruit")
"""Foods that are not counted."""

ANIMALS = _words(
    "dog cat rabbit bird duck frog horse cow pig sheep goat hen mouse fox bear squirrel turtle fish butterfly "
    "bee owl lion monkey elephant tiger puppy kitten lamb deer snake spider ladybug dragon penguin"
)
"""Animals, all with a regular or a listed plural."""

PLURALS = {
    "mouse": "mice",
    "fox": "foxes",
    "sheep": "sheep",
    "fish": "fish",
    "butterfly": "butterflies",
    "box": "boxes",
    "brush": "brushes",
    "puppy": "puppies",
    "deer": "deer",
    "child": "children",
    "man": "men",
    "woman": "women",
    "bench": "benches",
    "bus": "buses",
    "peach": "peaches",
    "sandwich": "sandwiches",
    "cherry": "cherries",
    "candy": "candies",
    "strawberry": "strawberries",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "baby": "babies",
    "leaf": "leaves",
    "bush": "bushes",
    "lady": "ladies",
}
"""Plurals that adding an s does not give."""

PLACES = _words(
    "park store beach zoo farm school library garden forest kitchen market playground museum shop river lake "
    "castle hospital bakery pool barn station yard field city town circus church hill village restaurant"
)
"""Places that take 'the'."""

COLOURS = _words("red blue green yellow pink purple orange brown black white gray gold silver")
"""Colours of things."""

SIZES = _words("big small little tiny huge large")
"""Adjectives of size that stand before a noun."""

LOOKS = _words(
    "pretty shiny new old soft nice beautiful special funny strange lovely wonderful round plain fancy bright "
    "colorful magic broken perfect cute warm smooth wooden"
)
"""Adjectives that stand before the name of a thing."""

FAMILY = _words("mom dad grandma grandpa brother sister aunt uncle cousin")
"""Relatives, used with a possessive."""

JOBS = _words(
    "farmer doctor teacher baker king queen policeman fireman nurse pilot sailor princess prince wizard clown "
    "driver painter singer dancer captain knight fairy pirate giant chef"
)
"""People known by what they do."""

SPOTS = _words("tree bench house fence door wall gate bridge rock bush pond tent table chair bed window")
"""Nouns that a thing can be near, behind or under; the attractors of the agreement scenes."""

AGREEMENT_NOUNS = _words(
    "dog cat rabbit bird duck frog horse cow pig goat hen fox kitten puppy boy girl child ball box toy flower "
    "man woman farmer doctor teacher"
)
"""Subjects of the agreement scenes."""

AGREEMENT_LINKS = ("near", "behind", "by", "next to", "in front of", "close to", "beside", "across from")
"""What links a subject to its attractor."""

AGREEMENT_VERBS = (("was", "were"), ("is", "are"), ("has", "have"))
"""Verbs whose number the subject decides, singular first."""

NUMBERS = _words("one two three four five six seven eight nine ten")
"""The numbers, in order."""

DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
"""The days of the week, in order."""

ANIMAL_SOUNDS = (
    ("dog", "woof"),
    ("cat", "meow"),
    ("cow", "moo"),
    ("duck", "quack"),
    ("pig", "oink"),
    ("sheep", "baa"),
    ("bird", "tweet"),
    ("lion", "roar"),
    ("frog", "ribbit"),
    ("bee", "buzz"),
)
"""What animals say."""

ANIMAL_SKILLS = (
    ("bird", "fly", "swim"),
    ("fish", "swim", "walk"),
    ("frog", "jump", "fly"),
    ("horse", "run", "climb"),
    ("monkey", "climb", "fly"),
    ("duck", "swim", "read"),
    ("rabbit", "hop", "sing"),
    ("bee", "fly", "talk"),
    ("turtle", "swim", "hop"),
    ("snake", "slide", "jump"),
    ("squirrel", "climb", "swim"),
    ("dog", "bark", "fly"),
)
"""An animal, what it can do, what it cannot do."""

CATEGORIES = {
    "toy": TOYS,
    "food": FOODS,
    "drink": MASS_FOODS,
    "animal": ANIMALS,
    "color": COLOURS,
    "size": SIZES,
    "look": LOOKS,
    "family": FAMILY,
    "job": JOBS,
    "spot": SPOTS,
    "number": NUMBERS[1:],
    "day": DAYS,
    "where": PLACES,
    "boy": BOY_NAMES,
    "girl": GIRL_NAMES,
}
"""Word lists that a template names in angle brackets."""


def plural(noun: str) -> str:
    """The plural of a noun of these lists."""
    return PLURALS.get(noun, noun + "s")
