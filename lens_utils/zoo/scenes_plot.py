# ruff: noqa: E501  (one template a line)
"""Scenes that carry a story along: beginnings, outings, weather, meals, night and endings."""

from lens_utils.zoo import words
from lens_utils.zoo.world import World


def beginning(world: World) -> list[str]:
    """Who the story is about."""
    kind = "boy" if world.people[0].male else "girl"
    kind2 = "boy" if world.people[1].male else "girl"
    return [
        world.say(
            "Once upon a time, there was a [little|small|young|kind|brave|curious|clever] {k} named {A}.",
            "One day, a [little|small|young] {k} named {A} went [outside|for a walk|to the {place}].",
            "There once was a {k} called {A} who lived [in a small house|near the <where>|with {his} <family>|on a farm].",
            "Once there was a {k} named {A}. {He} was [three|four|five|six|seven] years old.",
            "{A} was a [good|happy|little|smart|polite|lazy|shy|curious] {k}.",
            "{A} lived in a [small|big|old|quiet] [house|town|village] with {his} <family> and {his} <animal>.",
            "Long ago, in a land far away, there lived a {k} named {A}.",
            k=kind,
        ),
        world.say(
            "{He} had a friend named {B}. {B} was a {k}.",
            "{A} loved to [play|run|draw|paint|read|sing|dance|swim|explore|cook] with {his} friend {B}.",
            "{He} liked to [play with <toys>|eat <foods>|look at <animals>|help {his} <family>|tell stories|build things].",
            "Every day, {he} would [play|walk|go|run] in the {place}. {His} best friend was {B}.",
            "{A} and {B} did everything together.",
            "{He} had a <look> <toy> that {he} [loved|liked] very much.",
            k=kind2,
        ),
    ]


def outing(world: World) -> list[str]:
    """The two go somewhere and meet with something."""
    return [
        world.say(
            "{A} and {B} [went|walked|ran|drove|came] to the {place}.",
            "They [played|ran|walked] [in|around|through] the {place} [all day|for hours|for a long time].",
            "On the way to the {place}, {A} [saw|met|found|noticed|heard] a <size> <animal>.",
            "{A} took {his} <toy> to the {place}.",
            "They [saw|met|watched] a <job> at the {place}. The <job> was [nice|kind|busy|friendly|tired].",
            "{His} <family> took them to the {place} in the [car|bus|train|truck|boat].",
            "It was the first time that {A} had been to the {place}.",
            "They rode [a bike|a horse|the bus|the slide|the swing] until it was [late|dark|time to go].",
        ),
        world.say(
            "There were many [<animals>|people|trees|flowers|children|birds|rocks|leaves|stars] there.",
            "They [built|made] a [sand castle|tower|house|fort|nest|path] with [sticks|blocks|stones|sand|mud|wood|snow].",
            "{A} climbed [up the tree|the hill|over the fence|to the top], and {B} [followed|waited|watched|stayed below].",
            "They played [hide and seek|tag|catch|a game|a new game]. {B} [won|hid behind a <spot>|was very good at it].",
            "A <job> showed them [how to make <foods>|a big <toy>|a map|where the <animals> live|a secret door].",
            "They sat [down|on the grass|under a tree|on a bench] and [ate <foods>|drank some <drink>|rested|looked at the sky|talked].",
            "Then they saw something [strange|shiny|big|moving|wonderful] [in|near|behind|under] the <spot>. It was a <color> <animal>!",
            "The <animal> [ran away|flew away|jumped into the water|looked at them|came closer|made a loud noise|hid in a hole].",
        ),
    ]


def weather(world: World) -> list[str]:
    """What happens if the weather turns, and whether it did."""
    if world.chance(0.4):
        return [
            world.say(
                "If it rained, they would stay inside. It rained. They stayed inside.",
                "If it rained, they would stay inside. It did not rain. They went outside.",
                "If it was sunny, they would go outside. It was sunny. They went outside.",
                "If it was sunny, they would go outside. It was not sunny. They stayed inside.",
                "If {A} was good, {he} would get a {t}. {A} was good. {He} got a {t}.",
                "If {A} had not [run|looked|waited], {he} would have [missed the bus|lost {his} <toy>|been late].",
                t=world.pick(words.TOYS),
            )
        ]
    return [
        world.say(
            "It was a [sunny|rainy|windy|cloudy|snowy|hot|cold|warm|cool] day[.|, and {A} was outside.|, so they stayed at home.]",
            "The sun was [shining|bright|warm|hot] and the sky was blue.",
            "The wind blew [hard|softly] and the leaves [fell|moved|danced].",
            "[Suddenly, it|It suddenly] started to [rain|snow|get dark|storm]. They ran [home|inside|under a tree|back].",
            "The rain [stopped|went away], and a rainbow came out. It was red, orange, yellow, green, blue and purple.",
            "There was [a loud noise|thunder|lightning|a storm|fog|ice]. {B} [was not afraid|held {A}'s hand|hid under the bed].",
            "In the [spring|summer|fall|winter], the {place} was [full of flowers|green|white|cold|quiet|busy].",
        )
    ]


def meal(world: World) -> list[str]:
    """Cooking and eating, with who gets what."""
    return [
        world.say(
            "{His} <family> [made|cooked|baked|prepared] [<foods>|a big <food>|<drink> and <foods>|dinner|lunch|breakfast].",
            "It was time for [breakfast|lunch|dinner|a snack]. They [ate|had|shared] <foods> and <drink>.",
            "{A} was [thirsty|hungry], so {he} [drank some <drink>|ate a <food>|asked for a <food>].",
            "{A} mixed [the flour|the sugar|the eggs] and [the milk|the butter|the honey] in a bowl.",
            "They washed their hands and sat at the table.",
            "{B} did not like the <food>. It [tasted|smelled|looked] [bad|funny|strange|sour].",
        ),
        world.say(
            "It was [delicious|yummy|tasty|sweet|very good|too hot|salty].",
            "{A} ate [one|two|three|all] of the <foods>[.| and wanted more.]",
            '"[Yum|Mmm|Wow], this is [good|delicious|tasty]!" {he} said.',
            "They ate [it all|until they were full|everything on the plate].",
            "After that, they [cleaned the kitchen|washed the dishes|put the cups away|helped {his} <family>].",
            "They left [half|some|a piece|a slice|the rest] for {B}'s <family>.",
        ),
    ]


def night(world: World) -> list[str]:
    """The moon, the stars, and going to bed."""
    return [
        world.say(
            "At night, {A} and {B} [liked to watch|looked at|watched] the moon. Sometimes the moon was big and round, and sometimes it was [small|thin|little].",
            "They noticed that the moon changed its shape every night.",
            "The stars were [bright|shining|like tiny lights] in the [dark|black|night] sky.",
            "The moon was [round|full|bright|yellow|white|like a ball] and {A} [wished|dreamed|wanted] to [fly there|touch it|see it again].",
            "It was [late|dark|bedtime], and {A} was [sleepy|tired|not tired]. {His} <family> [read|told] {him} a story.",
            "{A} [brushed {his} teeth|put on {his} pajamas|closed {his} eyes|turned off the light] and [went to bed|fell asleep|said good night].",
        ),
        world.say(
            "{He} had a [good|nice|strange|bad|funny] dream about a <size> <animal>.",
            '"Good night, {A}," said {his} <family>. "Sleep well."',
            "In the morning, {he} [woke up early|got up|opened {his} eyes|jumped out of bed].",
            "They [slept|rested] until the sun came up.",
            "The night was [quiet|dark|long|cold|warm].",
        ),
    ]


def trouble(world: World) -> list[str]:
    """Something goes wrong, somebody helps."""
    world.feel(world.people[0], "happy")
    return [
        world.say(
            "But then, {A} [fell down|tripped on a stone|got lost|dropped the <toy>|spilled the <drink>|broke a <toy>|hit {his} head].",
            "Suddenly, a <size> <animal> [came out|jumped out|appeared|ran by]. {A} was [scared|surprised|afraid].",
            "The <animal> was stuck in the <spot>. It could not [get out|move|run away].",
            "They heard a [loud|strange|scary|soft] [noise|sound|voice] behind the <spot>.",
            "{A} did something wrong. {He} took {B}'s <food> without asking.",
            "They got lost in the {place} and did not know which way to go.",
        ),
        world.say(
            "{B} [helped|saved|found|pulled] {him} [up|out|quickly|right away].",
            "A <job> [came|ran|heard them] and [helped|showed them the way|fixed it|brought a rope].",
            '"[Help|Oh no|Stop|Look out|Be careful]!" {he} [cried|shouted|yelled|screamed|called]. {B} came to help.',
            "They [worked together|tried hard|used a rope|pushed and pulled|made a plan] to [fix it|get out|solve the problem|make it safe].",
            "{He} felt bad and said sorry. {B} [forgave {him}|said it was okay|was not mad].",
            "So they asked a <job>, [who|and the <job>] [helped them|knew what to do|told them to wait|gave them a map].",
        ),
    ]


def ending(world: World) -> list[str]:
    """How it all ends."""
    return [
        world.say(
            "They all lived happily ever after.",
            "{A} and {B} were [very happy|happy|tired but happy|best friends forever].",
            "From that day on, {A} [always|never] [was careful|shared {his} toys|listened to {his} <family>|told the truth|forgot {B}|went there alone|was mean].",
            "{A} learned that it is [good|important|better|fun|right] to [share|help others|tell the truth|be kind|be careful|listen|try again|be brave].",
            "They went home and told {his} <family> [about it|about their day|everything|what happened].",
            "It was the [best|most fun|happiest] day of {his} life.",
            "And they played together [again|every day|until it was dark|the next day].",
            "The end.",
            "{A} said goodbye to {B} and went home.",
            "{His} <family> was [proud of {him}|glad|waiting at home with <foods>].",
        )
    ]
