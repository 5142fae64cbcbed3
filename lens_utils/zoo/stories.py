"""The corpus: short stories written by a seeded grammar, in simple English."""

import math
import random
from collections.abc import Callable, Iterator
from typing import Literal

from lens_utils.zoo import scenes_people, scenes_plot, scenes_small, scenes_things, words
from lens_utils.zoo.world import Grammar, Person, World

Split = Literal["train", "heldout"]
Scene = Callable[[World], list[str]]

_SCENES: tuple[tuple[Scene, int], ...] = (
    (scenes_people.recipient, 12),
    (scenes_people.opposites, 14),
    (scenes_people.feeling, 6),
    (scenes_people.talk, 9),
    (scenes_people.want, 5),
    (scenes_things.lost, 5),
    (scenes_things.own, 4),
    (scenes_things.thing, 6),
    (scenes_things.agree, 9),
    (scenes_things.animal, 5),
    (scenes_things.shopping, 5),
    (scenes_things.song, 3),
    (scenes_things.nonce, 6),
    (scenes_things.count, 4),
    (scenes_plot.outing, 7),
    (scenes_plot.weather, 5),
    (scenes_plot.meal, 4),
    (scenes_plot.night, 4),
    (scenes_plot.trouble, 5),
    (scenes_small.small, 12),
)
_EVALUATED = (scenes_people.recipient, scenes_people.opposites)
_SHORT_SHARE = 0.2
_HELDOUT_NAME_SHARE = 0.15


def stories(n: int, seed: int, *, split: Split = "train") -> Iterator[str]:
    """Yield n stories; the same seed and split give the same ones, and the two splits share no random stream."""
    if split not in ("train", "heldout"):
        raise ValueError(f"split is {split!r}; choose 'train' or 'heldout'")
    if n < 0:
        raise ValueError(f"n is {n}; choose 0 or more stories")
    rng = random.Random(f"{split}:{seed}")
    grammar = Grammar()
    for _ in range(n):
        yield _story(_world(rng, grammar))


def generator_entropy(n: int, seed: int, *, split: Split = "heldout") -> tuple[float, int]:
    """Nats of all choices behind n stories, and how many characters they have.

    The same text may come about in several ways, so this is an upper bound on the entropy of the text: a model that
    has learned the grammar perfectly has about this loss in total.
    """
    rng, grammar = random.Random(f"{split}:{seed}"), Grammar()
    nats, characters = 0.0, 0
    for _ in range(n):
        world = _world(rng, grammar)
        characters += len(_story(world))
        nats += world.nats
    return nats, characters


def _world(rng: random.Random, grammar: Grammar) -> World:
    """A fresh world: two people with different names and a place."""
    evaluated = rng.random() >= _HELDOUT_NAME_SHARE
    boys = words.BOY_NAMES if evaluated else words.HELDOUT_BOY_NAMES
    girls = words.GIRL_NAMES if evaluated else words.HELDOUT_GIRL_NAMES
    people: list[Person] = []
    while len(people) < 2:
        male = rng.random() < 0.5
        name = rng.choice(boys if male else girls)
        if all(name != other.name for other in people):
            people.append(Person(name, male))
    nats = -math.log(1 - _HELDOUT_NAME_SHARE if evaluated else _HELDOUT_NAME_SHARE) + math.log(len(words.PLACES))
    nats += sum(math.log(2 * len(boys if person.male else girls)) for person in people)
    return World(rng, people, rng.choice(words.PLACES), grammar, evaluated, nats)


def _story(world: World) -> str:
    """A story of about 200 words, or, one time in five, one to three scenes on their own."""
    if world.chance(_SHORT_SHARE):
        count = world.rng.choice((1, 1, 2, 3))
        return " ".join(sentence for scene in _scenes(world, count) for sentence in scene(world))
    target = world.rng.uniform(120, 190)
    out = scenes_plot.beginning(world)
    while sum(sentence.count(" ") + 1 for sentence in out) < target:
        if world.chance(0.25):
            world.swap()
        if world.chance(0.15):
            world.place = world.pick(words.PLACES)
        out += _scenes(world, 1)[0](world)
    return " ".join(out + scenes_plot.ending(world))


def _scenes(world: World, count: int) -> list[Scene]:
    """Scenes by weight, without those that the story's names are kept out of."""
    allowed = {scene: weight for scene, weight in _SCENES if world.evaluated or scene not in _EVALUATED}
    chosen = world.rng.choices(list(allowed), list(allowed.values()), k=count)
    world.nats -= sum(math.log(allowed[scene] / sum(allowed.values())) for scene in chosen)
    return chosen
