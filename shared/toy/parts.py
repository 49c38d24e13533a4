"""The kinds of painted surface: what a style gives a colour and a texture to."""

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
