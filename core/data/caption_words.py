"""Words of the caption grammar: what the actions and styles of the training data are called by people.

Pure data, read by `core.data.captions`. Marks inside a phrase:
`[walk]` a verb to inflect, `@` the side (left or right), `<poss>` the or a possessive, `<own>` a possessive,
`<subj>` a pronoun for the subject, `<man>` man, woman or person, agreeing with the subject.
The first phrase of an action is its canonical one. Hands and directions were measured on the clips (wrist heights,
path of the hips), because the dataset's labels leave some of them out: `bye` is always the right hand, `byebye` both,
`respond` the left, `guide` the right, `kick` the right leg; `walk-left` keeps
facing forward and drifts to the left by about 30 degrees.
"""

from __future__ import annotations

from dataclasses import dataclass

_WAVE = (
    "[wave] with <poss> @ hand", "[wave] <poss> @ hand", "[wave] with <poss> @ arm", "[wave] <poss> @ arm",
    "[raise] <poss> @ hand and [wave]", "[wave] hello with <poss> @ hand", "[give] a wave with <poss> @ hand",
    "[wave] <poss> @ hand back and forth", "[wave] at someone with <poss> @ hand", "[wave] <poss> @ arm in the air",
    "[wave] to someone using <poss> @ hand", "[lift] <poss> @ arm and [wave] it", "[greet] someone with <poss> @ hand",
    "[wave] <poss> @ hand from side to side",
)  # fmt: skip
_RAISE = (
    "[raise] <poss> @ hand", "[raise] <poss> @ arm", "[lift] <poss> @ hand", "[lift] <poss> @ arm",
    "[put] up <poss> @ hand", "[put] <poss> @ hand up", "[hold] up <poss> @ hand", "[lift] <poss> @ arm up",
    "[raise] <poss> @ arm above <own> head", "[raise] <poss> @ hand in the air", "[reach] up with <poss> @ hand",
    "[raise] <poss> @ hand and [lower] it again", "[lift] <poss> @ arm and [bring] it back down",
    "[stick] <poss> @ hand up in the air",
)  # fmt: skip
_BYE = (
    "[wave] goodbye with <poss> @ hand", "[wave] bye with <poss> @ hand", "[wave] <poss> @ hand to say goodbye",
    "[say] goodbye with a wave of <poss> @ hand", "[raise] <poss> @ hand in farewell",
    "[wave] farewell with <poss> @ hand", "[raise] <poss> @ hand to say goodbye", "[bid] farewell with <poss> @ hand",
    "[wave] goodbye to someone with <poss> @ hand", "[give] a short farewell wave with <poss> @ hand",
    "[wave] goodbye using <poss> @ arm", "[say] bye with <poss> @ hand",
)  # fmt: skip
_GUIDE = (
    "[show] the way with <poss> @ hand", "[show] the way with <poss> @ arm", "[point] the way with <poss> @ hand",
    "[guide] someone with <poss> @ hand", "[usher] someone along with <poss> @ arm",
    "[direct] someone with <poss> @ arm",
    "[extend] <poss> @ arm to show the way", "[hold] out <poss> @ hand to show the way",
    "[gesture] the way with <poss> @ hand", "[invite] someone in with <poss> @ hand",
    "[motion] someone along with <poss> @ hand",
)  # fmt: skip
_KICK = (
    "[kick] with <poss> @ leg", "[kick] with <poss> @ foot", "[kick] <poss> @ leg", "[throw] a kick with <poss> @ leg",
    "[kick] the air with <poss> @ foot", "[kick] forward with <poss> @ leg", "[kick] out with <poss> @ foot",
    "[kick] something with <poss> @ foot", "[do] karate kicks with <poss> @ leg", "[deliver] a kick with <poss> @ leg",
)  # fmt: skip
_RESPOND = (
    "[respond] by raising <poss> @ hand", "[raise] <poss> @ hand in response", "[answer] by raising <poss> @ hand",
    "[raise] <poss> @ hand to answer", "[put] up <poss> @ hand to answer", "[reply] with a raised @ hand",
    "[respond] with <poss> @ hand", "[lift] <poss> @ arm in reply", "[react] by lifting <poss> @ hand",
    "[raise] <poss> @ arm to volunteer",
)  # fmt: skip
_DRIFT = (
    "[walk] diagonally to the @", "[walk] forward and to the @", "[walk] diagonally forward to the @",
    "[walk] ahead and to the @", "[walk] forward, drifting to the @", "[move] diagonally to the @",
    "[walk] at an angle to the @", "[veer] to the @ while walking", "[step] diagonally to the @", "[walk] to the @",
    "[walk] over to the @", "[drift] to the @ on foot", "[walk] forward, veering @",
)  # fmt: skip
_TURN = (
    "[walk] forward and [turn] @", "[walk] and [turn] to the @", "[walk] and [make] a @ turn", "[turn] @ while walking",
    "[make] a @ turn", "[turn] to the @", "[walk] forward and [turn] to the @", "[walk] in a curve to the @",
    "[walk] forward before turning @", "[walk] around a corner to the @", "[take] a @ turn", "[walk] ahead and [go] @",
    "[walk] while turning to the @", "[turn] @ and [keep] walking", "[walk] and [make] a turn to the @",
)  # fmt: skip
# Actions without a side of their own: name -> phrases.
_PLAIN = {
    "walk": (
        "[walk] forward", "[walk]", "[walk] ahead", "[walk] straight ahead", "[walk] forwards", "[stroll] forward",
        "[take] several steps forward", "[step] forward", "[move] forward", "[walk] in a straight line", "[walk] along",
        "[take] a walk", "[pace] forward", "[walk] a few steps", "[stroll] along", "[walk] straight forward",
    ),
    "run": (
        "[run] forward", "[run]", "[jog] forward", "[jog]", "[run] ahead", "[run] straight ahead", "[run] forwards",
        "[run] in a straight line", "[jog] along", "[run] along", "[go] for a run", "[jog] ahead",
    ),
    "dash": (
        "[sprint] forward", "[sprint]", "[dash] forward", "[dash] ahead", "[sprint] ahead", "[race] forward",
        "[run] at full speed", "[run] as fast as possible", "[break] into a sprint", "[rush] forward",
        "[sprint] in a straight line", "[run] as fast as <subj> can",
    ),
    "walk-back": (
        "[walk] backward", "[walk] backwards", "[step] backward", "[back] up", "[back] away",
        "[take] several steps back",
        "[take] a few steps backwards", "[move] backward", "[walk] straight backwards", "[go] backwards", "[step] back",
        "[walk] in reverse",
    ),
    "raise-both-hands": (
        "[raise] both hands", "[raise] both arms", "[lift] both hands", "[lift] both arms", "[put] both hands up",
        "[put] <own> hands up", "[raise] <own> arms", "[raise] <own> hands above <own> head", "[throw] both arms up",
        "[lift] both arms over <own> head", "[reach] up with both hands", "[hold] both arms up",
        "[raise] both hands in the air", "[raise] both arms and [lower] them again",
    ),
    "wave-both-hands": (
        "[wave] with both hands", "[wave] both hands", "[wave] with both arms", "[wave] both arms",
        "[wave] <own> arms over <own> head", "[raise] both hands and [wave]", "[wave] hello with both hands",
        "[wave] both arms in the air", "[wave] <own> arms", "[wave] both hands from side to side",
        "[wave] both hands above <own> head", "[greet] someone with both hands", "[wave] at someone with both arms",
    ),
    "wave-goodbye-both-hands": (
        "[wave] goodbye with both hands", "[wave] bye with both hands", "[wave] both hands to say goodbye",
        "[say] goodbye with both hands", "[wave] farewell with both arms", "[wave] both arms goodbye",
        "[bid] farewell with both hands", "[raise] both hands in farewell", "[wave] goodbye using both arms",
        "[wave] goodbye to someone with both hands", "[say] bye with both hands",
    ),
    "bow": (
        "[bow]", "[take] a bow", "[bow] forward", "[bend] forward in a bow", "[bow] down", "[make] a bow",
        "[give] a bow",
        "[lean] forward to bow", "[bow] in greeting", "[bend] at the waist to bow", "[bow] to someone",
    ),
    "call": (
        "[call] out to someone", "[shout] to someone", "[call] someone over", "[yell] to someone", "[call] out",
        "[call] to someone far away", "[shout] for someone", "[call] for someone", "[yell] at someone in the distance",
    ),
    "dance": (
        "[dance]", "[do] a dance", "[perform] a dance", "[dance] around", "[dance] to music", "[do] some dance moves",
        "[perform] dance moves", "[show] off some dance moves", "[dance] on the spot", "[practice] a dance",
    ),
    "punch": (
        "[punch]", "[throw] punches", "[punch] the air", "[box]", "[throw] a few punches", "[punch] forward",
        "[practice] boxing", "[throw] jabs", "[hit] the air with <own> fists", "[strike] with <own> fists",
    ),
    "slash": (
        "[swing] a sword", "[slash] with a sword", "[slash] the air", "[swing] a sword around",
        "[make] slashing motions",
        "[cut] the air with a sword", "[strike] with a sword", "[perform] sword slashes", "[fight] with a sword",
        "[swing] a blade",
    ),
}  # fmt: skip
_SIDED = {
    "walk-{}": _DRIFT, "walk-turn-{}": _TURN, "raise-{}-hand": _RAISE, "wave-{}-hand": _WAVE,
    "wave-goodbye-{}-hand": _BYE, "guide-{}-hand": _GUIDE, "kick-{}-leg": _KICK, "respond-{}-hand": _RESPOND,
}  # fmt: skip

ACTION_PHRASES: dict[str, tuple[str, ...]] = dict(_PLAIN)
for _name, _phrases in _SIDED.items():
    for _side in ("left", "right"):
        ACTION_PHRASES[_name.format(_side)] = tuple(phrase.replace("@", _side) for phrase in _phrases)

_NOUNS = {
    "walk": ("walk", "walk forward"), "run": ("run", "jog"), "dash": ("sprint", "dash"), "bow": ("bow",),
    "walk-back": ("walk backwards", "backward walk"), "walk-{}": ("diagonal walk to the {}",), "call": ("shout",),
    "walk-turn-{}": ("walk with a {} turn", "{} turn"), "raise-{}-hand": ("{} hand raise", "{} arm raise"),
    "raise-both-hands": ("raise of both hands",), "wave-{}-hand": ("{} hand wave", "wave with the {} hand"),
    "wave-both-hands": ("two-handed wave", "wave with both hands"), "dance": ("dance",), "punch": ("punch", "boxing"),
    "wave-goodbye-{}-hand": ("{} hand goodbye wave", "goodbye wave with the {} hand"), "slash": ("sword swing",),
    "wave-goodbye-both-hands": ("two-handed goodbye wave",), "guide-{}-hand": ("guiding gesture with the {} hand",),
    "kick-{}-leg": ("{} leg kick", "kick with the {} leg"), "respond-{}-hand": ("{} hand answer gesture",),
}  # fmt: skip
ACTION_NOUNS: dict[str, tuple[str, ...]] = {
    name.format(side): tuple(noun.format(side) for noun in nouns)
    for name, nouns in _NOUNS.items()
    for side in ("left", "right")
}  # head-noun phrases for terse prompts ("tired walk")

LOCOMOTION = frozenset(
    {"walk", "run", "dash", "walk-back", "walk-left", "walk-right", "walk-turn-left", "walk-turn-right"}
)  # actions that can carry a gesture in "... while ..."


@dataclass(frozen=True)
class StyleWords:
    """How a style is said: before a noun, beside a verb, after a clause, as the subject, as a verb of walking."""

    adjectives: tuple[str, ...] = ()
    adverbs: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    walk_verbs: tuple[str, ...] = ()


STYLE_WORDS: dict[str, StyleWords] = {
    "normal": StyleWords(),
    "active": StyleWords(
        ("energetic", "lively", "active"), ("energetically", "vigorously", "actively"),
        ("with a lot of energy", "full of energy", "in a lively way", "in an energetic manner"),
    ),
    "angry": StyleWords(
        ("angry", "furious", "mad", "irritated"), ("angrily", "furiously", "aggressively"),
        ("in anger", "as if angry", "in an angry way", "as if mad at someone", "looking annoyed"), (), ("stomp",
         "storm"),
    ),
    "childish": StyleWords(
        ("childish", "childlike"), ("childishly", "playfully"),
        ("like a child", "like a little kid", "in a childish way", "as a small child would", "like a toddler"),
        ("child", "little kid", "small child"), ("toddle",),
    ),
    "elderly": StyleWords(
        ("old", "elderly", "aged", "frail"), ("feebly", "stiffly"),
        ("like an old <man>", "like an elderly <man>", "as if very old", "the way old people do", "hunched with age"),
        ("old <man>", "elderly <man>", "senior"), ("shuffle", "hobble", "totter"),
    ),
    "feminine": StyleWords(
        ("feminine", "ladylike"), ("femininely", "daintily"),
        ("in a feminine way", "like a woman", "in a ladylike manner", "with feminine grace",
         "with feminine body language"),
        (), ("sashay",),
    ),
    "giant": StyleWords(
        ("giant", "gigantic", "huge"), ("ponderously", "heavily"),
        ("like a giant", "like a huge monster", "as if enormous", "as heavily as a giant", "with giant movements"),
        ("giant", "huge monster"), ("lumber", "stomp"),
    ),
    "happy": StyleWords(
        ("happy", "cheerful", "joyful", "excited"), ("happily", "cheerfully", "joyfully", "merrily"),
        ("in a good mood", "with joy", "as if very happy", "in a cheerful way", "full of joy"), (), ("skip", "bounce"),
    ),
    "masculine": StyleWords(
        ("masculine", "manly", "macho"), ("masculinely", "ruggedly"),
        ("in a masculine way", "like a tough man", "in a manly way", "in a macho manner",
         "with masculine body language"),
        ("tough guy", "macho man"),
    ),
    "musical": StyleWords(
        ("musical", "rhythmic"), ("rhythmically", "musically"),
        ("to the music", "to a beat", "as if in a musical", "in rhythm", "like a performer in a musical"),
        ("musical performer",),
    ),
    "proud": StyleWords(
        ("proud", "confident", "pompous"), ("proudly", "confidently", "pompously"),
        ("with pride", "with confidence", "with the chest out", "in a proud way", "full of pride"), (), ("strut",
         "march"),
    ),
    "sad": StyleWords(
        ("sad", "depressed", "gloomy", "unhappy"), ("sadly", "gloomily", "miserably", "dejectedly"),
        ("in sadness", "as if sad", "with the head hanging", "in a sad way", "in low spirits"), (), ("mope",),
    ),
    "swaggering": StyleWords(
        ("swaggering", "cocky", "thuggish"), ("cockily", "thuggishly", "swaggeringly"),
        ("like a thug", "like a gangster", "with a swagger", "like a delinquent", "like a street punk"),
        ("thug", "gangster", "delinquent"), ("swagger",),
    ),
    "timid": StyleWords(
        ("timid", "shy", "nervous", "insecure"), ("timidly", "hesitantly", "nervously", "shyly"),
        ("without confidence", "as if unsure", "lacking confidence", "as if scared", "in a shy way"),
    ),
    "tired": StyleWords(
        ("tired", "exhausted", "weary", "worn-out"), ("wearily", "tiredly", "sluggishly"),
        ("as if exhausted", "as if very tired", "in exhaustion", "without any energy", "in a tired way",
        "out of breath"),
        (), ("trudge", "plod"),
    ),
    "youthful": StyleWords(
        ("youthful", "young"), ("youthfully", "spiritedly"),
        ("like a young <man>", "in a youthful way", "like a teenager", "with youthful spirit", "full of youth"),
        ("young <man>", "teenager", "youngster"),
    ),
}  # fmt: skip
NORMAL_CLAUSES = ("normally", "in a normal way", "as usual", "naturally")
TEMPO_ADVERBS = {"slow": ("slowly", "unhurriedly"), "normal": (), "fast": ("quickly", "rapidly", "swiftly")}
TEMPO_CLAUSES = {
    "slow": ("at a slow pace", "in no hurry"), "normal": (), "fast": ("at a fast pace", "in a hurry", "fast"),
}  # fmt: skip
TOO_SLOW_VERBS = ("[stroll]",)  # not used with tempo "fast"

# Contents and styles of the Bandai-Namco motion dataset -> the vocabulary above.
BANDAI_ACTIONS = {
    "bow": "bow", "bye": "wave-goodbye-right-hand", "byebye": "wave-goodbye-both-hands", "call": "call",
    "dance-short": "dance", "dance-long": "dance", "dash": "dash", "guide": "guide-right-hand",
    "kick": "kick-right-leg",
    "punch": "punch", "respond": "respond-left-hand", "run": "run", "slash": "slash", "walk": "walk",
    "walk-back": "walk-back", "walk-left": "walk-left", "walk-right": "walk-right", "walk-turn-left": "walk-turn-left",
    "walk-turn-right": "walk-turn-right", "raise-up-both-hands": "raise-both-hands",
    "raise-up-left-hand": "raise-left-hand", "raise-up-right-hand": "raise-right-hand",
    "wave-both-hands": "wave-both-hands", "wave-left-hand": "wave-left-hand", "wave-right-hand": "wave-right-hand",
}  # fmt: skip
BANDAI_STYLES = {
    "old": "elderly", "exhausted": "tired", "masculinity": "masculine", "children": "childish",
    "chimpira": "swaggering",
    "not-confident": "timid",
} | {style: style for style in STYLE_WORDS}  # fmt: skip
