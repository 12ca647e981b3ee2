"""What is true in the mini corpus: animals, things, scripts of everyday work, and the names of people."""

PEOPLE = ("Ann", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jon", "Kim", "Leo")
ITEMS = ("pens", "cups", "apples", "books", "coins", "stones", "shells", "nuts", "hats", "stamps")

#: animal: (home, food, colour, number of legs)
ANIMALS = {
    "frog": ("pond", "flies", "green", "four"),
    "bee": ("hive", "nectar", "yellow", "six"),
    "spider": ("web", "insects", "black", "eight"),
    "cow": ("barn", "grass", "brown", "four"),
    "bear": ("cave", "honey", "brown", "four"),
    "hen": ("coop", "corn", "white", "two"),
    "rabbit": ("burrow", "carrots", "grey", "four"),
    "horse": ("stable", "hay", "black", "four"),
    "squirrel": ("tree", "nuts", "red", "four"),
    "camel": ("desert", "thorns", "brown", "four"),
    "monkey": ("jungle", "bananas", "brown", "four"),
    "mole": ("tunnel", "worms", "grey", "four"),
    "duck": ("lake", "weeds", "white", "two"),
    "seal": ("ice", "fish", "grey", "none"),
    "snake": ("rocks", "mice", "green", "none"),
    "goat": ("hills", "leaves", "white", "four"),
}

#: thing: (colour, where it is found)
THINGS = {
    "coal": ("black", "a mine"),
    "snow": ("white", "the mountains"),
    "grass": ("green", "a meadow"),
    "blood": ("red", "the body"),
    "the sky": ("blue", "the air"),
    "a lemon": ("yellow", "a fruit bowl"),
    "a plum": ("purple", "an orchard"),
    "ash": ("grey", "a fireplace"),
    "bark": ("brown", "a forest"),
    "a pumpkin": ("orange", "a field"),
}

#: activity: its steps in order, each without the person at the beginning
SCRIPTS = {
    "Making tea": ("fills the kettle with water", "boils the water", "pours it over the leaves", "drinks the hot tea"),
    "Baking bread": (
        "mixes flour and water",
        "kneads the dough",
        "puts the dough into the oven",
        "takes out the warm loaf",
    ),
    "Washing a car": ("parks the car outside", "sprays it with the hose", "rubs it with soap", "dries it with a cloth"),
    "Planting a tree": (
        "digs a deep hole",
        "sets the young tree in it",
        "fills the hole with soil",
        "waters the roots",
    ),
    "Painting a wall": ("covers the floor", "opens the paint", "rolls the colour on the wall", "cleans the roller"),
    "Writing a letter": ("takes a sheet of paper", "writes the words", "folds the page", "seals it in an envelope"),
    "Going fishing": ("walks to the river", "hooks a worm", "throws out the line", "pulls in a big trout"),
    "Mending a tyre": ("lifts the bicycle", "takes off the wheel", "glues a patch on the tube", "pumps up the tyre"),
    "Cooking soup": ("chops the onions", "fries them in butter", "adds stock and beans", "serves the soup in bowls"),
    "Flying a kite": ("waits for the wind", "unrolls the string", "runs across the meadow", "watches the kite climb"),
    "Climbing a hill": ("ties the boots", "follows the steep path", "rests on a rock", "looks down from the top"),
    "Doing laundry": ("sorts the clothes", "loads the machine", "hangs the shirts on the line", "irons them flat"),
}

#: container sentences: what goes in, and what it goes into
GOODS = (
    "trophy", "lamp", "cake", "vase", "drum", "clock", "statue", "globe", "pillow", "melon", "guitar", "kettle", "puppet",
    "mirror", "ladder", "carpet",
)  # fmt: skip
CONTAINERS = (
    "box", "bag", "case", "drawer", "chest", "basket", "crate", "sack", "trunk", "bucket", "barrel", "cart", "locker",
    "pocket", "cupboard", "wagon",
)  # fmt: skip
