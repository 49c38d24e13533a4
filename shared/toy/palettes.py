"""Colors of the painted surfaces: up to eight choices per part."""

import numpy as np

# The kinds of painted surface: what a style gives a color and a texture to.
PARTS = (
    *("sky", "cloud", "road", "lane", "patch", "parking", "sidewalk", "curb", "terrain", "ground"),
    *("facade", "roof", "door", "wall", "wall cap", "fence", "fence post"),
    *("pole", "lamp", "light box", "red", "amber", "green", "unlit"),
    *("sign", "sign border", "sign symbol", "sign back", "board"),
    *("crown", "crown light", "crown dark", "hedge", "trunk", "far crown", "far facade"),
    *("skin", "hair", "top", "trousers", "shoes", "bag", "helmet"),
    *("car body", "glass", "tyre", "rim", "tail light", "head light", "plate", "bumper"),
    *("cargo", "cab", "bus body", "stripe", "tram body"),
    *("moto body", "moto dark", "bike frame", "bike wheel", "saddle"),
    *("static", "dynamic", "ego"),
)
PART_INDEX = {name: index for index, name in enumerate(PARTS)}
CHOICES = 8

_COMMON = """
lane: e8e8e4; unlit: 2a2a28; red: ff3a28; amber: ffb81e; green: 30e880; sign: f4f4f0;
sign border: d02020 d02020 e0b020 2050b0; sign symbol: 202020 202020 c02020;
sign back: 8a8c8c 74767a; board: 2050a8 207040 e8c030 2050a8; tyre: 1c1c1e; rim: 9a9ca0;
plate: f0f0e4 e8d860; bumper: 26262a; tail light: d02018; head light: f4f2e0; glass: 26323c 303c46;
skin: e0ac88 c68a66 8a5a3c f0c6a4 5c3c28; hair: 241a14 4a3020 8a6434 1a1a1a a8a29a;
shoes: 1e1a18 4a3a2c e8e8e8; helmet: e0e0e0 c03028 202428 3060b0; saddle: 1c1a1a; lamp: e8e6d8;
bike wheel: 8a8a88; moto dark: 242428
"""

_GAME = """
sky: 5aa2ec 4c94e6 6aaef0; cloud: f4f8ff; road: 54565c 5a5c62; patch: 484a50; parking: 62646a;
sidewalk: b0a698 a89e92; curb: c8c0b4; terrain: 6aa83c 78b444 8ab04c; ground: a8a4a0;
facade: d8b890 c89468 b87858 e0d0b0 a8b4c0 d8a088 90a4b8 c8b098; roof: 8a5040 5c5c64 70483c;
door: 6a4830 385878; wall: c0a888 b89878 a8a090; wall cap: d8c8b0; fence: 8a6a44 a08058 706050;
fence post: 5c4630; pole: 80868e 707880; light box: 2c2e30 c8a020; crown: 3c8c30 4a9a38 2f7c34;
crown light: 5cae44 66b84a; crown dark: 276a28 2c7430; hedge: 3a8434 4a943c; trunk: 6a4a2c;
far crown: 4a9048 3f8444; far facade: a8a8b0 b8a898 8c98a8;
top: d83838 3868c8 f0d040 30a060 f0f0f0 303030 e07830; trousers: 304878 202428 786850;
bag: a04828 305080; car body: d82828 2858c8 f0c020 f4f4f4 18181c 30a050 e07020 b0b4bc;
cargo: e8e8e8 d86030 3070b0 d0c8a0; cab: d83030 2850b0 f0f0f0; bus body: e8c020 d84030 3088c8;
stripe: f4f4f4 203060; tram body: d82828 f0f0e0 2870a8; moto body: d82020 2050c0 181818 e09020;
bike frame: d82828 2060c8 20a050 101010; static: 507858 8a8e90; dynamic: c05090 4080c0;
ego: 20242c 8a1c1c 30405c
"""

_SYNTHIA = """
sky: a4bcd8 b4c8e0 94b0d4; cloud: d8e4f0; road: 788090 707888; patch: 646c7c; parking: 8890a0;
sidewalk: a8a0b0 9c98ac; curb: c8c8d4; terrain: 8ca070; ground: 989cac;
facade: a0a8c0 b8b0c0 8890b0 c8c4d0 9098a0 b0a0a8 7c88a4; roof: 606880 585c70; door: 404c68;
wall: 9898ac 8488a0; wall cap: b8bcc8; fence: 606c88 788098; fence post: 485068;
pole: 586478 a0a8b8; light box: 1c2430 303848; crown: 4c8c70 3c7c68 5c9878; crown light: 6ca888;
crown dark: 2f6458; hedge: 447c68; trunk: 585060; far crown: 64907c; far facade: 98a4bc 8894b0;
top: 5060c0 c05080 e0e0f0 40a0a0 303848 9060b0; trousers: 283458 404058 686880; bag: 504880;
car body: 4058b0 b0b8d0 e8ecf8 282c40 8c3858 388890 707890; cargo: d0d4e0; cab: 4058a0;
bus body: 4868c0 60a0b0 c0c8e0; stripe: e8ecff; tram body: 4868c0; moto body: 303858 803858;
bike frame: 384890 903858 202838; static: 606880; dynamic: 8060a0; ego: 202838
"""

_REAL = """
sky: d6dade c8cfd6 e2e3e2 b8c4d2; cloud: e8eaec b4bac2; lane: c4c2ba;
road: 6e6c6a 7a7876 5e5e60 84807a; patch: 5a5856 8a8884; parking: 76706c 8a847c;
sidewalk: 8c8682 9a928a 7e7a7a; curb: a09c94; terrain: 6a6c40 5c6838 7c7648 606a44; ground: 8e8a80;
facade: b4a690 8a7466 9c9488 c4bcae 7c6050 a89c8c 6e6a68 b8a080; roof: 6a4a40 4c4a4a 5a4c46;
door: 4a3c32 2e3434 5c5854; wall: 8c8478 706a62 9a8a78; wall cap: a49c90;
fence: 5c5c58 4c4a44 6a6458 3c4440; fence post: 3c3c3a; pole: 6c6e6c 585a58 7e7c76;
light box: 20241f 262a22; red: d8453a; green: 58c8a0; sign: dcdcd6;
sign border: b03030 b03030 c8a838 34549a; board: 345090 3c6450 d0b048 e0e0d8;
crown: 4a5632 566238 3e4a30 62683c; crown light: 6e7844 5e6a3e; crown dark: 2c3622 343e28;
hedge: 445030 3a462c; trunk: 443a32 54483c; far crown: 5e6a56 68705c;
far facade: 9c9a96 8c8882 a8a29a; top: 2c2e34 4a4c54 6a4040 3c4658 88847c 5c5040 a8a4a0 22262a;
trousers: 26282e 34384a 4c4844 1e1e22; bag: 3a2c26 4a4a4e;
car body: 20222a 8c8e90 b8babc 4a4e54 d8d8d6 2c3a54 5c2a2a 34383a;
cargo: c8c8c4 8a8e92 5c6a7c b0a68c; cab: b8b8b4 5c3030 34466a;
bus body: c8b070 a8a8a8 7c3c34 486a5c; stripe: 8a3a34 d8d8d4 3c4a64;
tram body: c0b890 a84038 d0d0c8; moto body: 2c2c30 5c2a26 3a4a64 8c8c8c;
bike frame: 2a2a2c 5c6068 6a3434 344a44; static: 4a5c4c 5c5c5c 8c8a84; dynamic: 4c4c58 6c4a48;
ego: 1c1e22 30343a 26282c
"""

_DRAWN = """
sky: 9adcf8 c8ecff fff0c8; cloud: ffffff; road: 8c8c94 a0a0a8; patch: 78787f; parking: b4b4bc;
sidewalk: e0d4bc f0e4cc; curb: fff8e8; terrain: a0d860 b8e078; ground: d0c8b8;
facade: f8a070 f8d070 a0c8e8 f0b8c8 c8e0a0 e88878 d8c0e8; roof: c85040 7868a0; door: 8c5030 4070a0;
wall: d8a878 e0c0a0; wall cap: f0e0c8; fence: c89858 f4f4f4; fence post: 8c6030;
pole: 606880 404858; light box: 303038 f0c830; crown: 58b848 70c850; crown light: 98dc68;
crown dark: 389038; hedge: 48a848; trunk: 8c5c30; far crown: 90d088; far facade: c8d0e0 e0d0c0;
top: f04848 4880f0 f8d848 48c078 f080b0 ffffff; trousers: 3850a0 504840 404048; bag: b06030;
car body: f04040 4090f0 f8d030 58c858 f8f8f8 f088b0; cargo: f8f0e0 f0a050; cab: f05050 4888e0;
bus body: f8c020 f05848; stripe: ffffff; tram body: f05050 50b0a0; moto body: e83838 3868d8;
bike frame: e04040 3080d0 202020; glass: b8e8f8 90d0f0; tyre: 282830; static: 70a078;
dynamic: e078b0; ego: 404858
"""

_FALL = """
crown: c87828 d89c34 a85a24 b8882c; crown light: e0b040 d88c30; crown dark: 8a4a20;
hedge: 9a7830 7c7a34; terrain: a89048 98803c b08838; far crown: b08048 a87038; sky: b4c4d4 c8ccd0;
trunk: 4c3828
"""

_WINTER = """
sky: c4ccd6 b4bcc8; cloud: d8dce4; terrain: eef0f6 e6eaf2; sidewalk: d8dce4 ccd2dc; curb: e8ecf2;
road: 8c9098 7c8088 a4a8b0; patch: b8bcc4; parking: c8ccd4; lane: b0b4ba; roof: eef0f6;
wall cap: f0f2f8; crown: c4c8ce b8bcc4; crown light: ccd0d6; crown dark: a8a8ac;
hedge: c8ccd0 b8bab8; far crown: a4a6ac; ground: e0e4ea; trunk: 3c3430
"""

_SUMMER = """
facade: d0c0a0 c0a890 d8d0c0 b89880 a8a8a8 c8b8b0; car body: c03030 3050a0 d8d8d8 303030 808488
"""


def _palette(*texts: str) -> np.ndarray:
    """(parts, CHOICES, 3) float32 from "part: hex hex …; part: …"; later texts override earlier."""
    table = np.full((len(PARTS), CHOICES, 3), 128.0, np.float32)
    for entry in ";".join(texts).split(";"):
        part, words = entry.strip().split(": ")
        colors = [tuple(bytes.fromhex(word)) for word in words.split()]
        table[PART_INDEX[part]] = [colors[k % len(colors)] for k in range(CHOICES)]
    return table


PALETTES = {
    "game": _palette(_COMMON, _GAME),
    "synthia": _palette(_COMMON, _SYNTHIA),
    "real": _palette(_COMMON, _REAL),
    "summer": _palette(_COMMON, _GAME, _SUMMER),
    "fall": _palette(_COMMON, _GAME, _SUMMER, _FALL),
    "winter": _palette(_COMMON, _GAME, _SUMMER, _WINTER),
    "drawn": _palette(_COMMON, _GAME, _DRAWN),
}
