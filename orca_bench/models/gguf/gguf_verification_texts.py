"""The texts on which a GGUF file's import is compared with llama.cpp: instructions with their responses, in plain English.

They are of the kind that language models are tuned on and used for. The Orca paper's system messages are not used: on them
llama.cpp's rounding of activations to 8 bits turns a model's predictions four times as far as on responses (README.md), and a
fault is as much harder to see. Written for orca-bench.
"""

from __future__ import annotations

VERIFICATION_TEXTS = (
    "Give three tips for keeping houseplants healthy.\n"
    "1. Water only when the top of the soil is dry, because roots that stand in water rot quickly. 2. Choose a place that fits "
    "the plant: a cactus wants a sunny window, while ferns prefer shade and moist air. 3. Turn the pot a little every week, so "
    "that the stem grows straight, and remove leaves that have turned yellow.",
    "Explain why the sky is blue.\n"
    "Sunlight is a mixture of all colors. When it passes through the atmosphere, it meets molecules of nitrogen and oxygen, "
    "which scatter short wavelengths much more strongly than long ones. Blue light therefore reaches our eyes from every part "
    "of the sky, while red light travels straight on. In the evening the path is longer, most of the blue is lost on the way, "
    "and the sun looks red.",
    "Write a short story about a lighthouse keeper.\n"
    "Old Martin had kept the light for forty years when the letter came. From next spring on, a machine would do his work. He "
    "read it twice, put it under the teapot and climbed the stairs, as he did every evening. That night a storm rose, and a "
    "small fishing boat lost its way between the rocks. Martin rang the bell until his hands were sore. At dawn the fishermen "
    "knocked on his door, wet and laughing, and asked whether there was any coffee left.",
    "How can I learn to cook at home when I have little time?\n"
    "Start with five simple dishes that you like, and cook each of them until you no longer need the recipe. Buy vegetables "
    "that keep for a week, such as carrots, cabbage and onions, and cook rice or beans in advance. Use one pan wherever you "
    "can, since washing up often takes longer than cooking. After a month, replace one of the dishes by a new one.",
    "Classify the animals as mammals, birds or fish: salmon, eagle, dolphin, penguin, bat, shark.\n"
    "Mammals: dolphin, bat. Birds: eagle, penguin. Fish: salmon, shark. The dolphin lives in the sea, but it breathes air and "
    "feeds its young with milk, so it is a mammal. The bat can fly, but it has fur and no feathers.",
    "A train travels 180 kilometers in two hours. How far does it travel in five hours at the same speed?\n"
    "In one hour the train travels 180 / 2 = 90 kilometers. In five hours it travels 5 * 90 = 450 kilometers. The answer is "
    "450 kilometers.",
    "Summarize the main causes of the French Revolution.\n"
    "By 1789 the French state was deeply in debt, partly because of its wars, and the nobility and the clergy paid hardly any "
    "taxes. Bad harvests had made bread expensive. At the same time, writers of the Enlightenment questioned the power of the "
    "king and the privileges of birth. When the king called the Estates General to raise new taxes, the representatives of "
    "the people demanded a constitution instead.",
)
