"""The types of weights that GGUF files and imported folders can have, by name; light, because the command line lists them."""

#: The types that can be written, by the name that a user types, and llama.cpp's number of a file that is mostly of it.
FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"} | {
    name: f"MOSTLY_{name.upper()}" for name in ("q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
}
#: The dtypes of an imported folder; `auto` is the smallest that holds the file's weights exactly.
FOLDER_DTYPES = ("auto", "float32", "bfloat16", "float16")
