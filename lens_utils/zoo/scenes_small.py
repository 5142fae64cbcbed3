# ruff: noqa: E501  (one template a line)
"""Single sentences that widen the vocabulary: bodies, houses, work, time, manners."""

from lens_utils.zoo.world import World

_SENTENCES = (
    "{A} [put on|took off|wore] {his} [coat|shoes|boots|hat|gloves|shirt|dress|socks].",
    "The <job> [worked|lived|stayed] [alone|here|near the <spot>|in the city].",
    "{A} [gave|told|showed|taught] {his} family something [new|great|important].",
    "There was no place like home.",
    "{B} knew how to take care of the <animal>.",
    "They talked about their [day|trip|plan|adventure|family|dream|team].",
    "{A} [brushed|petted|fed|washed|followed|chased] the <animal>.",
    "It took a [long|short] time, but [nobody|no one|everyone] [was sad|gave up|laughed|minded].",
    "Some people [like|love|eat|grow] <foods>, and others [like|love|eat|grow] <foods>.",
    "{A} [began|started] to [walk|run|cry|laugh|think|read|write|draw|cook|clean].",
    "The <toy> [fell|rolled|dropped|landed|was hidden] [on the floor|into the water|under the <spot>|from the shelf|off the table].",
    "The <spot> was made of [wood|stone|glass|metal|paper|gold|ice].",
    "{A}'s [eyes|hair|hands|feet|legs|arms|ears|nose|mouth|fingers] [were|felt|looked] [cold|warm|clean].",
    "The <animal> had [long|short|big|small|soft|sharp] [ears|legs|teeth|wings|fur|feathers|claws|tails].",
    "{He} [heard|listened to|liked] the [music|radio|birds|sea|wind|bell|news].",
    "{A} [drew|painted|wrote|made] a [picture|letter|card|story|poem|map] for {his} <family>.",
    "{B} [kicked|threw|caught|bounced|hit] the ball [high|hard|far|again and again].",
    "The <job> [said|thought|knew|believed|hoped] that {A} was [smart|brave|right|ready|wrong|special|lucky].",
    "It was {A}'s birthday. There was a [cake|party|present|gift|surprise] [with candles|for {him}|with balloons].",
    "{A} was [surprised|amazed|curious|nervous|worried|confused|bored|lonely|jealous|grateful], and {B} could [see|tell] it.",
    "Every [morning|night|week|day|year|summer], {A} [helped|visited|called|wrote to] {his} <family>.",
    "They [waited|stood|sat] in line [for an hour|for a few minutes|for a while].",
    "{A} could [hear|see|smell|feel|taste] the [sea|rain|cake|flowers|smoke|grass].",
    "First, they [washed|cut|picked|counted] the <foods>. Next, they [ate|cooked|sold|shared] them.",
    "The [movie|show|book|story|game|race] was [long|fun|boring|exciting|good|great|scary].",
    "{A} [won|lost|finished|started|joined] the race. {B} came [first|second|third|last].",
    "The <animal> [built|made] a nest [high in the tree|under the roof|in the grass|near the pond].",
    "Although it was [late|cold|dark], {A} kept [walking|working|looking|trying|reading|playing].",
    "Neither {A} nor {B} knew [why|what to do|where it was|who did it].",
    "{A} would rather have a <toy> than a <toy>.",
    "Both {A} and {B} [must|should|could|might] [go|wait|rest|sleep|leave] now.",
    "{A} carried the [heavy|light] <toy> [upstairs|downstairs|across the road|along the path|around the corner|to the car].",
    "The <job> had a [huge|large|small] [garden|house|boat|castle|farm|shop] with a <color> <spot>.",
    "Each <animal> got its own <food>.",
    "{A} [grew|planted|watered|picked] [a flower|the seeds|a tree|some roses|the vegetables] in the garden.",
    "{B} was [older|younger|taller|faster|stronger|bigger|smaller] than {A}.",
    "The <animal> is [bigger|smaller|faster|slower] than the <animal>.",
    "{A} did not [remember|understand|see|hear|know] [anything|it|why|the answer].",
    "[Perhaps|Maybe] it was [just|only] a [dream|game|trick|joke|shadow].",
    "They [hugged|kissed|thanked|surprised|invited] {his} <family>.",
    "The [boy|girl|man|woman|baby|child|teacher] [who had|with] the <color> <toy> [smiled|waved|laughed|cried|left].",
    "{A} [pushed|pulled|opened|closed|locked|painted|fixed|touched] the [door|window|gate|box].",
    "Many [years|days|weeks|months] [later|ago], {A} [moved|came back|went] to a [new|small|big] [city|town|country|island|world].",
    "{A} [turned|looked] [left|right|around|back] and [saw|found|noticed] [nothing|something|someone|the way home].",
    "It [seemed|sounded|looked|felt] [easy|difficult|possible|real|safe|dangerous|perfect].",
    "{He} [held|kept|hid|packed|carried|used|shared|dropped|picked up|put away] {his} [toys|things|books|clothes|crayons].",
    "{A} [ran|walked|jumped|crawled|swam|hurried] [fast|slowly|quickly|away|ahead|home|together with {B}].",
    "[The cat|The dog|A bird|The mouse] sat on the [mat|roof|wall|fence|chair|log|branch].",
    "The [end|middle|top|bottom|side|edge|back|front] of the <spot> was <color>.",
    "So many [questions|ideas|friends|colors|toys|games]!",
    "{B} [paid|asked for|found|saved|needed] some money for the <toy>.",
    "{A} has never [seen|had|tried|eaten] such a <look> <food> before.",
)


def small(world: World) -> list[str]:
    """One sentence about everyday things."""
    return [world.say(*_SENTENCES)]
