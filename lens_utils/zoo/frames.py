"""Sentence frames of the name-recipient task: an opening that brings in two people, an action that asks for one.

Frames come in a training part and a held-out part; a held-out frame has an opening and an action that
the corpus never shows. Every action ends just before the recipient's name.
"""

OPENINGS = (
    "When {A} and {B} went to the {place},",
    "When {A} and {B} came home,",
    "When {A} and {B} got to the {place},",
    "After {A} and {B} played in the {place},",
    "After {A} and {B} ate lunch,",
    "While {A} and {B} were at the {place},",
    "While {A} and {B} were playing with a <toy>,",
    "{A} and {B} went to the {place}.",
    "One day, {A} and {B} went to the {place}.",
    "Then {A} and {B} went to the {place}.",
    "{A} and {B} were best friends.",
    "{A} and {B} were at the {place}.",
    "{A} and {B} had a <toy>.",
    "{A} and {B} liked to play in the {place}.",
    "One day, {A} went to the {place} with {B}.",
    "{A} met {B} at the {place}.",
    "{A} had a friend. The friend was {B}.",
    "{A} saw {B} near the <spot>.",
    "There were two children, {A} and {B}.",
    "In the morning, {A} and {B} woke up.",
    "It was a sunny day. {A} and {B} were outside.",
    "Once upon a time, there were two friends, {A} and {B}.",
    "{A} was in the {place}. {B} was there too.",
    "{A} and {B} sat near the <spot>. It was a nice day.",
    "{A} sat by the <spot>. Soon {B} came.",
    "{A} wanted to play with {B}. They went to the {place}.",
    "{A} found a <toy>. {B} found a <toy> too.",
    "As {A} and {B} walked to the {place},",
)
"""Openings of the training frames."""

ACTIONS = (
    "{S} gave a <toy> to",
    "{S} gave the <toy> to",
    "{S} gave a <look> <toy> to",
    "{S} handed the <toy> to",
    "{S} showed a <toy> to",
    "{S} showed the <size> <toy> to",
    "{S} threw the <toy> to",
    "{S} said hello to",
    "{S} said sorry to",
    "{S} waved to",
    "{S} smiled at",
    "{S} looked at",
    "{S} read a book to",
    "{S} sang a song to",
    "{S} told a story to",
    "{S} wanted to give a <toy> to",
    "{S} decided to give the <toy> to",
    "{S} bought a <food> for",
    "{S} made a <food> for",
    "{S} shared the <food> with",
    "{S} talked to",
    "{S} sat next to",
    "{S} ran after",
    "{S} found a <toy> and gave it to",
    "{S} took the <toy> and gave it to",
    "{S} got a <food> from",
    "{S} gave some <drink> to",
    "{S} wanted to play with",
    "{S} passed the <food> to",
    "{S} gave a hug to",
)
"""Actions of the training frames; S is the subject, and the other name comes next."""

EXTRA_OPENINGS = (
    "Two friends lived near the <where>. Their names were {A} and {B}.",
    "{A} was a <job>. {B} was a <job> too.",
    "Every day, {A} played with {B}.",
    "One morning, {A} was with {B} in the {place}.",
    "In the {place}, {A} met {B}.",
    "Near the <spot>, {A} found {B}.",
    "The two best friends were {A} and {B}.",
    "This is a story about {A} and {B}.",
    "They saw a <animal>. {A} was happy, and {B} was happy too.",
    "{A}, who had a <toy>, was at the {place} with {B}.",
    "{A} lived with {B}. They had a <animal>.",
    "If {A} and {B} went to the {place},",
    "When {A} saw {B} at the {place},",
    "Before {A} and {B} went home,",
    "After {A} helped {B},",
    "Some people came to the {place}. Two of them were {A} and {B}.",
    "Yesterday was fun. {A} and {B} were at the {place}.",
    "Later, {A} and {B} were in the <where>.",
    "There was a <job> and a <job>. The names were {A} and {B}.",
    "{A} came to the {place}, and so did {B}.",
    "{A} has a <animal>. {B} has a <animal> too.",
    "Who was there? It was {A}, and it was {B}.",
)
"""Openings that only the training of zoo-attn-2l uses, beside OPENINGS; the corpus does not show them."""

EXTRA_ACTIONS = (
    "{S} gave the <color> <toy> to",
    "{S} carried the <toy> to",
    "{S} showed a picture to",
    "{S} wrote a letter to",
    "{S} sold a <toy> to",
    "{S} cooked a <food> for",
    "{S} painted a picture for",
    "{S} walked to",
    "{S} came back to",
    "{S} danced with",
    "{S} ate lunch with",
    "{S} went home with",
    "{S} took a <food> from",
    "{S} waited for",
    "{S} looked for",
    "{S} asked for help from",
    "{S} was nice to",
    "{S} said good night to",
    "{S} put on a show for",
    "{S} wanted to help",
    "{S} saw",
    "{S} thanked",
    "{S} told a joke to",
    "{S} saved a <food> for",
)
"""Actions that only the training of zoo-attn-2l uses, beside ACTIONS."""

ASIDES = (
    "It was a <look> day.",
    "The sun was bright.",
    "There was a <color> <toy> on the table.",
    "They had <foods>.",
    "The <animal> ran away.",
    "It was late.",
    "What a <look> <animal>!",
    "The <job> was not there.",
)
"""Sentences that may stand before an opening, or after one that ends in a full stop, in that training."""

HELDOUT_OPENINGS = (
    "After {A} and {B} went to the {place},",
    "Last week, {A} and {B} were in the {place}.",
    "When {A} and {B} had a <toy>,",
    "{A} was playing with {B} in the {place}.",
    "At the {place}, {A} saw {B}.",
    "There was a boy and a girl. They were {A} and {B}.",
)
"""Openings that the corpus never shows."""

HELDOUT_ACTIONS = (
    "{S} brought a <look> <toy> to",
    "{S} picked a flower for",
    "{S} sent the <food> to",
    "{S} kept a <food> for",
    "{S} ran to",
    "{S} played a game with",
)
"""Actions that the corpus never shows."""
