"""The tables and the dishes, as data over the shapes; not auto-formatted, so that a part keeps to one line."""

from functools import partial

from pyimagesearch.preparation.sample.shapes import Group, Part, Shape, arc, box, oval, points, strip

flat = partial(Shape, puff=0)
slab = partial(Shape, puff=0.06, depth=0.25)
hollow = partial(Shape, puff=0.15, depth=-0.4)
over = partial(Group, fill=True, swing=180)  # scattered all over
standing = partial(Group, upright=True, swing=20)  # seen from the side


def some(part: Part, size: float = 1.0) -> list:
    """One, two, three or four of a part, smaller the more there are."""
    layouts = ((1, 0.05, 1.0), (2, 0.45, 0.75), (3, 0.5, 0.65), (4, 0.58, 0.58))
    return [Group(part, oval(radius), count, size=size * share, swing=90) for count, radius, share in layouts]


# fmt: off
CHINA = "#f2f2ee #ecf0f4 #f6f0e2 #7a9ebe #40505e #c47860 #96b296"
CLOTH = "#c43a38 #466aa8 #548c62 #d6a046 #805c96 #606874"
PALE = "#d8908c #92aad0 #9cc2a6 #e8c88c #b49cc4 #a6acb4"
LEAF = "#408430 #54983a #306a2e"
CREAM = "#fcf6e8"
WIDE = points("0,-300 0,300")
STRIPES = Group(flat(box(7, .14)), WIDE, (14, 26))
TABLES = [
    [Group((Group(flat(box(7, .6)), WIDE, 11, wood), Group(flat(box(7, .01), .88), WIDE, 140)), tint=wood, swing=90)
     for wood in ("#966440", "#704a30", "#c49a6c", "#5c3e2e", "#b0805c")],
    Group((flat(box(7, 7), "#f0ece4"), STRIPES, [(), Group(STRIPES, turn=90)]), tint=PALE, swing=90),
    slab(box(7, 7), "#464a50 #cecac4 #6e868c #94a8a0 #aa96a0 #343e54 #e0d0b8", rough=.06)]
RIM = [flat(strip(arc(0, 360, 1.04), .03), CLOTH), ()]
PLATE = Group((slab(oval(1.12)), RIM, hollow(oval(.8), .97, depth=-.2)), tint=CHINA)
BOWL = Group((slab(oval(1.05), depth=.35), hollow(oval(.95), .72)), tint=f"{CHINA} {CLOTH}")
PAN = Group((slab(box(1.4, .24, 1.5)), Shape(oval(1.12), 1.25, .08), hollow(oval(1))), tint="#303034 #3e3836")
BOARD = Group((
    slab(box(.9, .32, 1)), slab(points("-115,-80 110,-80 110,80 -115,80", .06), rough=.03), flat(oval(.06, x=1.28), .4),
    Group(flat(box(2.1, .012), .86), points("0,-75 0,75"), (5, 9))), tint="#cea470 #aa784e #e2be8c")
SERVED = [PLATE, BOARD, ()]
COOKED = [PLATE, BOARD, PAN]
STICKS = Group(slab(box(2.5, .07)), points("10,30 15,46"), tint="#963c28 #3c2c28 #c49664", turn=30, swing=3)
LEAVES = over((slab(strip(points("-20,0 0,0 20,0"), 0, .2, 0), LEAF), flat(box(.3, .015), "#96be6e")), oval(.25), 3)
LEMON = (
    slab(oval(.24), "#fad228"), flat(oval(.21), "#fdf6c8"),
    Group(flat(points("2,0 18,-6 19,0 18,6"), "#fce25a"), oval(.01), 8, outward=True))
CHERRY = (flat(strip(arc(180, 260, .3) - (-.3, 0), .03), "#5a7828"), Shape(oval(.14), "#ce1628", gloss=.7))
SPRINKLE = flat(box(.1, .04), "#ffe63c #50beff #ffffff #78dc5a #f0465a")
SPECK = flat(oval(.02, .014), "#e2be82 #faecd2")

CRUST = partial(Shape, colour="#ba7030 #a65e28 #ca8640", depth=.5, rough=.1)
CUT = (flat(oval(.36, .075), "#783e1a"), slab(oval(.33, .055), "#f0d096", rough=.1))
SLICE = points("50,60 50,-10 68,-30 50,-64 0,-70 -50,-64 -68,-30 -50,-10 -50,60", .2)
HOLE = hollow(oval(.1), .74)
FROSTING = "#f484a6 #faa8c4 #6e3e28 #faf0e2 #a0e2c8 #bea0e6"
EGG = points("-40,-26 10,-38 50,-24 62,0 50,24 10,38 -40,26 -50,0", .25)
YOLK = "#febe14 #faa210 #ffce32"
HALF = (slab(EGG, "#fcfbf6"), Shape(oval(.24, .24, .03), YOLK, gloss=.5))
CHIP = Group((slab(box(.8, .17)), Group(flat(box(.04, .16), .74), points("-38,0 38,0"))), tint="#f4c454 #ecb23e")
STEAK = points("-95,10 -75,-50 -10,-55 30,-70 95,-35 90,30 30,60 -50,60", .25)
LINK = arc(58, 122, 1.4) - (0, 1.4)
NOODLE = [Shape(strip(arc(0, sweep, .42), .07), "#f6d470 #f0c85c #ffe08c", depth=.6) for sweep in (70, 110, 150)]
RINGS = over(flat(strip(arc(0, 360, .07), .03), "#6eb446 #50963c"), oval(.6), 9)
SAUCE = Shape(oval(.42), "#c42816 #b0321a #d2421e", .2, rough=.2, gloss=.3, wobble=.12)
GRAIN = Shape(strip(points("-8,0 0,0 8,0"), .03, .065, .03), depth=.5)
ONIGIRI = points("-75,70 -15,-70 15,-70 75,70", .25)
FISH = strip(points("-110,0 -90,0 -50,0 0,0 45,0 80,0 100,0"), .04, .45, .8, .86, .6, .24, .16)
EYE = (flat(oval(.085), CREAM), flat(oval(.05), "#141418"))
DUMPLING = slab(points("-20,2 -10,-13 10,-13 20,2 0,12", .25), "#eed29c")
DISC = (slab(oval(.12), "#f47e22"), flat(oval(.05), "#faa046"))
PETAL = flat(points("0,-7 27,0 0,7"), "#3c7c2c")
APPLE = points("0,-38 35,-50 60,-15 45,42 12,55 0,48 -12,55 -45,42 -60,-15 -35,-50", .25)
PLANTS = [
    (Group(Shape(box(.4, .05), LEAF), points("70,-6 72,6"), swing=20),  # a carrot
     Shape(strip(points("-85,0 -40,0 30,0 58,0"), .02, .24, .42, .36), "#f27a1e #e86818", gloss=.15)),
    (Shape(box(.3, .6, 0, .32), "#96b860"), Group(  # broccoli
        Shape(oval(.27), "#387a30 #2c682c", rough=.3, wobble=.06), points("-34,-5 34,-5 0,-2 -20,-32 22,-32 0,-20"))),
    (Shape(APPLE, "#ce1e26 #82ba32 #de3c2c", gloss=.45), Group(LEAVES, points("18,-58"), size=.8),
     flat(strip(arc(180, 250, .3) - (-.3, .35), .05), "#5e3e24")),
    (Shape(oval(.5), "#dc2c1e #e64624", gloss=.5, wobble=.02), Group(PETAL, oval(.01), 5, outward=True)),  # a tomato
    (Shape(points("-20,-36 20,-36 42,-10 12,48 -12,48 -42,-10", .25), "#d81c2c", gloss=.35),  # a strawberry
     over(flat(oval(.016, .026), "#fad66e"), oval(.28, .32), 18), Group(PETAL, oval(.01, .01, 0, -.34), 7, swing=180)),
    (Shape(strip(arc(15, 165, .75) - (0, .6), .08, .3, .36, .3, .08), "#fad23c #f0c832"),  # a banana
     Group(flat(box(.1, .1), "#644c1e"), points("74,-44 -74,-44")))]
DISHES = {
    ("Bread", "loaf"): (SERVED, CRUST(oval(1, .6), wobble=.02),
        Group(CUT, points("-70,0 70,0"), (3, 4), turn=110), over(SPECK, oval(.9, .5), 90)),
    ("Bread", "baguettes"): (SERVED, Group(
        (CRUST(strip(points("-110,0 -90,0 0,0 90,0 110,0"), .1, .34, .4, .34, .1)),
         Group(CUT, points("-95,0 95,0"), (5, 6), size=.48, turn=40)), points("0,-75 0,75"), (2, 3), swing=6)),
    ("Bread", "slices"): (SERVED, over(SPECK, oval(1.1), 20), Group((
        slab(SLICE, "#a86230"), slab(SLICE * .89, "#f6e2b6 #e6c896", rough=.03),
        over(flat(oval(.03, .02), "#d8b686"), oval(.5), 35)), points("-75,0 75,0"), (2, 3), swing=15)),
    ("Dairy_product", "cheese"): (SERVED, standing((
        slab(points("-100,12 95,2 95,57 -100,67"), .93), slab(points("-100,12 45,-52 95,2"), 1.06),
        flat(strip(points("45,-52 95,2 95,57"), .05), "#d6822c"), Group(HOLE, points("-85,38 90,30"), (4, 6)),
        Group(HOLE, points("-30,-3 30,-32 42,-6"), size=(.5, .8))), tint="#fccc46 #f6b636 #ffd868")),
    ("Dairy_product", "camembert"): (SERVED, Group((
        slab(oval(.85)), flat(strip(points("-5,0 83,0"), 0, .9), "#f8cc48"), slab(strip(points("38,0 115,0"), 0, .6))),
        tint="#f6f0de")),
    ("Dessert", "cake"): (PLATE, standing((
        slab(box(1.55, .9, -.07, .15), "#ecbe74 #78462c #c43c3c", rough=.1),
        Group(slab(box(1.56, .12), CREAM), points("-7,0 -7,30")), slab(points("-95,-26 20,-72 78,-50 78,-26", .08)),
        slab(box(.18, 1.1, .72, .05)), Group(slab(oval(.085, .15)), points("-90,-22 80,-22"), 8, size=(.7, 1.3)),
        Shape(oval(.2, .12, .1, -.56), CREAM), Group(CHERRY, points("10,-68"))), tint=FROSTING)),
    ("Dessert", "donuts"): ([PLATE, ()], some(Group((
        Shape(oval(1), "#c48848 #d69e5c"), Shape(oval(.86), gloss=.25, wobble=.04),
        *(Group(SPRINKLE, oval(radius), 17, swing=180) for radius in (.48, .6, .73)),
        hollow(oval(.34), "#c48848"), hollow(oval(.26), "#46322a")), tint=FROSTING), .85)),
    ("Egg", "fried"): ([PAN, PLATE], some((
        slab(oval(.86, .76), "#fcfaf4", puff=.2, wobble=.09), over(flat(oval(.016), "#3c3228"), oval(.6), 18),
        Shape(oval(.33, .33, .06, .04), YOLK, .33, gloss=.5)), 1.05)),
    ("Egg", "boiled"): (SERVED, Group(
        [HALF, HALF, HALF, Shape(EGG, "#e2b082 #f0d6b4 #ce966a", gloss=.2)], oval(.6), (3, 5), swing=20, outward=True)),
    ("Fried_food", "carton of fries"): standing((
        slab(points("-62,-20 62,-20 55,30 -55,30"), .6),
        *(Group(CHIP, points(f"-58,{y} 58,{y}"), 9, turn=90, swing=14, size=(1.1, 1.5)) for y in (-40, -20)),
        slab(points("66,-12 50,98 -50,98 -66,-12 -40,6 0,12 40,6")),
        Group(flat(box(.09, .65), "#faf4ee"), points("-32,64 0,64 32,64"))), tint="#ce2024 #de3c28 #2850a0"),
    ("Fried_food", "plate of fries"): (PLATE, over(CHIP, oval(.75), (28, 40), size=(.8, 1.1)), Group(
        (slab(oval(.36), CREAM), hollow(oval(.29), "#be1c18 #faf0ce", gloss=.3)), points("50,50"))),
    ("Fried_food", "drumsticks"): ([PLATE, BOARD], Group((
        Shape(box(.6, .15, .7), CREAM), Group(Shape(oval(.1), CREAM), points("98,-7 98,7")),
        Shape(strip(points("-85,0 -50,0 10,0 75,0"), .4, .88, .6, .24), "#ce7e26 #be681e #de9638", rough=.2, gloss=.15),
        over(flat(oval(.03, .022), "#f0ba5a #964c16"), oval(.6, .28), 45)), points("0,-70 0,70"), (2, 3), swing=12)),
    ("Meat", "grilled steak"): (COOKED, Group((
        slab(STEAK, "#e8c69c #d8b082", wobble=.03), slab(STEAK * .9, rough=.14, gloss=.12, wobble=.02),
        Group(flat(box(.08, .66), .36), points("-60,0 65,0"), (5, 7), turn=15), Group(LEAVES, points("55,50"))),
        tint="#7e3e2c #6c3226 #904a36")),
    ("Meat", "sausages"): (COOKED, Group(
        (Shape(strip(LINK, .06, .3, .34, .34, .34, .3, .06), gloss=.6), Group(flat(box(.05, .18), .5), LINK[8:-8], 4)),
        points("0,-75 0,80"), (3, 4), tint="#963e28 #aa4e32 #803022")),
    ("Noodles/Pasta", "noodles"): (
        [PLATE, BOWL], Shape(oval(.86), "#c49238", .2, rough=.15), over(NOODLE, oval(.5), 60, size=1.1),
        [(SAUCE, Group(LEAVES, points("30,30"))), (RINGS, STICKS)]),
    ("Rice", "rice"): (
        [BOWL, PLATE], Group((Shape(oval(.86), .8), over(GRAIN, oval(.8), 170, size=1.15)), tint="#faf8f0 #f0ecdc"),
        [Shape(oval(.17), "#bc283e", gloss=.3, rough=.1), over(flat(oval(.03, .015), "#28221e"), oval(.7), 30),
         over([Shape(oval(.06), "#5aaa3c", gloss=.2), slab(box(.11, .11), "#f0781e")], oval(.7), 26)], [STICKS, ()]),
    ("Rice", "onigiri"): ([PLATE, BOARD], Group((
        Shape(ONIGIRI * 1.08, .92), over(GRAIN, ONIGIRI * .9, 90), slab(box(.6, .62, 0, .42), "#1e2c24", rough=.15)),
        oval(.52), (2, 3), tint="#faf8f0", size=.72, swing=40)),
    ("Seafood", "fish"): ([PLATE, BOARD], Group(LEMON, points("-50,48 0,50 42,-46")), Group((
        slab(points("80,0 122,-42 106,0 122,42", .1), .76), slab(points("-30,-25 10,-62 50,-50 45,-15", .2), .74),
        Shape(FISH, gloss=.35), Group(flat(strip(arc(-60, 60, .08), .022), .68), oval(.48, .26, .12), 45, fill=True),
        flat(strip(arc(-50, 50, .4) - (.85, 0), .035), .6), Group(EYE, points("-80,-8"))),
        tint="#849eb2 #688caa #7ca4b8 #d08a6a")),
    ("Seafood", "prawns"): (COOKED, Group(LEMON, points("60,-55")), some(Group((
        Group(slab(strip(points("0,0 20,0 34,0"), .08, .24, .1), .86), points("-36,-34"), 3, turn=210, swing=40),
        Group(flat(box(.24, .03), .78), arc(-30, 80, .26), 6, outward=True),
        *(flat(strip(arc(110, 200, radius), .025), .75) for radius in (.7, .85)),
        Shape(strip(arc(-137, 105, .5), .14, .32, .4, .42, .34, .06), depth=.5, gloss=.3),
        Group((flat(box(.36, .05), 1.25), flat(box(.36, .02, 0, .03), .76)), arc(-125, 60, .5), 8, outward=True),
        Group(EYE, points("-2,57"), size=.6)), tint="#f88458 #f07048 #fc966e"), 1.1)),
    ("Soup", "cream soup"): (
        BOWL, hollow(oval(.9), "#d03e1e #e68c22 #82a038 #a8224e"), flat(strip(arc(60, 700, .05, .6), .06), "#fceed6"),
        over(slab(box(.16, .16), "#d6a056", rough=.12), oval(.55), 6), over(flat(oval(.03, .016), LEAF), oval(.7), 20)),
    ("Soup", "broth"): (
        BOWL, hollow(oval(.9), "#de9e2c #ce7c24 #b43034 #e2b246"), over([DISC, DUMPLING], oval(.68), (8, 12)), RINGS),
    ("Vegetable/Fruit", "harvest"): (SERVED, Group(PLANTS, oval(.62), (4, 6), size=(.55, .7), swing=40)),
    ("Vegetable/Fruit", "one kind"): (SERVED, [some(plant) for plant in PLANTS])}
